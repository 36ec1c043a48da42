"""Where PyTorch computes and how: the GPU if there is one, and subnormal numbers."""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device() -> "torch.device":
    """The GPU when there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _end_workers() -> None:
    """End OpenMP's waiting threads; it starts others when it needs them."""
    with contextlib.suppress(OSError, AttributeError):  # another OpenMP, or an old one
        ctypes.CDLL("libgomp.so.1").omp_pause_resource_all(1)


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Let PyTorch take subnormal numbers for zeros, if the CPU can; also a decorator.

    On Intel's processors one such number costs as much time as many others (docs/cost.md).
    Afterwards all is as it was. The mode is a thread's own, and a thread inherits it from the one
    that starts it, so PyTorch's waiting threads end where it changes.
    """
    import torch

    already = not torch.full((1,), 1e-40).mul_(1).item()
    if already or not torch.set_flush_denormal(True):
        yield
        return
    _end_workers()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        _end_workers()


def has_gpu() -> bool:
    """Whether PyTorch has an NVIDIA GPU to compute on.

    NVIDIA's driver is asked first: to load PyTorch takes longer than to fit a small field.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return False
    return device().type == "cuda"
