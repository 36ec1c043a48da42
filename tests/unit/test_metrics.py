import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nefgpt.errors import InputError
from nefgpt.metrics import chamfer, chamfer_matrix, coverage, f_score, iou, mmd, one_nna


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_chamfer_equals_the_double_loop_and_is_symmetric(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.random((n, 3)), rng.random((m, 3))
    square = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    expected = square.min(axis=1).mean() + square.min(axis=0).mean()
    assert chamfer(a, b) == pytest.approx(expected)
    assert chamfer(a, b) == pytest.approx(chamfer(b, a))
    assert chamfer(a, a[::-1]) == 0


def distances(seed, shift, n=200):
    rng = np.random.default_rng(seed)
    g, r = rng.random((n, 1, 3)), rng.random((n, 1, 3)) + shift
    return chamfer_matrix(g), chamfer_matrix(g, r), chamfer_matrix(r)


def test_sets_of_one_distribution_score_about_half():
    assert 43 < np.mean([one_nna(*distances(seed, 0.0)) for seed in range(5)]) < 57


def test_separate_sets_are_told_apart():
    assert one_nna(*distances(0, 10.0)) == 100


def test_an_identical_set_matches_and_covers_everything():
    clouds = np.random.default_rng(0).random((6, 10, 3))
    between = chamfer_matrix(clouds, clouds)
    assert mmd(between) == 0
    assert coverage(between) == 100


def test_samples_that_are_all_one_shape_cover_one():
    clouds = np.random.default_rng(0).random((5, 10, 3))
    assert coverage(chamfer_matrix(np.repeat(clouds[:1], 5, axis=0), clouds)) == 20


def test_invalid_samples_stay_in_the_numbers():
    rng = np.random.default_rng(0)
    g, r = rng.random((4, 10, 3)), rng.random((4, 10, 3))
    g[:] = np.nan
    assert one_nna(chamfer_matrix(g), chamfer_matrix(g, r), chamfer_matrix(r)) == 100
    assert coverage(chamfer_matrix(g, r)) == 0
    assert mmd(chamfer_matrix(g, r)) == np.inf


def test_unequal_sets_are_refused():
    with pytest.raises(InputError, match="equal size"):
        one_nna(np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((3, 3)))


def test_iou_and_f_score():
    assert iou(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)) == pytest.approx(1 / 3)
    points = np.random.default_rng(0).random((50, 3))
    assert f_score(points, points) == 1
    assert f_score(points, points + 5) == 0
