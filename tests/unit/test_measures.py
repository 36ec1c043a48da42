"""Measures of sets: known answers, worked by hand, ties, and what chance does to them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, jensenshannon

from nefgpt.base.errors import InputError
from nefgpt.evaluation import intervals, neighbours, occupancy, sets, tables
from nefgpt.evaluation.frechet import frechet
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.evaluation.novelty import ratio
from nefgpt.evaluation.pairs import Pairs
from nefgpt.evaluation.protocol import in_class_frame
from nefgpt.evaluation.score import halves_of, measure_draws, reference_distances
from nefgpt.signals import shapes
from nefgpt.signals.chamfer import chamfer_matrix


def on_a_line(generated, reference) -> Pairs:
    """Distances of numbers, each a signal."""
    g, r = (np.asarray(x, float)[:, None] for x in (generated, reference))
    return Pairs(cdist(g, g), cdist(g, r), cdist(r, r))


def test_a_case_by_hand():
    pairs = on_a_line([0, 1, 10, 30], [0.2, 2, 11, 12])
    found = sets.of(pairs)
    # Nearest of 0.2, 2, 11, 12: 0, 1, 10, 10; nearest of 0, 1, 10, 30: 0.2, 0.2, 11, 12.
    assert found["MMD x100"] == pytest.approx(100 * (0.2 + 1 + 1 + 2) / 4)
    assert found["COV %"] == 75
    # Own set's nearest against the other's: 0: 1 > 0.2; 1: 1 > 0.8; 10: 9 > 1; 30: 20 > 18;
    # 0.2: 1.8 > 0.2; 2: 1.8 > 1; 11: a tie of 12 and 10; 12: 11 is nearer.
    assert found["1-NNA %"] == pytest.approx(100 * 1.5 / 8)


def test_ties_count_half():
    assert sets.of(on_a_line([0, 2], [1, 3]))["1-NNA %"] == 0, "each is nearest to the other set"
    cross = np.ones((3, 3))
    apart = np.ones((3, 3)) - np.eye(3)
    assert sets.one_nna(apart, cross, apart) == 50


def test_precision_and_recall_by_hand():
    pairs = on_a_line([0, 1, 2, 3, 4, 100], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    # Radii of references by the third neighbour: 3, 2, 2, 2, 2, 3; all but 100 lie in one.
    np.testing.assert_allclose(neighbours.radii(pairs.rr, 3), [3, 2, 2, 2, 2, 3])
    np.testing.assert_allclose(neighbours.radii(pairs.gg, 3), [3, 2, 2, 2, 3, 98])
    found = neighbours.of(pairs)
    assert found["precision %"] == pytest.approx(500 / 6)
    assert found["recall %"] == 100
    # By the fifth neighbour radii are 5, 4, 3, 3, 4, 5.
    inside = [(abs(g - r) <= k) for g in [0, 1, 2, 3, 4, 100]
              for r, k in zip(pairs.gr[0], [5, 4, 3, 3, 4, 5], strict=True)]  # fmt: skip
    assert found["density"] == pytest.approx(sum(inside) / 6 / 5)
    assert found["coverage %"] == 100


def test_nothing_lies_within_a_sample_that_is_nothing():
    pairs = on_a_line(range(8), range(8))
    gg, gr = pairs.gg.copy(), pairs.gr.copy()
    gg[:, 3:] = gg[3:] = gr[3:] = np.inf
    assert neighbours.of(Pairs(gg, gr, pairs.rr))["recall %"] == 0, "three have no third neighbour"
    gg[:, :], gr[:, :] = np.inf, np.inf
    assert set(neighbours.of(Pairs(gg, gr, pairs.rr)).values()) == {0}


def test_one_distribution_has_density_one():
    rng = np.random.default_rng(0)
    found = neighbours.of(on_a_line(rng.normal(size=1500), rng.normal(size=1500)))
    assert found["density"] == pytest.approx(1, abs=0.1)
    assert found["coverage %"] == pytest.approx(100 * (1 - 0.5**5), abs=3), "Naeem et al., lemma 2"
    far = neighbours.of(on_a_line(rng.normal(size=50) + 99, rng.normal(size=50)))
    assert set(far.values()) == {0}


def test_divergence_of_occupied_voxels():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 5, 400, 3))
    p, q = (occupancy.occupied(x, 1.0) for x in (a, b))
    assert p.sum() == pytest.approx(1) and len(p) == 28**3
    assert occupancy.divergence(p, p) == 0
    assert occupancy.divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    left, right = (occupancy.occupied(a / 3 + x, 1.0) for x in (-0.5, 0.5))
    assert occupancy.divergence(left, right) == pytest.approx(1), "disjoint"
    (corner,) = np.flatnonzero(occupancy.occupied(np.full((1, 4, 3), 7.0), 1.0))
    assert corner == 28**3 - 1, "what is outside is at the border"


def test_frechet_of_known_gaussians():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    a = rng.normal(size=(200_000, 3)) * [1, 2, 3] @ axes.T + 1
    b = rng.normal(size=(200_000, 3)) * [2, 2, 1] @ axes.T
    # Of Gaussians with the same axes: squares of the means' and the deviations' differences.
    assert frechet(a, b) == pytest.approx(3 + (1 + 0 + 4), rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + np.array([3, 0, 4])) == pytest.approx(25)


@given(st.integers(0, 2**31), st.integers(4, 30), st.integers(4, 30))
@settings(deadline=None, max_examples=20)
def test_frechet_is_that_of_the_root_of_matrices(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(m, 3))
    first, second = np.cov(a.T), np.cov(b.T)
    root = np.trace(sqrtm(first @ second)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second) - 2 * root
    assert frechet(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-6)


DEGENERATE = {
    "random": lambda rng, n: rng.normal(size=(n, 3)),
    "each twice": lambda rng, n: np.repeat(rng.normal(size=(n, 3)), 2, axis=0),
    "collinear": lambda rng, n: np.outer(rng.random(n), [1, 2, 3]),
    "one point": lambda rng, n: rng.normal(size=(1, 3)),
    "all in one place": lambda rng, n: np.tile(rng.normal(size=3), (n, 1)),
    "tiny": lambda rng, n: 1e-3 * rng.random((n, 3)),
    "a grid of ties": lambda rng, n: rng.integers(0, 3, (n, 3)).astype(float),
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("n", [5, 100])
def test_chamfer_is_that_of_slow_doubles(kind, n):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        a, b = (DEGENERATE[kind](rng, n).astype(np.float32) for _ in range(2))
        first, second = (x.astype(float) for x in (a, b))
        expected = sum(
            np.square(cKDTree(y).query(x)[0]).mean() for x, y in ((first, second), (second, first))
        )
        size = float(max(np.square(first).max(), np.square(second).max()))
        found = chamfer_matrix(a[None], b[None])[0, 0]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6 * size)
        assert chamfer_matrix(a[None], a[None])[0, 0] == 0


def test_translated_copies():
    cloud = np.random.default_rng(0).random((1, 64, 3)).astype(np.float32)
    far = chamfer_matrix(cloud, cloud + np.float32([0, 30, 40]))[0, 0]
    near = sum(
        np.square(cKDTree(x).query(y)[0]).mean()
        for x, y in ((cloud[0], cloud[0] + [0, 30, 40]), (cloud[0] + [0, 30, 40], cloud[0]))
    )
    assert far == pytest.approx(near, rel=1e-5)


def clouds(n, seed, shift=0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stretch = rng.uniform(0.5, 2, (n, 1, 3))
    return (rng.normal(size=(n, 40, 3)) * stretch + shift).astype(np.float32)


def draws(samples, reference, train, n_draws=1) -> list:
    found = reference_distances(reference, train, shapes)
    known = Known(reference, found["rr"], found["nearest_train"])
    return [
        (Samples(part, pd.DataFrame(index=range(len(part))), shapes, seed,
                 shapes.nearest(part, train, 1)[1][:, 0]), known)
        for seed, part in enumerate(np.split(samples, n_draws))
    ]  # fmt: skip


def test_halves_vary_as_new_sets_do():
    """The spread of halves is that of the measure over sets drawn anew."""
    n, train = 24, clouds(10, 999)
    many = []
    for seed in range(60):
        found = measure_draws(draws(clouds(n, seed), clouds(n, 1000 + seed), train))
        many.append(dict(zip(found["metric"], found["value"], strict=True)))
    spreads = [
        intervals.halves(draws(clouds(n, seed), clouds(n, 1000 + seed), train), seed)
        for seed in range(5)
    ]
    for name in ("1-NNA %", "COV %", "MMD x100", "novelty"):
        truth = np.std([one[name] for one in many])
        told = np.mean([one[name].std() for one in spreads])
        assert 0.6 < told / truth < 1.7, (name, told, truth)


def test_intervals_hold_the_value_and_ties_are_marked():
    reference, train = clouds(16, 0), clouds(12, 1)
    rows = []
    for name, samples in (
        ("a", clouds(32, 2)),
        ("b", clouds(32, 3)),
        ("far", clouds(32, 4, shift=20)),
        ("far too", clouds(32, 4, shift=20)),
    ):
        two = draws(samples, reference, train, 2)
        metrics = measure_draws(two)
        metrics.insert(0, "method", name)
        metrics.insert(1, "setting", "all")
        rows.append((metrics, intervals.halves(two, 0)))
    table = intervals.table(rows)
    assert list(table.columns) == list(intervals.COLUMNS)
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    ties = table[table.metric == "1-NNA %"].set_index("method").tie
    assert ties.isna()["a"] and ties[["b", "far", "far too"]].tolist() == ["yes", "no", "yes"]
    text = tables.intervals_text(table)
    assert text.count("≈") > 2 and "| far | all |" in text
    few = draws(clouds(6, 2), clouds(6, 0), train)
    assert intervals.halves(few, 0) == {}


def test_halves_of_the_test_split():
    reference, train = clouds(21, 0), clouds(12, 1)
    found = reference_distances(reference, train, shapes, 30)
    known = Known(reference, found["rr"], found["nearest_train"], moved=found["emd"])
    known = known._replace(moved_points=30)
    halves = halves_of(known, pd.DataFrame(index=range(21)), shapes, range(3))
    metrics = measure_draws(halves)
    assert set(metrics["n_generated"]) == {10} and set(metrics["seed"]) == {0, 1, 2}
    again = []
    for draw, half in halves:
        both = np.concatenate([draw.compared, half.reference])
        assert len(np.unique(both, axis=0)) == 20, "no signal is in both halves"
        anew = Samples(draw.compared, draw.table, shapes, draw.seed, draw.distance)
        again.append((anew, half))
    pd.testing.assert_frame_equal(measure_draws(again), metrics)


def test_novelty_of_nothing():
    assert np.isnan(ratio(np.array([np.inf]), np.array([1.0])))
    assert np.isnan(ratio(np.array([1.0]), np.zeros(0)))
    assert ratio(np.array([1.0, 3.0, np.inf]), np.array([4.0])) == 0.5


def test_duplicates_are_seen():
    reference, samples = clouds(8, 0), clouds(8, 2)
    samples[3] = samples[5]
    train = reference + np.float32(1e-3)  # as near is a copy
    found = measure_draws(draws(samples, reference, train)).set_index("metric").value
    assert found["duplicates %"] == 25


def test_normalisations():
    cloud = np.random.default_rng(0).random((50, 3)) * [4, 2, 1] + 7
    box = shapes.normalise_cloud(cloud, "box")
    np.testing.assert_allclose(box.min(axis=0), -box.max(axis=0), atol=1e-6)
    assert np.abs(box).max() == pytest.approx(1)
    one = shapes.normalise_cloud(cloud)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-6)
    assert one.std() == pytest.approx(1)
    np.testing.assert_array_equal(shapes.normalise_cloud(cloud, "class"), cloud.astype(np.float32))
    train = np.stack([cloud, 2 * cloud])
    framed, other = in_class_frame(train, train + 1)
    np.testing.assert_allclose(framed.mean(axis=(0, 1)), 0, atol=1e-6)
    # One deviation of all coordinates, before they are centred (PointFlow's own code).
    np.testing.assert_allclose(other - framed, 1 / train.std(), rtol=1e-5)


def test_values_of_two_networks_are_not_put_into_one_table(tmp_path):
    lines = [",".join(tables.KEYS) + ",normalisation,extractor"]
    for name, extractor in (("a", "pointnet 0123"), ("b", "pointnet 4567")):
        row = f"{name},all,FPD (PointNet),1.5,0,8,8,shape,{extractor}"
        (tmp_path / f"{name}.csv").write_text("\n".join([*lines, row]) + "\n")
    with pytest.raises(InputError, match="'pointnet 0123', 'pointnet 4567'"):
        tables.build([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out")
    tables.build([tmp_path / "a.csv"], tmp_path / "out")
    written = pd.read_csv(tmp_path / "out/metrics.csv")
    assert written.loc[0, ["normalisation", "extractor"]].tolist() == ["shape", "pointnet 0123"]
