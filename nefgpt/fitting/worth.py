"""Which fits are worth a GPU's start."""

import itertools

from nefgpt.fields.settings import Steps
from nefgpt.fields.spec import FieldSpec

# Floating-point operations that a CPU core is done with (at 50 GFLOP/s, docs/fit.md) when PyTorch
# is loaded and a GPU is ready: it takes 1.3 s to load, and the GPU's own start is not short.
_WORTH = 1e11


def flops_per_point(spec: FieldSpec) -> int:
    """Multiplications and additions of a step's matrix products, for one point of one field."""
    widths = [spec.n_inputs, *spec.hidden, spec.out_dim]
    products = [a * b for a, b in itertools.pairwise(widths)]
    # Forward, the weights' gradient, and the inputs' gradient but for the first layer.
    return 2 * (3 * sum(products) - products[0])


def worth_a_gpu(spec: FieldSpec, n_fields: int, settings: Steps) -> bool:
    """Whether fits that are one job take a CPU core longer than it takes to start a GPU."""
    points = n_fields * settings.steps * settings.points_per_step
    return points * flops_per_point(spec) > _WORTH
