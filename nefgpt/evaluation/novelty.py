"""How far samples are from the training set."""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.evaluation.columns import Column

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("copies %", "copies %", best="low"),
    Column("novelty", "novelty", 2),
    Column("novelty in weights", "novelty in weights", 2),
    Column("duplicates %", "duplicates %", best="low"),
)


def ratio(found: np.ndarray, unseen: np.ndarray) -> float:
    """Median of finite distances, as a share of that of unseen real signals; NaN without."""
    found = found[np.isfinite(found)]
    usual = float(np.median(unseen)) if len(unseen) else 0.0
    return float(np.median(found)) / usual if len(found) and usual else float("nan")


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Share of copies, nearer to a training signal than any unseen real one is, and novelty.

    Novelty is the median distance to the nearest training signal; 1 is that of unseen real ones.
    In weights it is that of a field to the nearest train field; there 1 is that of val fields.
    Duplicates are samples as near to another sample as a copy is to a training signal.
    """
    if samples.distance is None:
        return {}
    closest = known.nearest_train.min()
    found = {
        "copies %": 100 * float((samples.distance < closest).mean()),
        "novelty": ratio(samples.distance, known.nearest_train),
    }
    if samples.apart is not None and known.unseen_fields is not None:
        found["novelty in weights"] = ratio(samples.apart, known.unseen_fields)
    others = samples.pairs(known).gg + np.diag(np.full(len(samples.pairs(known).gg), np.inf))
    found["duplicates %"] = 100 * float((others.min(axis=1) < closest).mean())
    return found
