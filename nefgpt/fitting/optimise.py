"""Fits of many fields together, on a GPU or on a CPU."""

import contextlib
from types import ModuleType

import numpy as np

from nefgpt.base.device import has_gpu
from nefgpt.base.errors import InputError
from nefgpt.fields import fused
from nefgpt.fields.fits import Fitted, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.worth import worth_a_gpu
from nefgpt.signals.kind import kind_of

_STEPS = 50  # between looks for fields that are done
_NUMBERS = 1 << 19  # of points, drawn ahead at most


def cosine(step: np.ndarray | int, steps: int) -> np.ndarray:
    """Factor of the learning rate: from 1 down a half cosine, never below 1 %."""
    return np.maximum(0.5 * (1 + np.cos(np.pi * step / steps)), 0.01)


def draw_points(n_points: int, n: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Point numbers int64 [steps, n]: random ones, or all where there are no more."""
    if n >= n_points:
        return np.tile(np.arange(n_points), (steps, 1))
    return rng.integers(n_points, size=(steps, n))


def way_of(spec: FieldSpec, n_fields: int, settings: Optimiser) -> ModuleType:
    """The module of `nefgpt.fields` that computes such fits: `stacked` on a GPU, else `fused`."""
    if worth_a_gpu(spec, n_fields, settings) and has_gpu():
        from nefgpt.fields import stacked  # PyTorch takes longer to load than many a field to fit

        return stacked
    return fused


def _bar(steps: int) -> contextlib.AbstractContextManager:
    from tqdm import tqdm  # takes as long to load as a third of a field's fit

    return tqdm(total=steps, desc="fit", unit="step", mininterval=1)


def fit_fields(
    spec: FieldSpec,
    points: np.ndarray,
    values: np.ndarray,
    start: np.ndarray,
    space: Space,
    settings: Optimiser,
    seed: int,
    progress: bool = True,
    way: ModuleType | None = None,
) -> Fitted:
    """Fit F fields simultaneously with Adam, all weights or their coefficients in a basis.

    Every field sees the same point numbers at the same step, so that fields of similar shapes
    take similar paths. On a CPU a field's result does not depend on the
    others; on a GPU, which rounds products to TF32, it may in its third digit.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    values : float32 [F, N] or [F, N, out_dim], the signal there (for shapes the distance,
        negative inside).
    start : float32 [F, W] initial weights, or [F, k] initial coefficients.
    space : the template and its basis. `settings.pull` draws weights towards the template,
        coefficients towards zero.
    seed : of the point order.
    way : what computes them; None: see `way_of`.
    """
    way = way or way_of(spec, len(values), settings)
    fields = way.Fit(spec, points, spec.target_of(values), start, space, settings)
    steps, per_step = settings.steps, settings.points_per_step
    ahead = max(1, min(_STEPS, _NUMBERS // per_step))
    rng = np.random.default_rng(seed)
    with _bar(steps) if progress else contextlib.nullcontext() as bar:
        for first in range(0, steps, ahead):
            now = np.arange(first, min(first + ahead, steps))
            chosen = draw_points(values.shape[1], per_step, len(now), rng)
            on_cosine = settings.schedule == "cosine"
            if not fields.advance(chosen, cosine(now, steps) if on_cosine else np.ones(len(now))):
                break
            if progress:
                bar.update(len(now))
    return fields.result()


def training_points(spec: FieldSpec, signals: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Points [F, N, in_dim] and values [F, N] or [F, N, out_dim] that fits may see."""
    counts = {len(signal["values"]) for signal in signals}
    if len(counts) != 1:
        raise InputError(f"signals of one job differ in size ({sorted(counts)}); rerun them")
    if any(signal["values"].shape[1:] != spec.signal_shape for signal in signals):
        raise InputError(
            f"the signals have another number of values a point than field.out_dim = "
            f"{spec.out_dim}; rerun them"
        )
    keep = kind_of(spec).training_rows(counts.pop())
    points = np.stack([signal["points"][keep] for signal in signals])
    values = np.stack([signal["values"][keep] for signal in signals])
    return points, values
