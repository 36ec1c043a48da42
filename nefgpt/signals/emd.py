"""Earth Mover's distances of point clouds: how far points move on average, one to one."""

import logging
from typing import NamedTuple

import numpy as np

from nefgpt.base.compiled import D1, F1, F2, I1, Compiled, in_threads

log = logging.getLogger(__name__)

EXACT = 128  # points up to which the assignment is the exact one
GAP = 1e-3  # how far above the exact distance one may be, as a share of it
_BLOCK = 32  # columns are a multiple of it; see `emd_kernels`
_FAR = 1e9

_match = Compiled(__name__, "match", F2, F2, int, float, float, F1, F1, F1, I1, I1, D1)


class Moved(NamedTuple):
    """An Earth Mover's distance.

    Attributes
    ----------
    distance : of the assignment that was found.
    bound : the exact distance is not below it.
    """

    distance: float
    bound: float


def _columns(clouds: np.ndarray) -> np.ndarray:
    """Clouds [n, P, 3] as float32 [n, 3, P or more], further points far away."""
    n, n_points, _ = clouds.shape
    result = np.full((n, 3, -(-n_points // _BLOCK) * _BLOCK), _FAR, np.float32)
    result[:, :, :n_points] = clouds.transpose(0, 2, 1)
    return result


def _exact(a: np.ndarray, b: np.ndarray) -> Moved:
    from scipy.optimize import linear_sum_assignment  # takes longer to load than small clouds take
    from scipy.spatial.distance import cdist

    apart = cdist(a.astype(float), b.astype(float))
    distance = float(apart[linear_sum_assignment(apart)].mean())
    return Moved(distance, distance)


def _auction(a: np.ndarray, b: np.ndarray, n: int, gap: float) -> Moved:
    """Of columns [3, N] of n points."""
    both = np.concatenate([a[:, :n], b[:, :n]], axis=1)
    extent = float(np.ptp(both, axis=1).max())
    if not extent:
        return Moved(0.0, 0.0)
    size, bounds = a.shape[1], np.empty(2)
    floats = [np.empty(k, np.float32) for k in (size, size, size // _BLOCK)]
    _match(a, b, n, extent, gap, *floats, *(np.empty(size, np.int64) for _ in range(2)), bounds)
    return Moved(float(bounds[0]), float(min(max(bounds[1], 0), bounds[0])))


def emd(a: np.ndarray, b: np.ndarray, gap: float = GAP) -> Moved:
    """Mean Euclidean distance of `a` [P, 3] to `b` [P, 3], assigned so that it is the least.

    Exact up to `EXACT` points; of more, an auction (Bertsekas 1988) ends within `gap` of a lower
    bound, which the prices of its points give.
    """
    if len(a) <= EXACT:
        return _exact(a, b)
    first, second = _columns(a[None])[0], _columns(b[None])[0]
    return _auction(first, second, len(a), gap)


def emd_matrix(a: np.ndarray, b: np.ndarray | None = None, gap: float = GAP) -> np.ndarray:
    """All pairs of Earth Mover's distances.

    Parameters
    ----------
    a, b : float32 [n, P, 3] and [m, P, 3]; `b` None compares `a` with itself. A cloud of NaN is
        infinitely far from everything.

    Returns
    -------
    float64 [n, m]
    """
    others, n_points = a if b is None else b, a.shape[1]
    result = np.full((len(a), len(others)), np.inf)
    usable = [np.isfinite(clouds).all(axis=(1, 2)) for clouds in (a, others)]
    pairs = np.argwhere(np.outer(*usable))
    if b is None:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    columns = [_columns(clouds) for clouds in (a, others)]
    wide = np.zeros(len(pairs))
    from tqdm import tqdm  # fits find no matrices, and start sooner without

    with tqdm(total=len(pairs), desc="EMD", unit="pair", mininterval=1) as bar:

        def some(part: slice) -> None:
            for p in range(part.start, part.stop):
                i, j = pairs[p]
                if n_points <= EXACT:
                    found = _exact(a[i], others[j])
                else:
                    found = _auction(columns[0][i], columns[1][j], n_points, gap)
                result[i, j] = found.distance
                wide[p] = found.distance - found.bound - gap * found.distance
                bar.update()

        in_threads(some, len(pairs))
    if (wide > 0).any():
        log.warning("%d of %d distances are less sure than %g", (wide > 0).sum(), len(pairs), gap)
    if b is None:
        result = np.minimum(result, result.T)
        np.fill_diagonal(result, 0.0)
    return result
