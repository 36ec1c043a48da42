"""Chamfer distances of point clouds, and how many points of one lie near the other."""

import functools

import numpy as np
from tqdm import tqdm

from nefgpt.compiled import compiled, in_threads
from nefgpt.vectors import CLOSE, LANES, nearest

_FAR = np.float32(3e38)
# No sum is regrouped, so that both directions of a pair agree to the last bit.
_exactly = functools.partial(compiled, fastmath={"nnan", "nsz"})


def _columns(clouds: np.ndarray) -> np.ndarray:
    """Clouds [n, P, d] as float32 [n, 3, P or more]: missing coordinates zero, last point again."""
    n, n_points, dim = clouds.shape
    result = np.zeros((n, 3, -(-n_points // LANES) * LANES), np.float32)
    result[:, :dim, :n_points] = clouds.transpose(0, 2, 1)
    result[:, :dim, n_points:] = clouds[:, -1, :, None]
    return result


@_exactly
def _both_nearest(a, b, to_a, to_b):
    """Squared distance of every point of `a` [3, N] to the nearest of `b` [3, M], and the reverse.

    All distances, each once for both: with vector registers that is faster than a search in
    trees for clouds of this size.
    """
    to_b[:] = _FAR
    for i in range(0, a.shape[1], CLOSE):
        nearest(a, a.shape[1], i, b, b.shape[1], to_a, to_b)


@_exactly
def _chamfers(a, n, b, m, result):
    """Chamfer distances of one cloud [3, N], of n points, to each of [k, 3, M], of m points."""
    to_a, to_b = np.empty(a.shape[1], np.float32), np.empty(b.shape[2], np.float32)
    for j in range(len(b)):
        _both_nearest(a, b[j], to_a, to_b)
        result[j] = to_a[:n].astype(np.float64).mean() + to_b[:m].astype(np.float64).mean()


def both_nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances of points `a` [N, d], d <= 3, to the nearest of `b` [M, d]; the reverse.

    Returns
    -------
    float32 [N] and [M].
    """
    first, second = _columns(a[None])[0], _columns(b[None])[0]
    to_a, to_b = (np.empty(cloud.shape[1], np.float32) for cloud in (first, second))
    _both_nearest(first, second, to_a, to_b)
    return to_a[: len(a)], to_b[: len(b)]


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared nearest distance from `a` [N, d] to `b` [M, d], d <= 3, plus the reverse."""
    return float(sum(part.mean(dtype=np.float64) for part in both_nearest(a, b)))


def chamfer_matrix(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of Chamfer distances.

    Parameters
    ----------
    a, b : float32 [n, P, d] and [m, P, d], d <= 3; `b` None compares `a` with itself. A cloud of
        NaN (a sample without a surface) is infinitely far from everything.

    Returns
    -------
    float64 [n, m]
    """
    columns = _columns(a)
    others = columns if b is None else _columns(b)
    n, m = a.shape[1], (a if b is None else b).shape[1]
    result = np.empty((len(a), len(others)))
    with tqdm(total=len(a), desc="chamfer", unit="cloud", mininterval=1) as bar:
        for i in range(len(a)):
            first = i if b is None else 0

            def some(part: slice, i: int = i, first: int = first) -> None:
                rest, found = others[first:][part], result[i, first:][part]
                _chamfers(columns[i], n, rest, m, found)

            in_threads(some, len(others) - first)
            bar.update()
            if b is None:
                result[i:, i] = result[i, i:]
    result[~np.isfinite(columns).all(axis=(1, 2))] = np.inf
    result[:, ~np.isfinite(others).all(axis=(1, 2))] = np.inf
    if b is None:
        np.fill_diagonal(result, 0.0)
    return result


def within(distances: np.ndarray, threshold: float = 0.01) -> float:
    """Share of squared `distances` [N] below that of a distance."""
    return float((distances < threshold**2).mean())


def f_score(a: np.ndarray, b: np.ndarray, threshold: float = 0.01) -> float:
    """Harmonic mean of precision and recall of points `a` [N, d] against `b` [M, d].

    Precision is the share of `a` near `b`, recall that of `b` near `a`. The default distance is
    1 % of the cube's side, in field units. Clouds of one surface score below 1 where their
    points lie further apart than that.
    """
    precision, recall = (within(part, threshold) for part in both_nearest(a, b))
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
