"""The question for a GPU: PyTorch is only asked where the driver has one."""

import ctypes
import types

import pytest
import torch

from nefgpt.base import device as gpu
from nefgpt.fields import fused, stacked
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import optimise, worth


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
    assert worth.flops_per_point(paper) == 2 * (3 * (15 * 32 + 3 * 32 * 32 + 32) - 15 * 32)
    long = Optimiser(steps=7200, points_per_step=8192)
    short = Optimiser(steps=300, points_per_step=2048)
    answers = [worth.worth_a_gpu(paper, *job) for job in ((1, long), (1, short), (64, short))]
    assert answers == [True, False, True]
    for has_gpu, job, expected in (
        (True, long, stacked),
        (True, short, fused),
        (False, long, fused),
    ):
        monkeypatch.setattr(optimise, "has_gpu", lambda answer=has_gpu: answer)
        assert optimise.way_of(paper, 1, job) is expected


def kept() -> int:
    """How many subnormals survive in an operation that all of PyTorch's threads take part in."""
    return int((torch.full((1 << 20,), 1e-40) * 1).view(torch.int32).count_nonzero())


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the CPU has no such mode")
def test_subnormals_are_zeros_in_all_threads_and_only_while_computing():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        all_kept = 1 << 20
        assert kept() == all_kept, "PyTorch's second thread has started"
        with gpu.computing():
            assert kept() == 0
            with gpu.computing():
                assert kept() == 0
            assert kept() == 0, "the inner one changed nothing"
        assert kept() == all_kept
        with pytest.raises(KeyError), gpu.computing():
            raise KeyError
        assert kept() == all_kept
        torch.set_flush_denormal(True)
        with gpu.computing():
            pass
        assert not (torch.full((1,), 1e-40) * 1).view(torch.int32).any(), "as it was"
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


def test_a_cpu_without_the_mode_computes_as_it_is(monkeypatch):
    monkeypatch.setattr(torch, "set_flush_denormal", lambda mode: False)
    with gpu.computing():
        assert kept() == 1 << 20
