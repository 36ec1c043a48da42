"""Fits in PyTorch, as a GPU makes them: those of the fused passes, as far as rounding lets them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nefgpt.fields import fused, stacked
from nefgpt.fields.fits import Fitted, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import optimise

SPEC = FieldSpec(hidden=(8, 8), mirror=0)
SETTINGS = Optimiser(points_per_step=128, pull=1e-3, loss="mse", steps=120)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


@pytest.fixture(autouse=True, params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def where(request, monkeypatch):
    """Where PyTorch computes."""
    monkeypatch.setattr(stacked, "device", lambda: torch.device(request.param))


def both(basis=None, broken=None, **changed) -> tuple[Fitted, Fitted]:
    """The same four fits of balls by the fused passes and by PyTorch."""
    rng = np.random.default_rng(0)
    points = rng.random((4, 1000, 3), np.float32) - 0.5
    values = np.linalg.norm(points, axis=2) - np.float32([0.1, 0.2, 0.3, 0.4])[:, None]
    if broken is not None:
        values[broken] = np.nan
    anchor = random_weights(SPEC, 0)
    start = np.stack([anchor] * 4) if basis is None else np.zeros((4, len(basis)), np.float32)
    space = Space(anchor, basis)
    fields = SPEC, points, values, start, space, replace(SETTINGS, **changed), 0
    return tuple(optimise.fit_fields(*fields, progress=False, way=way) for way in (fused, stacked))


@pytest.mark.parametrize("changed", [{}, {"averaging": 0.9}, {"schedule": "plateau"}])
@pytest.mark.parametrize("in_basis", [False, True])
def test_fits_are_the_fused_ones(changed, in_basis):
    rng = np.random.default_rng(1)
    basis = rng.normal(0, 0.1, (5, SPEC.n_weights)).astype(np.float32) if in_basis else None
    expected, found = both(basis, **changed)
    tolerance = 2e-3 if stacked.device().type == "cpu" else 2e-2  # a GPU rounds to TF32
    np.testing.assert_allclose(found.weights, expected.weights, atol=tolerance)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=0.01)
    assert found.steps.tolist() == expected.steps.tolist() == [120] * 4
    assert found.failed.tolist() == expected.failed.tolist() == [-1] * 4
    if not in_basis:
        assert found.coefficients is expected.coefficients is None
        return
    np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=10 * tolerance)
    for made in (found, expected):
        weights = random_weights(SPEC, 0) + made.coefficients @ basis
        np.testing.assert_allclose(weights, made.weights, atol=tolerance / 100)


def test_fits_of_several_outputs_are_the_fused_ones():
    spec = FieldSpec(in_dim=2, hidden=(8,), out_dim=3, target="brightness", output_bias=True)
    rng = np.random.default_rng(0)
    points = 2 * rng.random((2, 500, 2), np.float32) - 1
    values = rng.random((2, 1, 3), np.float32) * (points[..., :1] > 0)
    anchor = random_weights(spec, 0)
    settings = Optimiser(steps=200, points_per_step=128, loss="mse")
    fields = spec, points, values, np.stack([anchor] * 2), Space(anchor), settings, 0
    ways = [optimise.fit_fields(*fields, progress=False, way=way) for way in (fused, stacked)]
    tolerance = 2e-3 if stacked.device().type == "cpu" else 2e-2
    np.testing.assert_allclose(ways[1].weights, ways[0].weights, atol=tolerance)
    np.testing.assert_allclose(ways[1].losses, ways[0].losses, rtol=0.01)
    found = np.stack(
        [fused.values(spec, w, p) for w, p in zip(ways[0].weights, points, strict=True)]
    )
    assert np.square(found - values).mean(axis=(0, 1)).max() < 0.02, "of every output"


def test_a_broken_signal_fails_in_both_and_alone():
    clean, broken = both()[1], both(broken=2)
    for found in broken:
        assert found.failed.tolist() == [-1, -1, 0, -1]
        assert found.steps.tolist() == [120, 120, 0, 120] and np.isnan(found.losses[2])
    others = [0, 1, 3]
    np.testing.assert_allclose(broken[1].weights[others], clean.weights[others], atol=1e-5)


def test_both_stop_where_a_loss_stalls():
    """At this rate nothing improves: ten halvings, each after 200 steps, and the last stall."""
    changed = {"schedule": "plateau", "steps": 3000, "learning_rate": 1e-9, "pull": 0.0}
    for found in both(points_per_step=1000, **changed):
        # All points at every step: the loss never changes.
        assert found.steps.tolist() == [1 + 11 * 201] * 4


def test_torch_computes_the_same_values_as_the_fused_passes():
    weights = np.stack([random_weights(SPEC, i) for i in range(3)])
    points = np.random.default_rng(0).random((50, 3), np.float32) - 0.5
    tensors = (torch.from_numpy(array).to(stacked.device()) for array in (weights, points))
    found = stacked.evaluate(SPEC, *tensors).cpu()
    expected = [fused.values(SPEC, field, points) for field in weights]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_pack_is_cut_to_the_memory_of_the_gpu(monkeypatch):
    """A step of one field takes 4 bytes x 2.5 numbers x (15 + 16) x 128 points, of half of it."""
    settings = replace(SETTINGS, points_per_step=128)
    one = 2 * 4 * 2.5 * (15 + 16) * 128
    for free, expected in ((100 * one, 100), (1.5 * one, 1), (0, 1), (10**15, 512)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 10**12))
        assert stacked.at_once(SPEC, settings) == expected
