"""What `nefgpt.signals.surface` compiles: which samples of a grid are to be evaluated."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH
from nefgpt.signals.surface import STRIDE


@numba.njit(**MATH)
def spread(coarse, values, known):
    """Give every sample the value of the coarse one before it; only coarse ones are `known`."""
    for x in range(values.shape[0]):
        for y in range(values.shape[1]):
            for z in range(values.shape[2]):
                values[x, y, z] = coarse[x // STRIDE, y // STRIDE, z // STRIDE]
                known[x, y, z] = False
    for i in range(coarse.shape[0]):
        x = min(i * STRIDE, values.shape[0] - 1)
        for j in range(coarse.shape[1]):
            y = min(j * STRIDE, values.shape[1] - 1)
            for k in range(coarse.shape[2]):
                z = min(k * STRIDE, values.shape[2] - 1)
                values[x, y, z] = coarse[i, j, k]
                known[x, y, z] = True


@numba.njit(**MATH)
def cells_near(coarse, level, low, high, folded, active):
    """Which cells between coarse samples can hold the surface, bool `active` [a, b, c].

    Those whose corners lie on both sides of it, or near it: between `low` and `high`; and where
    the inside touches the cube's border, which closes it. The first axis begins at a plane of
    symmetry where it is `folded`.
    """
    a, b, c = active.shape
    for i in range(a):
        for j in range(b):
            for k in range(c):
                least, most = coarse[i, j, k], coarse[i, j, k]
                near = False
                for corner in range(8):
                    value = coarse[i + (corner & 1), j + (corner >> 1 & 1), k + (corner >> 2)]
                    least, most = min(least, value), max(most, value)
                    near |= low <= value <= high
                border = (i == 0 and not folded) or i == a - 1 or j in (0, b - 1)
                border |= k in (0, c - 1)
                active[i, j, k] = near or (least < level and (border or most >= level))


@numba.njit(**MATH)
def _samples(i, j, k, shape):
    """Ranges of the samples of a cell of a grid, along each axis."""
    return (
        range(i * STRIDE, min((i + 1) * STRIDE, shape[0] - 1) + 1),
        range(j * STRIDE, min((j + 1) * STRIDE, shape[1] - 1) + 1),
        range(k * STRIDE, min((k + 1) * STRIDE, shape[2] - 1) + 1),
    )


@numba.njit(**MATH)
def unknown(active, known, chosen):
    """Numbers of the samples of active cells that are not `known` [A, B, C], which they become.

    Returns how many `chosen` begins with.
    """
    n = 0
    for i, j, k in np.ndindex(active.shape):
        if not active[i, j, k]:
            continue
        xs, ys, zs = _samples(i, j, k, known.shape)
        for x in xs:
            for y in ys:
                for z in zs:
                    if not known[x, y, z]:
                        known[x, y, z] = True
                        chosen[n] = (x * known.shape[1] + y) * known.shape[2] + z
                        n += 1
    return n


@numba.njit(**MATH)
def cells_entered(active, known, values, level, entered):
    """Cells beside active ones into which the surface goes on, bool `entered`."""
    for i, j, k in np.ndindex(active.shape):
        entered[i, j, k] = False
        around = active[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, max(k - 1, 0) : k + 2]
        if active[i, j, k] or not around.any():
            continue
        first = values[i * STRIDE, j * STRIDE, k * STRIDE] < level
        xs, ys, zs = _samples(i, j, k, known.shape)
        for x in xs:
            for y in ys:
                for z in zs:
                    if known[x, y, z] and (values[x, y, z] < level) != first:
                        entered[i, j, k] = True
