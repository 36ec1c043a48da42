"""Where the points of all clouds are: the divergence of two sets' occupied voxels."""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.evaluation.columns import Column

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

VOXELS = 28  # across; that of Achlioptas et al. (2018)
COLUMNS = (Column("JSD x100", "JSD ×10²", 2, "low"),)


def occupied(clouds: np.ndarray, side: float) -> np.ndarray:
    """Share of all points [n, P, 3] in each voxel of the cube [-side, side]^3, [VOXELS ** 3].

    Points outside count in the nearest voxel.
    """
    places = np.floor((clouds / side + 1) / 2 * VOXELS).clip(0, VOXELS - 1).astype(np.int64)
    flat = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), (VOXELS,) * 3)
    return np.bincount(flat.ravel(), minlength=VOXELS**3) / flat.size


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions in bits: 0 alike, 1 disjoint."""

    def entropy(some: np.ndarray) -> float:
        some = some[some > 0]
        return float(-(some * np.log2(some)).sum())

    return max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """JSD of the points of valid samples and of references, in the cube that holds these."""
    if not samples.clouds:
        return {}
    rows, references = samples.chosen(known)
    some, reference = samples.compared[rows], known.reference[references]
    some, side = some[samples.valid[rows]], float(np.abs(known.reference).max())
    if not len(some):
        return {"JSD x100": float("nan")}
    return {"JSD x100": 100 * divergence(occupied(some, side), occupied(reference, side))}
