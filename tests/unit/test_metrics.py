import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nefgpt.base.errors import InputError
from nefgpt.evaluation import score as stage
from nefgpt.evaluation.metric import COLUMNS, METRICS, Known
from nefgpt.evaluation.score import read_known, reference_distances, score_draws
from nefgpt.evaluation.sets import coverage, mmd, one_nna
from nefgpt.signals import shapes
from nefgpt.signals.chamfer import chamfer, chamfer_matrix, f_score, nearest_clouds
from nefgpt.signals.shapes import iou


@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_chamfer_equals_the_double_loop_and_is_symmetric(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.random((n, 3)), rng.random((m, 3))
    square = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    expected = square.min(axis=1).mean() + square.min(axis=0).mean()
    assert chamfer(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-7), "in float32"
    assert chamfer(a, b) == chamfer(b, a)
    assert chamfer(a, a[::-1]) == 0


@given(st.integers(0, 2**31), st.integers(1, 70), st.integers(1, 70), st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_nearest_clouds_are_those_of_all_distances(seed, n_points, m_points, k):
    rng = np.random.default_rng(seed)
    a, b = rng.random((5, n_points, 3)), rng.random((6, m_points, 3)) * rng.random((6, 1, 1))
    b[4] = b[1]  # of equals the first
    a[2] = np.nan
    found, apart = nearest_clouds(a, b, k)
    every = chamfer_matrix(a, b)
    order = np.argsort(every, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(apart, np.take_along_axis(every, order, axis=1))
    order[2] = -1
    np.testing.assert_array_equal(found, order)


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


def test_f_score_of_a_surface_found_by_half():
    points = np.random.default_rng(0).random((50, 3)) * [10, 1, 1]
    half = points[points[:, 0] < np.median(points[:, 0])] + [0, 0, 0.005]
    far = points[:25] + 100
    assert f_score(half, points) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert f_score(np.concatenate([half, far]), points) == pytest.approx(1 / 2)
    assert f_score(half, points) == f_score(points, half)
    assert f_score(half, points, threshold=0.005 - 1e-6) == 0


def clouds(n, seed, shift=0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stretch = rng.uniform(0.5, 2, (n, 1, 3))
    return (rng.normal(size=(n, 40, 3)) * stretch + shift).astype(np.float32)


def score(samples, reference, train) -> tuple[dict, dict, int]:
    """Measures of one draw, each sample's nearest training clouds, and how many were compared."""
    found = reference_distances(reference, train, shapes)
    known = Known(reference, found["rr"], found["nearest_train"])
    table = pd.DataFrame({"shape_id": range(len(samples))})
    metrics, nearest = score_draws(samples, table, train, known, shapes, range(1))
    (n,) = set(metrics["n_generated"])
    return dict(zip(metrics["metric"], metrics["value"], strict=True)), nearest, n


def test_identical_sets():
    same = clouds(12, 0)
    train = clouds(9, 1)
    values, found, n = score(same, same, train)
    assert n == 12 and values["1-NNA %"] == 50
    assert values["MMD x100"] == 0 and values["COV %"] == 100 and values["valid %"] == 100
    assert found["valid"].all()


def test_sets_far_apart():
    reference, train = clouds(12, 0), clouds(9, 1)
    values, _, _ = score(clouds(12, 2, shift=50), reference, train)
    assert values["1-NNA %"] == 100 and values["COV %"] <= 100 / 12 + 1e-9


def test_copies_and_invalid_samples_stay_visible():
    reference, train = clouds(6, 0), clouds(9, 1)
    samples = train[[4, 2, 7, 0, 1, 3]].copy()
    samples[3] = np.nan
    values, found, _ = score(samples, reference, train)
    assert found["nearest"][:, 0].tolist() == [4, 2, 7, -1, 1, 3]
    assert values["valid %"] == pytest.approx(500 / 6)
    assert values["copies %"] == pytest.approx(500 / 6)
    assert values["novelty"] == 0
    assert np.isinf(found["distance"][3])


def test_unseen_shapes_are_new_and_nothing_is_not():
    reference, train = clouds(6, 0), clouds(9, 1)
    assert score(reference, reference, train)[0]["novelty"] == 1
    assert score(clouds(6, 2, shift=50), reference, train)[0]["novelty"] > 100
    nothing = np.full_like(reference, np.nan)
    assert np.isnan(score(nothing, reference, train)[0]["novelty"])
    # Where the test shapes are copies themselves, there is nothing to compare with.
    assert np.isnan(score(reference, train, train)[0]["novelty"])


def test_the_larger_set_is_cut_down():
    reference, train = clouds(10, 0), clouds(9, 1)
    assert score(clouds(4, 2), reference, train)[2] == 4
    assert score(clouds(15, 2), reference, train)[2] == 10


def test_distances_of_other_signals_are_refused(tmp_path):
    reference, train = clouds(6, 0), clouds(9, 1)
    np.savez(tmp_path / "d.npz", **reference_distances(reference, train, shapes))
    assert len(read_known(tmp_path / "d.npz", reference, 9).nearest_train) == 6
    for others in ((reference[:5], 9), (reference, 8)):
        with pytest.raises(InputError, match=r"d\.npz has the distances of other signals"):
            read_known(tmp_path / "d.npz", *others)
    (tmp_path / "d.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"cannot read .*d\.npz"):
        read_known(tmp_path / "d.npz", reference, 9)


def test_every_measure_has_a_column_of_its_own():
    names = [column.name for metric in METRICS for column in metric.COLUMNS]
    assert len(set(names)) == len(names) == len(COLUMNS)
    assert set(score(clouds(6, 2), clouds(6, 0), clouds(9, 1))[0]) <= set(names)


def test_draws_are_scored_apart(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    test, train, samples = (rng.normal(size=(n, 64, 3)).astype(np.float32) for n in (5, 6, 10))
    samples[5:] = test  # the second draw is the reference set itself
    for name, clouds in (("test", test), ("train", train), ("clouds", samples)):
        np.save(tmp_path / f"{name}.npy", clouds)
    ids = pd.DataFrame({"shape_id": list("abcdef")})
    ids.to_csv(tmp_path / "train.csv", index=False)
    about = pd.DataFrame({"shape_id": range(10), "label": "", "valid": True})
    about.to_csv(tmp_path / "samples.csv", index=False)
    real = [f"--{name}={tmp_path / f'{name}.npy'}" for name in ("train",)]
    real += [f"--reference={tmp_path / 'test.npy'}"]
    words = ["metrics", "reference", *real, f"--out={tmp_path / 'd.npz'}"]
    monkeypatch.setattr("sys.argv", words)
    stage.main()
    words = ["metrics", "score", *real, f"--clouds={tmp_path / 'clouds.npy'}", "--seed=7"]
    words += [f"--distances={tmp_path / 'd.npz'}", "--method=m", "--setting=s"]
    words += [f"--samples={tmp_path / 'samples.csv'}", f"--out={tmp_path / 'm.csv'}"]
    words += [f"--nearest={tmp_path / 'n.csv'}"]
    monkeypatch.setattr("sys.argv", [*words, "--draws=2"])
    stage.main()
    found = pd.read_csv(tmp_path / "m.csv").pivot(index="seed", columns="metric", values="value")
    assert found.index.tolist() == [7, 8]
    assert found.loc[8, "COV %"] == 100 and found.loc[8, "1-NNA %"] == 50
    assert found.loc[8, "MMD x100"] == 0 < found.loc[7, "MMD x100"]
    assert len(pd.read_csv(tmp_path / "n.csv")) == 10
    monkeypatch.setattr("sys.argv", [*words, "--draws=3"])
    with pytest.raises(InputError, match=r"clouds\.npy .* not 3 draws"):
        stage.main()
