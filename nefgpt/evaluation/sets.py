"""Metrics of sets, from the distances between their members.

MMD and COV after Achlioptas et al. (2018), 1-NNA after Yang et al. (PointFlow, 2019), as
docs/metrics.md has them.
"""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.pairs import Pairs

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("MMD x100", "MMD ×10²", 2, "low"),
    Column("COV %", "COV %", best="high"),
    Column("1-NNA %", "1-NNA %", best=50.0),
    Column("valid %", "valid %", best="high"),
)


def mmd(generated_to_reference: np.ndarray) -> float:
    """Minimum matching distance from D [n_generated, n_reference]; lower is better."""
    return float(generated_to_reference.min(axis=0).mean())


def coverage(generated_to_reference: np.ndarray) -> float:
    """Share of references that are some sample's nearest, in percent; invalid rows cover none."""
    valid = np.isfinite(generated_to_reference).all(axis=1)
    nearest = generated_to_reference[valid].argmin(axis=1)
    return 100 * len(np.unique(nearest)) / generated_to_reference.shape[1]


def one_nna(gg: np.ndarray, gr: np.ndarray, rr: np.ndarray) -> float:
    """Leave-one-out 1-nearest-neighbour accuracy in percent; 50 is best.

    A tie between neighbours of both sets counts half. A sample at distance zero of a reference
    is the same cloud twice, and leaving one out leaves out its twin, so that a set scores 50 %
    against itself. An invalid sample is told apart from a real shape at sight, so it counts as
    classified correctly.

    Parameters
    ----------
    gg, gr, rr : [n, n] distances among samples, samples to references, among references.
    """
    if gr.shape[0] != gr.shape[1]:
        raise InputError(f"1-NNA needs sets of equal size, got {gr.shape[0]} and {gr.shape[1]}")
    gg, rr = gg.copy(), rr.copy()
    valid = np.isfinite(gr).any(axis=1)
    gr = np.where(gr == 0, np.inf, gr)
    np.fill_diagonal(gg, np.inf)
    np.fill_diagonal(rr, np.inf)
    same = np.concatenate([gg.min(axis=1), rr.min(axis=1)])
    other = np.concatenate([gr.min(axis=1), gr.min(axis=0)])
    score = np.where(same < other, 1.0, np.where(same > other, 0.0, 0.5))
    score[: len(gg)][~valid] = 1.0
    return float(100 * score.mean())


def of(pairs: Pairs) -> dict[str, float]:
    """MMD, COV and 1-NNA by their column; MMD is NaN without a valid sample."""
    nearest = mmd(pairs.gr)
    return {
        "MMD x100": 100 * nearest if np.isfinite(nearest) else float("nan"),
        "COV %": coverage(pairs.gr),
        "1-NNA %": one_nna(*pairs),
    }


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """MMD, COV, 1-NNA of the pairs that are compared, and the share of valid samples."""
    valid = samples.valid
    return of(samples.pairs(known)) | {"valid %": 100 * float(valid.mean())}
