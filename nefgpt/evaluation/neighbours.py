"""Precision and recall by nearest neighbours, density and coverage.

Precision and recall after Kynkäänniemi et al. (2019), with the third neighbour; density and
coverage after Naeem et al. (2020), with the fifth; here from the distances between signals
instead of between a network's features.
"""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.pairs import Pairs

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

K_PRECISION, K_DENSITY = 3, 5
COLUMNS = (
    Column("precision %", "precision %", best="high"),
    Column("recall %", "recall %", best="high"),
    Column("density", "density", 2, "high"),
    Column("coverage %", "coverage %", best="high"),
)


def radii(among: np.ndarray, k: int) -> np.ndarray:
    """Distance of each of a set, from D [n, n], to its k-th nearest other one, float64 [n].

    -1, so that nothing lies within, of one that has fewer others or no signal.
    """
    if len(among) <= k:
        return np.full(len(among), -1.0)
    others = among + np.diag(np.full(len(among), np.inf))
    found = np.partition(others, k - 1, axis=1)[:, k - 1]
    return np.where(np.isfinite(found), found, -1.0)


def of(pairs: Pairs) -> dict[str, float]:
    """The measures by their column.

    Precision: share of samples within the radius of some reference. Recall: share of references
    within the radius of some sample. Density: of the radii of references that a sample is
    expected to lie in, how many it lies in; 1 for samples like the references. Coverage: share
    of references with a sample within their radius.
    """
    inside = pairs.gr <= radii(pairs.rr, K_PRECISION)
    held = pairs.gr <= radii(pairs.gg, K_PRECISION)[:, None]
    near = pairs.gr <= radii(pairs.rr, K_DENSITY)
    return {
        "precision %": 100 * float(inside.any(axis=1).mean()),
        "recall %": 100 * float(held.any(axis=0).mean()),
        "density": float(near.sum(axis=1).mean()) / K_DENSITY,
        "coverage %": 100 * float(near.any(axis=0).mean()),
    }


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Precision, recall, density and coverage; none of sets too small for a fifth neighbour."""
    pairs = samples.pairs(known)
    return of(pairs) if len(pairs.rr) > K_DENSITY else {}
