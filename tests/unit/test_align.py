import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nefgpt.base.errors import InputError
from nefgpt.fields import fused
from nefgpt.fields.align import align
from nefgpt.fields.spec import FieldSpec, flatten, unflatten

specs = st.builds(
    FieldSpec,
    in_dim=st.integers(2, 3),
    octaves=st.integers(0, 2),
    hidden=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(["gelu", "relu", "silu"]),
    output_bias=st.booleans(),
)


def normal(spec: FieldSpec, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, spec.n_weights)).astype(np.float32)


def permuted(spec: FieldSpec, weights: np.ndarray, seed: int) -> np.ndarray:
    """The same field with the units of every hidden layer in a random order."""
    rng, tensors = np.random.default_rng(seed), unflatten(spec, weights)
    for i, width in enumerate(spec.hidden):
        order = rng.permutation(width)
        for name in (f"layers.{i}.weight", f"layers.{i}.bias"):
            tensors[name] = tensors[name][order]
        name = f"layers.{i + 1}.weight"
        tensors[name] = tensors[name][:, order]
    return flatten(spec, tensors)


@given(specs, st.integers(0, 2**32 - 1))
def test_permuted_copies_come_back_exactly(spec, seed):
    (original,) = normal(spec, 1, seed)
    copies = np.stack([permuted(spec, original, seed + i) for i in range(3)])
    np.testing.assert_array_equal(align(spec, copies, original), np.stack([original] * 3))


@given(specs, st.integers(0, 2**32 - 1))
def test_other_fields_keep_their_function_and_never_move_away(spec, seed):
    fields, (reference,) = normal(spec, 2, seed), normal(spec, 1, seed + 1)
    aligned = align(spec, fields, reference)
    before, after = (np.linalg.norm(x - reference, axis=1) for x in (fields, aligned))
    assert (after <= before * (1 + 1e-6)).all()
    points = np.random.default_rng(seed).random((32, spec.in_dim), np.float32) - 0.5
    # Sums run in another order; deep fields of random weights amplify their last bits.
    for row, found in zip(fields, aligned, strict=True):
        values = (fused.values(spec, field, points) for field in (found, row))
        np.testing.assert_allclose(*values, atol=1e-3, rtol=1e-3)
        np.testing.assert_array_equal(np.sort(row), np.sort(found))


def test_a_noisy_permuted_copy_is_put_back_in_order():
    spec = FieldSpec()
    (original,) = normal(spec, 1, 0)
    noise = 0.1 * normal(spec, 1, 1)[0]
    (found,) = align(spec, permuted(spec, original + noise, 2)[None], original)
    np.testing.assert_array_equal(found, original + noise)


def test_aligning_twice_changes_nothing():
    spec = FieldSpec()
    once = align(spec, normal(spec, 4, 3), normal(spec, 1, 4)[0])
    np.testing.assert_array_equal(align(spec, once, normal(spec, 1, 4)[0]), once)


def test_weights_of_another_specification_or_non_finite_ones_are_refused():
    spec = FieldSpec(hidden=(3,))
    fields = normal(spec, 2, 0)
    with pytest.raises(InputError, match="has 68 weights"):
        align(FieldSpec(hidden=(4,)), fields, fields[0])
    with pytest.raises(InputError, match="non-finite"):
        align(spec, fields, np.full_like(fields[0], np.nan))
