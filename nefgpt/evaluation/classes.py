"""Whether samples show the class they were made for."""

from typing import TYPE_CHECKING

from nefgpt.evaluation.columns import Column

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("accuracy %", "accuracy %", best="high"),
    Column("cross-entropy", "cross-entropy", 2, "low"),
)


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Accuracy of a classifier of real images and its cross-entropy in nats, where there is one."""
    if known.classifier is None:
        return {}
    from nefgpt.evaluation.classifier import class_scores  # loads PyTorch

    return class_scores(samples.compared, samples.table, known.classifier)[0]
