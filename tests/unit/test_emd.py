"""Earth Mover's distances: known answers, exact assignment, and the bound that is stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from nefgpt.signals import emd_kernels
from nefgpt.signals.emd import _BLOCK, EXACT, GAP, Moved, _auction, _columns, emd, emd_matrix


def exact(a: np.ndarray, b: np.ndarray) -> float:
    apart = cdist(a.astype(float), b.astype(float))
    return apart[linear_sum_assignment(apart)].mean()


def auction(a: np.ndarray, b: np.ndarray, gap: float = GAP) -> Moved:
    return _auction(*_columns(np.stack([a, b]).astype(np.float32)), len(a), gap)


def test_columns_are_whole_blocks():
    assert _BLOCK == emd_kernels.BLOCK


@pytest.mark.parametrize("n", [4, 300])
def test_known_answers(n):
    rng = np.random.default_rng(0)
    a = rng.random((n, 3)).astype(np.float32)
    assert emd(a, a[::-1]).distance == 0
    far = emd(a, a + np.float32([0, 3, 4]) * 10)
    assert far.distance == pytest.approx(50, rel=GAP) and far.bound <= 50 * (1 + 1e-6)
    corners = np.float32([[0, 0, 0], [1, 0, 0], [0, 2, 0]])
    moved = np.float32([[0, 0, 1], [0, 3, 0], [1, 0, 0]])
    assert emd(corners, moved).distance == pytest.approx(2 / 3), "1, 0 and 1, by hand"


DEGENERATE = {
    "random": lambda rng, n: rng.normal(size=(n, 3)),
    "all in one place": lambda rng, n: np.tile(rng.normal(size=3), (n, 1)),
    "each twice": lambda rng, n: np.repeat(rng.normal(size=(-(-n // 2), 3)), 2, axis=0)[:n],
    "collinear": lambda rng, n: np.outer(rng.random(n), [1, 2, 3]),
    "a grid of ties": lambda rng, n: rng.integers(0, 3, (n, 3)).astype(float),
    "tiny": lambda rng, n: 1e-6 * rng.random((n, 3)),
    "one point far away": lambda rng, n: (
        rng.random((n, 3)) * np.where(np.arange(n) == 0, 1e3, 1)[:, None]
    ),
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("n", [1, 2, 33, 200])
def test_auction_is_within_its_bound_of_the_exact_assignment(kind, n):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        a, b = (DEGENERATE[kind](rng, n).astype(np.float32) for _ in range(2))
        found, wanted = auction(a, b), exact(a, b)
        size = float(np.abs([a, b]).max())
        assert found.bound - 1e-6 * size <= wanted <= found.distance + 1e-6 * size
        assert found.distance - found.bound <= GAP * found.distance + 3e-6 * size
        for one, other, d in ((a, b, wanted), (b, a, wanted)):
            assert emd(one, other).distance == pytest.approx(d, rel=GAP, abs=3e-6 * size)


@given(st.integers(0, 2**31), st.integers(1, 60))
@settings(deadline=None, max_examples=20)
def test_a_smaller_gap_is_nearer(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, n, 3)).astype(np.float32)
    assert auction(a, b, 1e-5).distance == pytest.approx(exact(a, b), rel=2e-5)


@pytest.mark.parametrize("n_points", [EXACT, EXACT + 40])
def test_all_pairs(n_points):
    rng = np.random.default_rng(0)
    a, b = (rng.random((n, n_points, 3)).astype(np.float32) for n in (3, 4))
    a[1] = np.nan
    between, among = emd_matrix(a, b), emd_matrix(a)
    for i in (0, 2):
        for j in range(4):
            assert between[i, j] == emd(a[i], b[j]).distance
    assert np.isinf(between[1]).all() and np.isinf(among[1, ::2]).all()
    assert among[0, 2] == among[2, 0] == emd(a[0], a[2]).distance
    assert (among.diagonal() == 0).all()
