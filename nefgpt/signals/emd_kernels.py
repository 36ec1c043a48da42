"""What `nefgpt.signals.emd` compiles: an auction of the points of one cloud."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH

BLOCK = 32  # points of which one minimum is kept
_LEAST_STEP = np.float32(1e-6)  # as a share of the clouds' extent; single precision ends there


@numba.njit(**MATH)
def _offers(a, i, b, prices, offers, least):
    """What every point of `b` costs point i of `a`, distance and price; of each block the least."""
    x, y, z = a[0, i], a[1, i], a[2, i]
    for k in range(len(least)):
        smallest = np.float32(3e38)
        for j in range(k * BLOCK, (k + 1) * BLOCK):
            u, v, w = b[0, j] - x, b[1, j] - y, b[2, j] - z
            offers[j] = np.sqrt(u * u + v * v + w * w) + prices[j]
            smallest = min(smallest, offers[j])
        least[k] = smallest


@numba.njit(**MATH)
def _bid(a, i, b, prices, offers, least):
    """The point of `b` that costs point i of `a` the least, and by how much the next costs more."""
    _offers(a, i, b, prices, offers, least)
    block = 0
    for k in range(len(least)):
        if least[k] < least[block]:
            block = k
    best, second = block * BLOCK, np.float32(3e38)
    for j in range(block * BLOCK, (block + 1) * BLOCK):
        if offers[j] < offers[best]:
            best = j
    for j in range(block * BLOCK, (block + 1) * BLOCK):
        if j != best:
            second = min(second, offers[j])
    for k in range(len(least)):
        if k != block:
            second = min(second, least[k])
    return best, second - offers[best]


@numba.njit(**MATH)
def _bounds(a, b, n, prices, owner, bounds):
    """Mean distance of the assignment, and what no assignment is below (by duality), in bounds."""
    cost = 0.0
    for j in range(n):
        square = 0.0
        for d in range(3):
            square += (np.float64(a[d, owner[j]]) - np.float64(b[d, j])) ** 2
        cost += np.sqrt(square)
    dual = 0.0
    for i in range(n):
        smallest = np.inf
        x, y, z = np.float64(a[0, i]), np.float64(a[1, i]), np.float64(a[2, i])
        for j in range(n):
            u, v, w = b[0, j] - x, b[1, j] - y, b[2, j] - z
            smallest = min(smallest, np.sqrt(u * u + v * v + w * w) + prices[j])
        dual += smallest
    for j in range(n):
        dual -= np.float64(prices[j])
    bounds[0], bounds[1] = cost / n, dual / n


@numba.njit(**MATH)
def match(a, b, n, extent, gap, prices, offers, least, owner, waiting, bounds):
    """Assign n points of `a` [3, N] to those of `b` [3, N], each to one (Bertsekas 1988).

    Points that have none bid for the one that costs them the least, and raise its price by what
    the next best costs more, and by a step; steps get smaller until the mean distance is within
    `gap` of the bound, as a share of it, or steps are lost in rounding. Further columns of `b`
    are far away. No coordinates are further apart than `extent`, which is above zero.
    """
    prices[:] = 0.0
    step = np.float32(extent / 8)
    while True:
        owner[:] = -1
        for i in range(n):
            waiting[i] = i
        first, count = 0, n
        while count:
            i = waiting[first]
            first, count = (first + 1) % n, count - 1
            j, more = _bid(a, i, b, prices, offers, least)
            # A lone point has no next best. A price that rounding would leave as it is rises too.
            raised = prices[j] + min(more, np.float32(4 * extent)) + step
            prices[j] = max(raised, prices[j] * np.float32(1.0000003))
            if owner[j] >= 0:
                waiting[(first + count) % n] = owner[j]
                count += 1
            owner[j] = i
        _bounds(a, b, n, prices, owner, bounds)
        if bounds[0] - bounds[1] <= gap * bounds[0] or step < _LEAST_STEP * np.float32(extent):
            return
        step /= np.float32(8)
