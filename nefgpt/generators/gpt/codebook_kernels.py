"""What `nefgpt.generators.gpt.codebook` compiles."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH


@numba.njit(**MATH)
def groups(cuts, total, square, ends, costs, choice, todo):
    """See `nefgpt.generators.gpt.codebook._join`; cumulative sums are those at the `cuts`."""
    m, n_groups, (best, now) = len(cuts) - 1, len(ends) - 1, costs
    best[0] = np.inf
    for j in range(1, m + 1):
        best[j] = square[j] - total[j] ** 2 / cuts[j]
    for group in range(1, n_groups):
        now[:] = np.inf
        todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = group + 1, m, group, m - 1
        n = 1
        while n:
            n -= 1
            low, high, first, last = todo[n]
            if low > high:
                continue
            j = (low + high) // 2
            found, place = np.inf, first
            for i in range(first, min(last, j - 1) + 1):
                apart = total[j] - total[i]
                cost = best[i] + square[j] - square[i] - apart * apart / (cuts[j] - cuts[i])
                if cost < found:
                    found, place = cost, i
            now[j], choice[group, j] = found, place
            todo[n] = low, j - 1, first, place
            todo[n + 1] = j + 1, high, place, last
            n += 2
        for j in range(m + 1):
            best[j] = now[j]
    ends[0], ends[n_groups] = 0, m
    for group in range(n_groups - 1, 0, -1):
        ends[group] = choice[group, ends[group + 1]]
