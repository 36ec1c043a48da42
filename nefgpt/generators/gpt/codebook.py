"""One-dimensional k-means: the codes of a tokenizer."""

import numpy as np

from nefgpt.base.compiled import D1, D2, I1, I2, Array, Compiled

_CELLS = 8192
_MOST_JOINED = 1024  # codes
_CHOICE = Array(np.dtype(np.int32), 2)
_groups = Compiled(__name__, "groups", I1, D1, D1, I1, D2, _CHOICE, I2)


def _borders(values: np.ndarray, n_cells: int) -> np.ndarray:
    """Where `n_cells` cells of equal integral of density^(1/3) meet, float [n_cells - 1]."""
    shares = np.linspace(0, 1, 8 * n_cells + 1)
    spread = np.interp(shares, np.linspace(0, 1, len(values)), values)
    width = np.maximum(np.diff(spread), 1e-12)
    mass = np.cumsum(width ** (2 / 3))  # density^(1/3) integrated over a cell of equal count
    return np.interp(np.arange(1, n_cells) / n_cells * mass[-1], mass, spread[1:])


def _join(cuts: np.ndarray, sums: np.ndarray, squares: np.ndarray, n_groups: int) -> np.ndarray:
    """The best way to join neighbouring cells to groups: where these begin and end, [n_groups + 1].

    The best first cell of a last group never lies further left for more cells, so that halving
    finds all of them in m log m steps a group (Gronlund et al. 2017, "Fast exact k-means,
    k-medians and Bregman divergence clustering in 1D").

    Parameters
    ----------
    cuts : int [m + 1], where the cells begin and end among the sorted values.
    sums, squares : cumulative sums of the values and their squares.
    """
    m, ends = len(cuts) - 1, np.empty(n_groups + 1, np.int64)
    costs, choice = np.empty((2, m + 1)), np.zeros((n_groups, m + 1), np.int32)
    _groups(cuts, sums[cuts], squares[cuts], ends, costs, choice, np.empty((64 + m, 4), np.int64))
    return ends


def fit_codes(values: np.ndarray, n_codes: int, iterations: int = 100) -> np.ndarray:
    """One-dimensional k-means: `n_codes` ascending centres, float32.

    Up to 8,192 values the result is the optimum: dynamic programming finds the best way to join
    the sorted values to `n_codes` groups. More are first cut into as many cells, narrow where
    density^(1/3) is large, the optimal density of codes for squared error (Panter and Dite,
    1951), and these are joined (a thousand codes and more start in the middle of such cells
    instead); Lloyd's iterations on all values refine it. An empty cell is revived by splitting
    the cell with the largest error.
    """
    values = np.sort(values.astype(np.float64).ravel())
    distinct = np.unique(values)
    if len(distinct) <= n_codes:
        # Spare codes lie within the data, so that no token decodes to a value far from all.
        spare = np.linspace(distinct[0], distinct[-1], n_codes - len(distinct))
        return np.sort(np.concatenate([distinct, spare])).astype(np.float32)
    middle = values.mean()  # far from zero the sums of squares would cancel
    values -= middle
    sums = np.concatenate([[0], np.cumsum(values)])
    squares = np.concatenate([[0], np.cumsum(values**2)])
    if n_codes > _MOST_JOINED:
        centres = _borders(values, 2 * n_codes)[::2]
    else:
        cuts = np.arange(len(values) + 1)
        if len(values) > _CELLS:
            inner = np.searchsorted(values, _borders(values, _CELLS // 4))
            # Cells of equal count besides: between far clusters the density says too little. And
            # single values at both ends, where a few far ones have much of the error.
            equal = np.linspace(0, len(values), _CELLS // 4, dtype=int)
            ends = cuts[: _CELLS // 4], cuts[-_CELLS // 4 :]
            cuts = np.unique(np.concatenate([inner, equal, *ends]))
        edges = cuts[_join(cuts, sums, squares, min(n_codes, len(cuts) - 1))]
        centres = np.diff(sums[edges]) / np.diff(edges)
    for _ in range(iterations):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        count, total = np.diff(edges), np.diff(sums[edges])
        moved = np.where(count > 0, total / np.maximum(count, 1), centres)
        error = np.diff(squares[edges]) - total**2 / np.maximum(count, 1)
        dead = np.flatnonzero(count == 0)
        worst = np.argsort(error)[::-1][: len(dead)]
        moved[dead] = values[(edges[worst] + edges[worst + 1]) // 2]
        moved = np.sort(moved)
        if not len(dead) and np.abs(moved - centres).max() < 1e-7 * np.ptp(values):
            break
        centres = moved
    return (moved + middle).astype(np.float32)
