"""How far samples are from the training set."""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.evaluation.columns import Column

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("copies %", "copies %", best="low"),
    Column("novelty", "novelty", 2),
)


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Share of copies, nearer to a training signal than any unseen real one is, and novelty.

    Novelty is the median distance to the nearest training signal; 1 is that of unseen real ones.
    """
    if samples.distance is None:
        return {}
    copies = samples.distance < known.nearest_train.min()
    unseen, valid = float(np.median(known.nearest_train)), samples.valid
    seen = float(np.median(samples.distance[valid])) if valid.any() else float("nan")
    return {
        "copies %": 100 * float(copies.mean()),
        "novelty": seen / unseen if unseen else float("nan"),
    }
