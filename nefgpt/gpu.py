"""Whether there is an NVIDIA GPU, what PyTorch calls it, and which fits are worth its start."""

import ctypes
import itertools
from typing import TYPE_CHECKING

from nefgpt.field import FieldSpec

if TYPE_CHECKING:
    import torch

# Floating-point operations that a CPU core is done with (at 50 GFLOP/s, docs/fit.md) when PyTorch
# is loaded and a GPU is ready: it takes 1.3 s to load, and the GPU's own start is not short.
_WORTH = 1e11


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


def flops_per_point(spec: FieldSpec) -> int:
    """Multiplications and additions of a step's matrix products, for one point of one field."""
    widths = [spec.n_inputs, *spec.hidden, 1]
    products = [a * b for a, b in itertools.pairwise(widths)]
    # Forward, the weights' gradient, and the inputs' gradient but for the first layer.
    return 2 * (3 * sum(products) - products[0])


def worth_a_gpu(spec: FieldSpec, n_fields: int, settings: dict) -> bool:
    """Whether fits that are one job take a CPU core longer than it takes to start a GPU.

    Parameters
    ----------
    settings : of the fit; its steps and points_per_step count.
    """
    points = n_fields * settings["steps"] * settings["points_per_step"]
    return points * flops_per_point(spec) > _WORTH
