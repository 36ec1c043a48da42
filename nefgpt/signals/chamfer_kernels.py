"""What `nefgpt.signals.chamfer` compiles: distances of clouds, each once for both directions."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH
from nefgpt.base.registers import CLOSE
from nefgpt.base.vectors import nearest

_FAR = np.float32(3e38)
# No sum is regrouped, so that both directions of a pair agree to the last bit.
_EXACT = {**MATH, "fastmath": {"nnan", "nsz"}}


@numba.njit(**_EXACT)
def both_nearest(a, b, to_a, to_b):
    """Squared distance of every point of `a` [3, N] to the nearest of `b` [3, M], and the reverse.

    All distances, each once for both: with vector registers that is faster than a search in
    trees for clouds of this size.
    """
    to_b[:] = _FAR
    for i in range(0, a.shape[1], CLOSE):
        nearest(a, a.shape[1], i, b, b.shape[1], to_a, to_b)


@numba.njit(**_EXACT)
def _mean(distances, n):
    """Mean of the first n."""
    total = 0.0
    for i in range(n):
        total += distances[i]
    return total / n


@numba.njit(**_EXACT)
def chamfers(a, n, b, m, result, to_a, to_b):
    """Chamfer distances of one cloud [3, N], of n points, to each of [k, 3, M], of m points."""
    for j in range(len(b)):
        both_nearest(a, b[j], to_a, to_b)
        result[j] = _mean(to_a, n) + _mean(to_b, m)


@numba.njit(**_EXACT)
def nearest_clouds(a, places, b, m, order, few, distances, to_a, to_b):
    """Numbers `few` [k] and `distances` [k] of the clouds [j, 3, M] nearest to one [3, N].

    As soon as a part of a cloud's sum is larger than the k-th distance so far, its rest is left.
    Point i of the cloud is at places[i] in `a`, so that the sum of all is of the cloud's order.
    """
    few[:], distances[:] = -1, np.inf
    n = len(places)
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
        whole = 0.0
        for p in range(n):
            whole += to_a[places[p]]
        found = whole / n + _mean(to_b, m)
        place = len(few)
        while place and (found, j) < (distances[place - 1], few[place - 1]):
            place -= 1
        for later in range(len(few) - 1, place, -1):
            few[later], distances[later] = few[later - 1], distances[later - 1]
        if place < len(few):
            few[place], distances[place] = j, found
