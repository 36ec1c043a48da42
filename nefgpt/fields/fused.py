"""Fields on the CPU: forward and backward pass fused over blocks of points that stay in cache.

A library's matrix product writes every activation to memory and reads it back; in fields, which
are narrow, that takes longer than the arithmetic. Here a block of points goes through all layers
and back before the next begins. One thread computes a field, in a fixed order, so its numbers do
not depend on which others are computed with it.
"""

import itertools
import math

import numpy as np

from nefgpt.base.compiled import D1, F1, F2, F3, I1, I2, Array, Compiled, in_threads, threads
from nefgpt.base.registers import BLOCK, ROWS
from nefgpt.fields.fits import Batch, Fitted, Rule, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec

_AT_ONCE = 16  # fields, or more where there are more threads, that are fitted before any is written
_ACTIVATIONS = {"gelu": 0, "relu": 1, "silu": 2}
_OUTPUTS = {"tanh": 0, "sigmoid": 1, "none": 2}
_LOSSES = {"l1": 0, "mse": 1}
# Of Adam (Kingma and Ba 2015), and of the plateau: a field's rate is halved when its smoothed loss
# has not come below a share of its lowest for so many steps. They stand here because machine code
# is kept until this file changes.
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8
SMOOTHING, IMPROVED, PATIENCE = 0.02, 0.999, 200
_PROGRESS = np.dtype(  # of one field's fit
    [
        ("rate", "f8"),
        ("best", "f8"),
        ("smoothed", "f8"),
        ("stalled", "i8"),
        ("loss", "f4"),
        ("failed", "i8"),
        ("steps", "i8"),
        ("done", "i8"),
    ],
    align=True,
)


_ABOUT = I1, I1, (int, int, float, int, int), (int, int, int, int)  # see `_about`
_WORK = F3, F2, F3, F3, F3, F3, F2, F1, F1  # see `_workspace`
_each = Compiled(__name__, "each", F2, F1, F2, F3, F3, I1, I1, _ABOUT, F1, F2, _WORK, (F1, F1))
_STATE = F3, Array(_PROGRESS, 1), F2
_FIXED, _RULE = (F1, F2, F1), (float, float, int, float)
_advance = Compiled(
    __name__, "advance", I1, F3, F3, I2, D1, _FIXED, _ABOUT, _RULE, _STATE, _WORK, (F1, F1, F1)
)
_values = Compiled(__name__, "values", F1, F2, _ABOUT, F2, _WORK, I1)


