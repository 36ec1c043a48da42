"""Chamfer distances of point clouds, and how many points of one lie near the other."""

import numpy as np

from nefgpt.base.compiled import D1, F1, F2, F3, I1, Compiled, in_threads
from nefgpt.base.registers import LANES


def _columns(clouds: np.ndarray) -> np.ndarray:
    """Clouds [n, P, d] as float32 [n, 3, P or more]: missing coordinates zero, last point again."""
    n, n_points, dim = clouds.shape
    result = np.zeros((n, 3, -(-n_points // LANES) * LANES), np.float32)
    result[:, :dim, :n_points] = clouds.transpose(0, 2, 1)
    result[:, :dim, n_points:] = clouds[:, -1, :, None]
    return result


_both_nearest = Compiled(__name__, "both_nearest", F2, F2, F1, F1)
_chamfers = Compiled(__name__, "chamfers", F2, int, F3, int, D1, F1, F1)
_nearest_clouds = Compiled(__name__, "nearest_clouds", F2, I1, F3, int, I1, I1, D1, F1, F1)


def _spare(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Memory for a distance of every point of `a` [..., N] and of `b` [..., M]."""
    return np.empty(a.shape[-1], np.float32), np.empty(b.shape[-1], np.float32)


def both_nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances of points `a` [N, d], d <= 3, to the nearest of `b` [M, d]; the reverse.

    Returns
    -------
    float32 [N] and [M].
    """
    first, second = _columns(a[None])[0], _columns(b[None])[0]
    to_a, to_b = _spare(first, second)
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
    from tqdm import tqdm  # fits find no matrices, and start sooner without

    with tqdm(total=len(a), desc="chamfer", unit="cloud", mininterval=1) as bar:
        for i in range(len(a)):
            first = i if b is None else 0

            def some(part: slice, i: int = i, first: int = first) -> None:
                rest, found = others[first:][part], result[i, first:][part]
                _chamfers(columns[i], n, rest, m, found, *_spare(columns, others))

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

    A small part of the work, as many clouds are soon seen to be too far: those are looked at
    first that are near by every sixteenth point, and of a cloud the outermost points.

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
    outermost = np.argsort(-np.square(a[valid] - b.mean(axis=(0, 1))).sum(axis=2), axis=1)
    places = np.argsort(outermost, axis=1)
    columns = _columns(np.take_along_axis(a[valid], outermost[..., None], axis=1))
    others = _columns(b)
    from tqdm import tqdm

    with tqdm(total=len(valid), desc="nearest", unit="cloud", mininterval=1) as bar:

        def some(part: slice) -> None:
            for i in range(part.start, part.stop):
                found = few[valid[i]], distances[valid[i]]
                found += _spare(columns, others)
                _nearest_clouds(columns[i], places[i], others, b.shape[1], order[i], *found)
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
