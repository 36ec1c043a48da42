"""Principal components by way of coefficients: those of the weights, and what is made with them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.weights import Fields
from nefgpt.generators import gaussian
from nefgpt.generators.components import Differences, differences, principal
from nefgpt.generators.gpt.tokenizer import fit_tokenizer
from nefgpt.generators.kind import Given
from nefgpt.generators.settings import Gaussian, Tokens

SPEC = FieldSpec(hidden=(6, 6))
W = SPEC.n_weights
BASIS = Tokens(kind="basis", n_codes=31, n_components=5)


def fitted(n: int = 60, k: int = 5, seed: int = 0, n_classes: int = 0) -> tuple[Fields, Fields]:
    """The same fields in a basis, as a table with coefficients and as one without."""
    rng = np.random.default_rng(seed)
    template, basis = (rng.normal(size=s).astype(np.float32) for s in (W, (k, W)))
    basis[1] += basis[0]  # a basis need not be orthogonal, nor its directions equally long
    coefficients = (rng.normal(size=(n, k)) * np.arange(1, k + 1)).astype(np.float32)
    labels = [i % n_classes if n_classes else None for i in range(n)]
    splits = ["val" if i % 6 == 0 else "train" for i in range(n)]
    weights, ids = template + coefficients @ basis, [f"s{i}" for i in range(n)]
    plain = Fields(SPEC, template, ids, splits, labels, weights)
    return dataclasses.replace(plain, basis=basis, coefficients=coefficients), plain


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_components_are_those_of_the_weights(seed, n_components):
    known, plain = fitted(seed=seed)
    found = principal(differences(known), n_components)
    exact = (plain.weights - plain.template).astype(float)
    _, spread, rows = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    k = min(n_components, 5)  # what lies beyond the basis is rounding
    assert found.rows.shape == (k, W) and found.rows.dtype == found.mean.dtype == np.float32
    np.testing.assert_allclose(found.deviations, spread[:k] / np.sqrt(59), rtol=1e-5)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.rows @ found.rows.T, np.eye(k), atol=1e-5)
    alike = np.abs((found.rows * rows[:k]).sum(axis=1))
    np.testing.assert_allclose(alike, 1, atol=1e-5)
    assert (found.rows[np.arange(k), np.abs(found.rows).argmax(axis=1)] > 0).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([BASIS, Tokens(kind="scalar", n_codes=31)]))
def test_tokens_are_the_same_by_both_ways(seed, settings):
    made = []
    for fields in fitted(seed=seed):
        train = differences(fields, fields.of_split("train"))
        tokenizer = fit_tokenizer(train, fields.template, settings)
        made.append((tokenizer, tokenizer.encode(differences(fields))))
    (one, tokens), (other, expected) = made
    assert tokens.dtype == np.uint16 and tokens.shape == (60, one.sequence_length)
    differ = tokens != expected
    if differ.any():  # a score within rounding of a border between two codes
        scores = one.scores(differences(fitted(seed=seed)[0]))[differ]
        borders = (one.codes[1:] + one.codes[:-1]) / 2
        assert np.abs(scores[:, None] - borders).min(axis=1).max() < 1e-4
    assert differ.mean() < 0.01
    np.testing.assert_allclose(one.decode(expected), other.decode(expected), atol=1e-3)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_gaussian_is_the_same_by_both_ways(n_classes):
    made, expected = (
        gaussian.sample(
            gaussian.load(Given(fields)), Given(fields), Gaussian(n_components=4), 40, seed=7
        )
        for fields in fitted(n_classes=n_classes)
    )
    assert made.weights.dtype == np.float32 and made.weights.shape == (40, W)
    assert made.labels == expected.labels
    most = np.abs(expected.weights).max()
    np.testing.assert_allclose(made.weights, expected.weights, atol=1e-5 * most)


def test_directions_that_depend_on_others_are_no_components():
    known, plain = fitted(k=4)
    basis = np.concatenate([known.basis, known.basis[:2]])
    coefficients = np.concatenate([known.coefficients, known.coefficients[:, :2]], axis=1)
    coefficients[:, :2] *= 0.5
    coefficients[:, 4:] *= 0.5
    twice = dataclasses.replace(known, basis=basis, coefficients=coefficients)
    train = differences(twice)
    np.testing.assert_allclose(train.weights(), plain.weights - plain.template, atol=1e-4)
    found = principal(train, 6)
    np.testing.assert_allclose(found.deviations[4:], 0, atol=1e-9)
    tokenizer = fit_tokenizer(train, twice.template, dataclasses.replace(BASIS, n_components=6))
    back = tokenizer.decode(tokenizer.encode(train))
    assert np.square(back - plain.weights).mean() < 0.01 * plain.weights.var()


def test_more_directions_than_weights():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(9, 4)).astype(np.float32)
    train = Differences(rng.normal(size=(30, 9)).astype(np.float32), basis)
    found, expected = (principal(d, 20) for d in (train, Differences(train.weights())))
    np.testing.assert_allclose(found.rows, expected.rows, atol=1e-4)
    np.testing.assert_allclose(found.deviations, expected.deviations, rtol=1e-4)


@pytest.mark.parametrize("which", [0, 1], ids=["coefficients", "weights"])
def test_equal_fields_come_back(which):
    fields = fitted()[which]
    train = differences(fields, np.zeros(9, int))
    tokenizer = fit_tokenizer(train, fields.template, BASIS)
    assert np.isfinite(tokenizer.codes).all()
    back = tokenizer.decode(tokenizer.encode(train))
    np.testing.assert_allclose(back, fields.weights[[0] * 9], atol=1e-4)
    made = fields.template + gaussian.gaussian(gaussian.components(train), 3, 4, seed=0)
    np.testing.assert_allclose(made, fields.weights[[0] * 3], atol=1e-4)


@pytest.mark.parametrize("which", [0, 1], ids=["coefficients", "weights"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(which, bad):
    fields = fitted()[which]
    tokenizer = fit_tokenizer(differences(fields), fields.template, BASIS)
    (fields.weights if which else fields.coefficients)[7, 2] = bad
    broken = differences(fields)
    for use in (
        tokenizer.encode,
        lambda train: fit_tokenizer(train, fields.template, BASIS),
        lambda train: gaussian.gaussian(gaussian.components(train), 3, 4, seed=0),
    ):
        with pytest.raises(InputError, match=r"not finite.*anew"):
            use(broken)
