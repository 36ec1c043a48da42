import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nefgpt.align import align
from nefgpt.errors import InputError
from nefgpt.field import FieldSpec, evaluate, flatten, unflatten

specs = st.builds(
    FieldSpec,
    in_dim=st.integers(2, 3),
    octaves=st.integers(0, 2),
    hidden=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(["gelu", "relu", "silu"]),
    output_bias=st.booleans(),
)


def normal(spec: FieldSpec, n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, spec.n_weights, generator=torch.Generator().manual_seed(seed))


def permuted(spec: FieldSpec, weights: torch.Tensor, seed: int) -> torch.Tensor:
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
    copies = torch.stack([permuted(spec, original, seed + i) for i in range(3)])
    assert torch.equal(align(spec, copies, original), original.expand(3, -1))


@given(specs, st.integers(0, 2**32 - 1))
def test_other_fields_keep_their_function_and_never_move_away(spec, seed):
    fields, (reference,) = normal(spec, 2, seed), normal(spec, 1, seed + 1)
    aligned = align(spec, fields, reference)
    before, after = ((x - reference).norm(dim=1) for x in (fields, aligned))
    assert (after <= before * (1 + 1e-6)).all()
    points = torch.rand(32, spec.in_dim, generator=torch.Generator().manual_seed(seed)) - 0.5
    # Sums run in another order; deep fields of random weights amplify their last bits.
    torch.testing.assert_close(
        evaluate(spec, aligned, points), evaluate(spec, fields, points), atol=1e-3, rtol=1e-3
    )
    for row, found in zip(fields, aligned, strict=True):
        assert torch.equal(row.sort().values, found.sort().values)


def test_a_noisy_permuted_copy_is_put_back_in_order():
    spec = FieldSpec()
    (original,) = normal(spec, 1, 0)
    noise = 0.1 * normal(spec, 1, 1)[0]
    (found,) = align(spec, permuted(spec, original + noise, 2)[None], original)
    assert torch.equal(found, original + noise)


def test_aligning_twice_changes_nothing():
    spec = FieldSpec()
    once = align(spec, normal(spec, 4, 3), normal(spec, 1, 4)[0])
    assert torch.equal(align(spec, once, normal(spec, 1, 4)[0]), once)


def test_weights_of_another_specification_or_non_finite_ones_are_refused():
    spec = FieldSpec(hidden=(3,))
    fields = normal(spec, 2, 0)
    with pytest.raises(InputError, match="has 68 weights"):
        align(FieldSpec(hidden=(4,)), fields, fields[0])
    with pytest.raises(InputError, match="non-finite"):
        align(spec, fields, torch.full_like(fields[0], torch.nan))
