"""Distances between shapes, and the set metrics built on them.

MMD and COV after Achlioptas et al. (2018), 1-NNA after Yang et al. (PointFlow, 2019), as
DESIGN.md section 3 defines them.
"""

import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from nefgpt.errors import InputError


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared nearest distance from `a` [N, d] to `b` [M, d], plus the reverse."""
    return _chamfer(a, cKDTree(a), b, cKDTree(b))


def _chamfer(a: np.ndarray, tree_a: cKDTree, b: np.ndarray, tree_b: cKDTree) -> float:
    forward, _ = tree_b.query(a)
    backward, _ = tree_a.query(b)
    return float(np.square(forward).mean() + np.square(backward).mean())


def chamfer_matrix(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of Chamfer distances.

    Parameters
    ----------
    a, b : float32 [n, P, d] and [m, P, d]; `b` None compares `a` with itself. A cloud of NaN
        (a sample without a surface) is infinitely far from everything.

    Returns
    -------
    float64 [n, m]
    """
    trees_a = [cKDTree(cloud) if np.isfinite(cloud).all() else None for cloud in a]
    symmetric = b is None
    b = a if b is None else b
    trees_b = (
        trees_a
        if symmetric
        else [cKDTree(cloud) if np.isfinite(cloud).all() else None for cloud in b]
    )
    result = np.full((len(a), len(b)), np.inf)
    for i in tqdm(range(len(a)), desc="chamfer", unit="cloud", mininterval=1):
        for j in range(i + 1 if symmetric else 0, len(b)):
            if trees_a[i] is not None and trees_b[j] is not None:
                result[i, j] = _chamfer(a[i], trees_a[i], b[j], trees_b[j])
                if symmetric:
                    result[j, i] = result[i, j]
    if symmetric:
        np.fill_diagonal(result, 0.0)
    return result


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

    A tie between neighbours of both sets counts half. An invalid sample is told apart from a
    real shape at sight, so it counts as classified correctly.

    Parameters
    ----------
    gg, gr, rr : [n, n] distances among samples, samples to references, among references.
    """
    if gr.shape[0] != gr.shape[1]:
        raise InputError(f"1-NNA needs sets of equal size, got {gr.shape[0]} and {gr.shape[1]}")
    gg, rr = gg.copy(), rr.copy()
    np.fill_diagonal(gg, np.inf)
    np.fill_diagonal(rr, np.inf)
    same = np.concatenate([gg.min(axis=1), rr.min(axis=1)])
    other = np.concatenate([gr.min(axis=1), gr.min(axis=0)])
    score = np.where(same < other, 1.0, np.where(same > other, 0.0, 0.5))
    score[: len(gg)][~np.isfinite(gr).any(axis=1)] = 1.0
    return float(100 * score.mean())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays; 1 when both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def f_score(a: np.ndarray, b: np.ndarray, threshold: float = 0.01) -> float:
    """Harmonic mean of precision and recall at a distance, of points [N, 3] and [M, 3]."""
    precision = (cKDTree(b).query(a)[0] < threshold).mean()
    recall = (cKDTree(a).query(b)[0] < threshold).mean()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0
