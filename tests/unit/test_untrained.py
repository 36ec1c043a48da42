"""Rows without a model: noise on train fields, and their averages."""

import dataclasses

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.generators import averages, noise
from nefgpt.generators.kind import Given
from nefgpt.generators.settings import Averages, Noise
from tests.unit.test_components import fitted

WHICH = [(noise, Noise()), (noise, Noise(space="weights")), (averages, Averages())]


def train_rows(fields) -> np.ndarray:
    return fields.weights[fields.of_split("train")]


@pytest.mark.parametrize(("module", "setting"), WHICH)
def test_more_samples_begin_with_the_same_ones(module, setting):
    fields, _ = fitted()
    few, more, other = (
        module.sample(None, Given(fields), setting, n, seed).weights
        for n, seed in ((7, 1), (90, 1), (7, 2))
    )
    np.testing.assert_allclose(few, more[:7], rtol=1e-5, atol=1e-5)
    assert few.dtype == np.float32 and not np.allclose(few, other)


@pytest.mark.parametrize("space", ["components", "weights"])
def test_noise_is_in_the_deviations_of_train(space):
    fields, _ = fitted()
    train = train_rows(fields)
    assert np.array_equal(
        np.unique(noise.sample(None, Given(fields), Noise(scale=0), 50, 0).weights, axis=0),
        np.unique(train, axis=0),
    ), "every train field once"
    made = noise.sample(None, Given(fields), Noise(space=space, scale=0.5), 50 * 400, 0).weights
    moved = (made - train[noise.in_turn(50, len(made), 0)]).astype(float)
    wanted = 0.25 * np.cov(train.T.astype(float))
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=0.05 * np.sqrt(wanted.max()))
    if space == "weights":
        np.testing.assert_allclose(moved.var(axis=0), 0.25 * train.var(axis=0), rtol=0.05)
        wanted = np.diag(moved.var(axis=0))
    np.testing.assert_allclose(np.cov(moved.T), wanted, atol=0.05 * wanted.max())
    if space == "components":
        assert np.linalg.matrix_rank(moved, tol=1e-3) == 5, "no way leads out of the basis"


@pytest.mark.parametrize("neighbours", [1, 3, None])
def test_averages_lie_half_way_between_neighbours(neighbours):
    fields, plain = fitted()
    made = averages.sample(None, Given(fields), Averages(neighbours=neighbours), 40, 0)
    train, first = train_rows(fields), noise.in_turn(50, 40, 0)
    second = 2 * made.weights - train[first]
    apart = np.abs(second[:, None] - train).max(axis=2)
    chosen = apart.argmin(axis=1)
    assert apart.min(axis=1).max() < 1e-4 and (chosen != first).all()
    np.testing.assert_allclose(
        fields.template + made.coefficients @ fields.basis, made.weights, atol=1e-4
    )
    places = averages.whitened(fields, fields.of_split("train"))
    np.testing.assert_allclose(np.cov(places.T), np.eye(5), atol=1e-4)
    rank = np.square(places[first][:, None] - places).sum(axis=2).argsort(axis=1).argsort(axis=1)
    ranks = rank[np.arange(40), chosen]
    assert ranks.max() <= (neighbours or 49) and (neighbours is None) == (ranks.max() > 3)
    again = averages.sample(None, Given(plain), Averages(neighbours=neighbours), 40, 0)
    np.testing.assert_allclose(again.weights, made.weights, atol=1e-4)
    assert again.coefficients is None


def test_classes_are_kept_and_not_mixed():
    fields, _ = fitted(n_classes=3)
    for module, setting in WHICH:
        made = module.sample(None, Given(fields), setting, 50, 0)
        train = fields.of_split("train")
        assert made.labels == [fields.labels[train[i]] for i in noise.in_turn(50, 50, 0)]
    labels = [fields.labels[i] for i in fields.of_split("train")]
    places = np.random.default_rng(0).normal(size=(50, 5))
    assert all(labels[i] == labels[4] for i in averages.partners(places, labels, 4, None))


def test_too_few_fields_are_named():
    fields, _ = fitted(n=8, n_classes=8)
    with pytest.raises(InputError, match="one field of class"):
        averages.sample(None, Given(fields), Averages(), 3, 0)
    fields = dataclasses.replace(fields, splits=["val"] * 8)
    with pytest.raises(InputError, match="no field in the train split"):
        noise.sample(None, Given(fields), Noise(), 3, 0)
