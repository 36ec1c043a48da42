"""The question for a GPU: PyTorch is only asked where the driver has one."""

import ctypes
import types

import pytest
import torch

from nefgpt import fit, fused, gpu, stacked
from nefgpt.field import FieldSpec


def driver(status: int, devices: int) -> types.SimpleNamespace:
    """NVIDIA's library, as far as it is asked."""

    def count(pointer) -> int:
        pointer._obj.value = devices
        return status

    return types.SimpleNamespace(cuInit=lambda flags: status, cuDeviceGetCount=count)


@pytest.mark.parametrize(
    ("status", "devices", "usable", "expected"),
    [(0, 1, True, True), (0, 1, False, False), (0, 0, None, False), (100, 1, None, False)],
)
def test_has_gpu(status, devices, usable, expected, monkeypatch):
    """`usable` is what PyTorch says; None: it must not be asked."""
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(status, devices))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(1) or usable)
    assert gpu.has_gpu() == expected and bool(asked) == (usable is not None)


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not gpu.has_gpu()


def test_a_gpu_is_for_fits_that_take_long(monkeypatch):
    """3,712 weights: 6 x them less biases and the first layer's inputs, for every point."""
    paper = FieldSpec(hidden=(32,) * 4)
    assert gpu.flops_per_point(paper) == 2 * (3 * (15 * 32 + 3 * 32 * 32 + 32) - 15 * 32)
    long = {"steps": 7200, "points_per_step": 8192}
    short = {"steps": 300, "points_per_step": 2048}
    answers = [gpu.worth_a_gpu(paper, *job) for job in ((1, long), (1, short), (64, short))]
    assert answers == [True, False, True]
    for has_gpu, job, expected in (
        (True, long, stacked),
        (True, short, fused),
        (False, long, fused),
    ):
        monkeypatch.setattr(fit, "has_gpu", lambda answer=has_gpu: answer)
        assert fit.way_of(paper, 1, job) is expected
