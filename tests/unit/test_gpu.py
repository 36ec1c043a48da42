"""The question for a GPU: PyTorch is only asked where the driver has one."""

import ctypes
import types

import pytest
import torch

from nefgpt import gpu


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
