"""Whether there is an NVIDIA GPU, and what PyTorch calls it."""

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device() -> "torch.device":
    """The GPU when there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