def _aligned(shapes: list[tuple[int, ...]]) -> tuple:
    """Zeros float32 that begin where a vector register's line of memory does."""
    sizes = [-(-math.prod(shape) // 16) * 16 for shape in shapes]
    memory = np.zeros(sum(sizes) + 16, np.float32)
    begin = (-memory.ctypes.data // 4) % 16
    ends = itertools.accumulate(sizes, initial=begin)
    places = zip(shapes, ends, strict=False)
    return tuple(memory[at : at + math.prod(shape)].reshape(shape) for shape, at in places)


def _workspace(about: tuple, in_dim: int, learns: bool) -> tuple:
    """Memory for one field's block of points: what the compiled functions write.

    What lies beyond a field's own widths stays zero. Without `learns` the passes backward have no
    memory.

    Returns
    -------
    panels, totals, biases, values, slopes, what arrives from behind, points, outputs, targets.
    """
    layers, most = len(about[1]) - 1, int(about[1].max())
    back = layers if learns else 1
    matrices = (2, layers, most * most), (back, most * most), (2, layers, most)
    rows = (layers, most, BLOCK), (back, most, BLOCK), (back, most, BLOCK)
    outputs = (about[0][-1] * BLOCK,)
    return _aligned([*matrices, *rows, (in_dim, BLOCK), outputs, outputs])


def at_once(spec: FieldSpec, settings: Optimiser) -> int:
    """How many fields of a pack to fit together."""
    return max(_AT_ONCE, threads())


def _about(spec: FieldSpec, loss: str = "l1") -> tuple:
    """A specification as the compiled functions take it."""
    widths = np.array([spec.n_inputs, *spec.hidden, spec.out_dim])
    padded = -(-widths // ROWS) * ROWS
    mirror = -1 if spec.mirror is None else spec.mirror
    encoding = (spec.octaves, spec.include_input, spec.frequency, mirror, spec.in_dim)
    activation, output = _ACTIVATIONS[spec.activation], _OUTPUTS[spec.output_activation]
    return widths, padded, encoding, (activation, output, _LOSSES[loss], spec.output_bias)


def gradients(
    spec: FieldSpec,
    free: np.ndarray,
    space: Space,
    batch: Batch,
    loss: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of F fields at points of the same numbers, and their gradients.

    Parameters
    ----------
    free : float32 [F, W] weights, or [F, k] coefficients in the basis.
    loss : "l1" or "mse".

    Returns
    -------
    mean losses float32 [F], and the gradient of each with respect to its row of `free`.
    """
    (anchor, basis), (points, target, rows, chosen) = space, batch
    losses, gradient = np.empty(len(free), np.float32), np.empty_like(free)
    target = target.reshape(*points.shape[:2], spec.out_dim)
    basis = np.zeros((0, len(anchor)), np.float32) if basis is None else basis
    about = _about(spec, loss)

    def some(part: slice) -> None:
        fields = free[part], anchor, basis, points, target, rows[part], chosen
        spare = np.empty_like(anchor), np.empty_like(anchor)
        work = _workspace(about, points.shape[2], True)
        _each(*fields, about, losses[part], gradient[part], work, spare)

    in_threads(some, len(free))
    return losses, gradient


class Fit:
    """Fits of F fields, step by step, every one in the thread that has it.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    target : float32 [F, N] or [F, N, out_dim].
    start : float32 [F, W] weights, or [F, k] coefficients in the basis.
    space : the pull draws weights to its anchor, coefficients to zero.
    """

    def __init__(
        self,
        spec: FieldSpec,
        points: np.ndarray,
        target: np.ndarray,
        start: np.ndarray,
        space: Space,
        settings: Optimiser,
    ) -> None:
        (anchor, basis), (n, free) = space, start.shape
        target = np.ascontiguousarray(target).reshape(*points.shape[:2], spec.out_dim)
        self.signals = np.ascontiguousarray(points), target
        origin = anchor if basis is None else np.zeros(free, np.float32)
        basis = np.zeros((0, len(anchor)), np.float32) if basis is None else basis
        self.fixed, self.about = (anchor, basis, origin), _about(spec, settings.loss)
        self.rule = Rule.of(settings)
        self.moments = np.zeros((n, 4, free), np.float32)
        self.moments[:, 0] = self.moments[:, 3] = start
        self.progress = np.zeros(n, _PROGRESS)
        self.progress["rate"], self.progress["best"] = settings.learning_rate, np.inf
        self.progress["failed"], self.progress["loss"] = -1, np.nan
        self.weights = np.empty((n, len(anchor)), np.float32)

    def advance(self, chosen: np.ndarray, factors: np.ndarray) -> bool:
        """Take some steps; whether a field still goes on after them.

        Parameters
        ----------
        chosen : int64 [steps, n], numbers of the points to use.
        factors : float64 [steps], of the learning rate.
        """
        rows = np.flatnonzero(self.progress["done"] == 0)
        state = self.moments, self.progress, self.weights

        def some(part: slice) -> None:
            signals = *self.signals, chosen, factors
            rules = self.fixed, self.about, self.rule
            work = _workspace(self.about, self.signals[0].shape[2], True)
            spare = tuple(np.empty_like(self.fixed[i]) for i in (0, 0, 2))
            _advance(rows[part], *signals, *rules, state, work, spare)

        in_threads(some, len(rows))
        return not self.progress["done"].all()

    def result(self) -> Fitted:
        """What the fits have found so far."""
        free = self.moments[:, 3 if self.rule.averaging else 0]
        coefficients = free.copy() if len(self.fixed[1]) else None
        rest = (self.progress[name].copy() for name in ("loss", "failed", "steps"))
        return Fitted(coefficients, self.weights, *rest)


def values(spec: FieldSpec, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of one field [W] at points float32 [N, in_dim] in field coordinates.

    float32 [N] of one output, else [N, out_dim].
    """
    result, about = np.empty((len(points), spec.out_dim), np.float32), _about(spec)

    def some(part: slice) -> None:
        work = _workspace(about, points.shape[1], False)
        _values(weights, points[part], about, result[part], work, np.arange(BLOCK))

    in_threads(some, len(points))
    return result.reshape(-1, *spec.signal_shape)
