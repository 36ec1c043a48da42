"""Chamfer distances of point clouds, and how many points of one lie near the other."""

import functools

import numpy as np
from tqdm import tqdm

from nefgpt.base.compiled import compiled, in_threads
from nefgpt.base.vectors import CLOSE, LANES, nearest

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


@_exactly
def _nearest_clouds(a, n, b, m, order, few, distances):
    """Numbers `few` [k] and `distances` [k] of the clouds [j, 3, M] nearest to one [3, N].

    As soon as a part of a cloud's sum is larger than the k-th distance so far, its rest is left.
    """
    to_a, to_b = np.empty(a.shape[1], np.float32), np.empty(b.shape[2], np.float32)
    few[:], distances[:] = -1, np.inf
    for j in order:
        to_b[:] = _FAR
        limit, total, i = distances[-1] * n, 0.0, 0
        while i < a.shape[1] and total <= limit:
            nearest(a, a.shape[1], i, b[j], b.shape[2], to_a, to_b)
            for p in range(i, min(i + CLOSE, n)):
                total += to_a[p]
            i += CLOSE
        if total > limit:
            continue
        found = to_a[:n].astype(np.float64).mean() + to_b[:m].astype(np.float64).mean()
        place = len(few)
        while place and (found, j) < (distances[place - 1], few[place - 1]):
            place -= 1
        for later in range(len(few) - 1, place, -1):
            few[later], distances[later] = few[later - 1], distances[later - 1]
        if place < len(few):
            few[place], distances[place] = j, found


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


def nearest_clouds(a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k clouds of `b` nearest to each of `a`, as all pairs of distances would give them.

    A third of the work, as many clouds are soon seen to be too far: those are looked at first
    that are near by every sixteenth point.

    Parameters
    ----------
    a, b : float32 [n, P, d] and [m, P, d], d <= 3, k <= m; `b` is finite.

    Returns
    -------
    int64 [n, k]
        Row numbers, nearest first and of equals the first; -1 for a cloud of NaN.
    float64 [n, k]
        Distances; infinite for a cloud of NaN.
    """
    few = np.full((len(a), k), -1)
    distances = np.full((len(a), k), np.inf)
    valid = np.flatnonzero(np.isfinite(a).all(axis=(1, 2)))
    if not len(valid):
        return few, distances
    order = chamfer_matrix(a[valid, ::16], b[:, ::16]).argsort(axis=1, kind="stable")
    columns, others = _columns(a[valid]), _columns(b)
    with tqdm(total=len(valid), desc="nearest", unit="cloud", mininterval=1) as bar:

        def some(part: slice) -> None:
            for i in range(part.start, part.stop):
                found = few[valid[i]], distances[valid[i]]
                _nearest_clouds(columns[i], a.shape[1], others, b.shape[1], order[i], *found)
                bar.update()

        in_threads(some, len(valid))
    return few, distances


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
