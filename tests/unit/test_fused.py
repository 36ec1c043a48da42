"""The fused passes: torch's own results, whatever the field, the block and the neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nefgpt.base.compiled import threads
from nefgpt.base.vectors import BLOCK
from nefgpt.fields import fused, fused_kernels
from nefgpt.fields.fits import Batch, Space
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fields.stacked import batched, evaluate

SPECS = st.builds(
    FieldSpec,
    in_dim=st.sampled_from([2, 3]),
    octaves=st.integers(0, 4),
    include_input=st.just(True),
    frequency=st.sampled_from([1.0, 6.28]),
    mirror=st.sampled_from([None, 0, 1]),
    hidden=st.lists(st.integers(1, 33), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(["gelu", "relu", "silu"]),
    output_bias=st.booleans(),
    output_activation=st.sampled_from(["tanh", "sigmoid", "none"]),
    out_dim=st.sampled_from([1, 1, 2, 3, 9]),
    target=st.just("brightness"),
)


def problem(spec: FieldSpec, n_fields: int, n_points: int, seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.stack(
        [torch.from_numpy(random_weights(spec, seed + i)) for i in range(n_fields)]
    )
    weights += 0.1 * torch.randn(weights.shape, generator=generator)  # biases too
    points = torch.rand(n_fields, n_points, spec.in_dim, generator=generator) - 0.5
    target = torch.rand(n_fields, n_points, *spec.signal_shape, generator=generator) - 0.5
    chosen = torch.randint(n_points, (n_points,), generator=generator)
    return weights, points, target, chosen


def by_torch(spec, free, anchor, basis, points, target, chosen, loss):
    """What a GPU computes, in float64."""
    tensors = (free, anchor, basis, points, target)
    free, anchor, basis, *signals = [None if t is None else t.double() for t in tensors]
    batch = Batch(*signals, torch.arange(len(free)), chosen)
    return batched(spec, free, Space(anchor, basis), batch, loss)


def by_fused(spec, free, anchor, basis, points, target, chosen, loss):
    space = Space(anchor.numpy(), None if basis is None else basis.numpy())
    batch = Batch(points.numpy(), target.numpy(), np.arange(len(free)), chosen.numpy())
    found = fused.gradients(spec, free.numpy(), space, batch, loss)
    return [torch.from_numpy(array) for array in found]


@settings(max_examples=30, deadline=None)
@given(SPECS, st.sampled_from(["l1", "mse"]), st.integers(1, 300), st.integers(0, 99))
def test_gradients_are_torchs(spec, loss, n_points, seed):
    weights, points, target, chosen = problem(spec, 2, n_points, seed)
    given_ = weights, weights[0], None, points, target, chosen, loss
    for expected, found in zip(by_torch(spec, *given_), by_fused(spec, *given_), strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=2e-5)
    expected = evaluate(spec, weights[:1].double(), points[0].double())[0]
    found = torch.from_numpy(fused.values(spec, weights[0].numpy(), points[0].numpy()))
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("out_dim", [1, 3])
def test_gradients_of_coefficients_are_torchs(out_dim):
    spec = FieldSpec(hidden=(9, 6), out_dim=out_dim, target="brightness")
    weights, points, target, chosen = problem(spec, 3, 200)
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(5, spec.n_weights, generator=generator) * 0.1
    free = torch.randn(3, 5, generator=generator)
    given_ = free, weights[0], basis, points, target, chosen, "l1"
    for expected, found in zip(by_torch(spec, *given_), by_fused(spec, *given_), strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frequency", [1.0, 6.283, 12.566])
def test_encoding_is_exact_at_ten_octaves(frequency):
    points = torch.rand(3, BLOCK, generator=torch.Generator().manual_seed(0)) - 0.5
    columns = np.zeros((63, BLOCK), np.float32)
    fused_kernels._encode(points.numpy(), columns, BLOCK, (10, True, frequency, -1, 3))
    np.testing.assert_array_equal(columns[:3], points)
    angles = (points.numpy() * np.float32(frequency)).astype(float)
    for octave in range(10):
        row = 3 + 6 * octave
        turned = angles * 2**octave
        np.testing.assert_allclose(columns[row : row + 3], np.sin(turned), atol=1e-6)
        np.testing.assert_allclose(columns[row + 3 : row + 6], np.cos(turned), atol=1e-6)


@pytest.mark.parametrize("spec", [FieldSpec(), FieldSpec(out_dim=3, target="brightness")])
def test_neighbours_and_threads_change_no_bit(spec, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    weights, points, target, chosen = problem(spec, 5, 300)
    together = by_fused(spec, weights, weights[0], None, points, target, chosen, "l1")
    field = fused.values(spec, weights[0].numpy(), points[0].numpy())
    for count in (2, 3, 8):
        monkeypatch.setenv("OMP_NUM_THREADS", str(count))
        again = by_fused(spec, weights, weights[0], None, points, target, chosen, "l1")
        assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
        found = fused.values(spec, weights[0].numpy(), points[0].numpy())
        np.testing.assert_array_equal(found, field)
    for i in range(5):
        alone = by_fused(
            spec,
            weights[i : i + 1],
            weights[0],
            None,
            points[i : i + 1],
            target[i : i + 1],
            chosen,
            "l1",
        )
        assert torch.equal(alone[0][0], together[0][i]) and torch.equal(alone[1][0], together[1][i])


@pytest.mark.parametrize(("told", "expected"), [("3", 3), (" 2,1", 2), ("0", 1)])
def test_openmps_number_of_threads_is_ours(told, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads() >= 1


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
@pytest.mark.parametrize("broken", ["weights", "target", "points"])
@pytest.mark.parametrize("out_dim", [1, 3])
def test_nan_is_not_lost(activation, broken, out_dim):
    spec = FieldSpec(activation=activation, out_dim=out_dim, target="brightness")
    weights, points, target, chosen = problem(spec, 2, 200)
    {"weights": weights, "target": target, "points": points}[broken][1] = torch.nan
    losses, gradient = by_fused(spec, weights, weights[0], None, points, target, chosen, "l1")
    assert losses[0].isfinite() and gradient[0].isfinite().all()
    assert losses[1].isnan()
    found = fused.values(spec, weights[1].numpy(), points[1].numpy())
    assert np.isnan(found).all() == (broken != "target")
