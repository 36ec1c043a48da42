"""Fields on the CPU: forward and backward pass fused over blocks of points that stay in cache.

A library's matrix product writes every activation to memory and reads it back; in fields, which
are narrow, that takes longer than the arithmetic. Here a block of points goes through all layers
and back before the next begins. One thread computes a field, in a fixed order, so its numbers do
not depend on which others are computed with it.
"""

import numba
import numpy as np

from nefgpt.base.compiled import MATH, compiled, in_threads, threads
from nefgpt.base.vectors import (
    BLOCK,
    LANES,
    LEFT,
    RIGHT,
    ROWS,
    STEP,
    affine,
    backward,
    flush_subnormals,
    gelu,
    gelu_only,
    outer,
    relu,
    relu_only,
    restore_mode,
    sigmoid,
    silu,
    silu_only,
    sine_cosine,
    tanh,
    weighted,
)
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec

_AT_ONCE = 16  # fields, or more where there are more threads, that are fitted before any is written
_ACTIVATIONS = {"gelu": 0, "relu": 1, "silu": 2}
_OUTPUTS = {"tanh": 0, "sigmoid": 1, "none": 2}
_LOSSES = {"l1": 0, "mse": 1}
# Of Adam (Kingma and Ba 2015), and of the plateau: a field's rate is halved when its smoothed loss
# has not come below a share of its lowest for so many steps; the least rate is the first over 1000.
# They stand here because machine code is kept until this file changes.
MEAN_DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8
SMOOTHING, IMPROVED, PATIENCE, RATE_SPAN = 0.02, 0.999, 200, 1000
_F = np.float32
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


@numba.njit(**MATH)
def _aligned(n):
    """Zeros float32 [n] that begin where a vector register's line of memory does."""
    numbers = np.zeros(n + 16, np.float32)
    skipped = (-numbers.ctypes.data // 4) % 16
    return numbers[skipped : skipped + n]


@numba.njit(**MATH)
def _workspace(about, in_dim, learns):
    """Memory for one field's block of points: what `_gradient` and `_values` write.

    What lies beyond a field's own widths stays zero. Without `learns` the passes backward have no
    memory.
    """
    padded = about[1]
    layers, most, n = len(padded) - 1, padded.max(), BLOCK
    back = layers if learns else 1
    panels = _aligned(2 * layers * most * most).reshape(2, layers, most * most)
    totals = _aligned(back * most * most).reshape(back, most * most)
    biases = _aligned(2 * layers * most).reshape(2, layers, most)
    values = _aligned(layers * most * n).reshape(layers, most, n)
    slopes = _aligned(back * most * n).reshape(back, most, n)
    arriving = _aligned(back * most * n).reshape(back, most, n)
    points = _aligned((in_dim + 2) * n).reshape(in_dim + 2, n)
    return panels, totals, biases, values, slopes, arriving, points


@numba.njit(**MATH)
def _encode(points, columns, m, encoding):
    """columns[:, :m] = the encoding of points [in_dim, m], which a mirror folds; see
    `nefgpt.fields.stacked.encode`. Rows hold `BLOCK` numbers, m is a multiple of LANES."""
    octaves, include_input, frequency, mirror, in_dim = encoding
    row = 0
    if mirror >= 0:
        for p in range(m):
            points[mirror, p] = abs(points[mirror, p])
    if include_input:
        for d in range(in_dim):
            for p in range(m):
                columns[row, p] = points[d, p]
            row += 1
    factor = _F(frequency)
    for _ in range(octaves):
        for d in range(in_dim):
            for p in range(0, m, LANES):
                sine_cosine(points, d, p, factor, columns, row + d, row + in_dim + d)
        row += 2 * in_dim
        factor *= _F(2)


@numba.njit(**MATH)
def _activate(values, slopes, n, m, activation):
    """Replace values[:n, :m] by the activation there; `slopes` gets its derivative."""
    for j in range(n):
        if activation == 0:
            for p in range(0, m, LANES):
                gelu(values, j, p, slopes)
        elif activation == 1:
            for p in range(0, m, LANES):
                relu(values, j, p, slopes)
        else:
            for p in range(0, m, LANES):
                silu(values, j, p, slopes)


@numba.njit(**MATH)
def _activate_only(values, n, m, activation):
    """Replace values[:n, :m] by the activation there."""
    for j in range(n):
        if activation == 0:
            for p in range(0, m, LANES):
                gelu_only(values, j, p)
        elif activation == 1:
            for p in range(0, m, LANES):
                relu_only(values, j, p)
        else:
            for p in range(0, m, LANES):
                silu_only(values, j, p)


@numba.njit(**MATH)
def _output(weights, bias, inputs, values, n_in, m, output):
    """values[:m] = the output unit's value."""
    for p in range(0, m, STEP):
        weighted(weights, 0, n_in, inputs, p, bias, values)
    if output == 0:
        for p in range(0, m, LANES):
            tanh(values, p)
    elif output == 1:
        for p in range(0, m, LANES):
            sigmoid(values, p)


@numba.njit(**MATH)
def _unpack(flat, about, panels, biases):
    """Lay out flat [W] as `affine` and `backward` read it: panels of ROWS rows, column by column.

    panels[0] has the weights, panels[1] their transposes; the output's weights are one row.
    """
    widths, _, _, codes = about
    at, last, output_bias = 0, len(widths) - 2, codes[3]
    for layer in range(last):
        n_in, n_out = widths[layer], widths[layer + 1]
        for j in range(n_out):
            start, place = j // ROWS * ROWS * n_in, j % ROWS
            for i in range(n_in):
                panels[0, layer, start + i * ROWS + place] = flat[at]
                panels[1, layer, i // ROWS * ROWS * n_out + j * ROWS + i % ROWS] = flat[at]
                at += 1
        for j in range(n_out):
            biases[layer, j] = flat[at]
            at += 1
    for i in range(widths[last]):
        panels[0, last, i] = flat[at]
        at += 1
    biases[last, 0] = flat[at] if output_bias else _F(0)


@numba.njit(**MATH)
def _pack(totals, biases, about, flat):
    """Flat gradient [W] from its matrices, whose rows are padded, and biases."""
    widths, padded, _, codes = about
    at, last, output_bias = 0, len(widths) - 2, codes[3]
    for layer in range(last + 1):
        for j in range(widths[layer + 1]):
            for i in range(widths[layer]):
                flat[at] = totals[layer, j * padded[layer] + i]
                at += 1
        if layer < last or output_bias:
            for j in range(widths[layer + 1]):
                flat[at] = biases[layer, j]
                at += 1


@numba.njit(**MATH)
def _layer(panel, bias, inputs, outputs, n_out, n_in, m):
    """outputs[:n_out, :m] = the panel's matrix @ inputs[:n_in, :m] + bias."""
    for p in range(0, m, STEP):
        for j in range(0, n_out, ROWS):
            affine(panel, j * n_in, n_in, inputs, p, bias, outputs, j)


@numba.njit(**MATH)
def _place(points, chosen, start, m, coordinates):
    """Copy m points [N, in_dim] to columns; how many columns are to be computed with them."""
    for p in range(m):
        point = chosen[start + p]
        for d in range(points.shape[1]):
            coordinates[d, p] = points[point, d]
    whole = -(-m // STEP) * STEP
    for d in range(points.shape[1]):
        coordinates[d, m:whole] = 0
    return whole


@numba.njit(**MATH)
def _gradient(flat, points, target, chosen, about, work, gradient):
    """Mean loss of one field at the chosen points; `gradient` [W] gets its gradient."""
    widths, padded, encoding, codes = about
    activation, output, loss_kind, _ = codes
    panels, totals, (biases, bias_totals), values, slopes, back, scratch = work
    last, n = len(widths) - 2, len(chosen)
    coordinates, out, wanted = scratch[:-2], scratch[-2], scratch[-1]
    totals[:] = 0
    bias_totals[:] = 0
    _unpack(flat, about, panels, biases)
    loss = 0.0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        whole = _place(points, chosen, start, m, coordinates)
        for p in range(m):
            wanted[p] = target[chosen[start + p]]
        _encode(coordinates, values[0], whole, encoding)
        for i in range(last):
            sizes = padded[i + 1], widths[i], whole
            _layer(panels[0, i], biases[i], values[i], values[i + 1], *sizes)
            _activate(values[i + 1], slopes[i], padded[i + 1], whole, activation)
        _output(panels[0, last], biases[last], values[last], out, widths[last], whole, output)
        block = _F(0)
        for p in range(m):
            y = out[p]
            error = y - wanted[p]
            if output == 0:
                slope = _F(1) - y * y
            elif output == 1:
                slope = y * (_F(1) - y)
            else:
                slope = _F(1)
            if loss_kind == 0:
                block += abs(error)
                sign = _F(1) if error > 0 else (_F(-1) if error < 0 else _F(0))
                out[p] = sign * slope / _F(n)
            else:
                block += error * error
                out[p] = _F(2) * error * slope / _F(n)
        loss += block
        out[m:whole] = 0
        top = back[last]
        for i in range(widths[last]):
            w, summed = panels[0, last, i], _F(0)
            for p in range(whole):
                summed += out[p] * values[last, i, p]
                top[i, p] = out[p] * w * slopes[last - 1, i, p]
            totals[last, i] += summed
        summed = _F(0)
        for p in range(whole):
            summed += out[p]
        bias_totals[last, 0] += summed
        for i in range(last - 1, -1, -1):
            arriving = back[i + 1]
            for j in range(0, padded[i + 1], LEFT):
                for k in range(0, padded[i], RIGHT):
                    outer(arriving, j, values[i], k, whole, totals[i], 0, padded[i])
            for j in range(widths[i + 1]):
                summed = _F(0)
                for p in range(whole):
                    summed += arriving[j, p]
                bias_totals[i, j] += summed
            if i:
                n_in = widths[i + 1]
                for p in range(0, whole, STEP):
                    for j in range(0, padded[i], ROWS):
                        matrix = panels[1, i], j * n_in, n_in
                        backward(*matrix, arriving, p, slopes[i - 1], back[i], j)
    _pack(totals, bias_totals, about, gradient)
    return loss / n


@numba.njit(**MATH)
def _mix(free, anchor, basis, flat):
    """flat = the weights [W] that `free` [W], or [k] in a basis, stands for."""
    if len(basis) == 0:
        flat[:] = free
    else:
        flat[:] = anchor
        for k in range(len(basis)):
            for w in range(len(flat)):
                flat[w] += free[k] * basis[k, w]


@numba.njit(**MATH)
def _slope(free, anchor, basis, points, target, chosen, about, work, flat, inner, gradient):
    """Loss of one field; `gradient` gets that of `free`, `inner` that of the weights `flat`."""
    _mix(free, anchor, basis, flat)
    loss = _gradient(flat, points, target, chosen, about, work, inner)
    if len(basis) == 0:
        gradient[:] = inner
    for k in range(len(basis)):
        summed = _F(0)
        for w in range(len(flat)):
            summed += inner[w] * basis[k, w]
        gradient[k] = summed
    return loss


@compiled
def _each(free, anchor, basis, points, target, rows, chosen, about, losses, gradient):
    """Losses and gradients of F fields; see `gradients`."""
    flat, inner = np.empty_like(anchor), np.empty_like(anchor)
    work, mode = _workspace(about, points.shape[2], True), flush_subnormals()
    for f in range(len(free)):
        signal = points[rows[f]], target[rows[f]], chosen
        losses[f] = _slope(free[f], anchor, basis, *signal, about, work, flat, inner, gradient[f])
    restore_mode(mode)


@compiled
def _advance(rows, points, target, chosen, factors, fixed, about, rule, moments, progress, weights):
    """Steps of fields `rows` at the points `chosen` [steps, n]; see `Fit`.

    Parameters
    ----------
    factors : float64 [steps], of the learning rate.
    fixed : anchor, basis, and what the pull draws to.
    moments : float32 [F, 4, P]: parameters, mean and mean square of their gradients, average.
    progress : _PROGRESS [F].
    weights : float32 [F, W]; gets the fields.
    """
    anchor, basis, origin = fixed
    pull, decay, plateau, least_rate = rule
    flat, inner, gradient = np.empty_like(anchor), np.empty_like(anchor), np.empty_like(origin)
    work, mode = _workspace(about, points.shape[2], True), flush_subnormals()
    for f in rows:
        own, state = progress[f], moments[f]
        free, mean, square, average = state[0], state[1], state[2], state[3]
        for s in range(len(chosen)):
            signal = points[f], target[f], chosen[s]
            loss = _slope(free, anchor, basis, *signal, about, work, flat, inner, gradient)
            total = loss
            for i in range(len(free)):
                gradient[i] += _F(2 * pull) * (free[i] - origin[i])
                total += gradient[i]
            own.loss = loss
            if not np.isfinite(total):
                own.failed = own.steps
                own.done = 1
                break
            own.steps += 1
            rate = own.rate * factors[s]
            if plateau:
                smoothed = (
                    own.smoothed + SMOOTHING * (loss - own.smoothed) if own.steps > 1 else loss
                )
                own.smoothed = smoothed
                own.stalled += 1
                if smoothed < IMPROVED * own.best:
                    own.best = smoothed
                    own.stalled = 0
                elif own.stalled > PATIENCE:
                    own.stalled = 0
                    own.done = own.rate <= least_rate
                    own.rate = max(own.rate / 2, least_rate)
            size = _F(rate / (1 - MEAN_DECAY**own.steps))
            unit = _F((1 - SQUARE_DECAY**own.steps) ** -0.5)
            share = _F(1) if own.steps == 1 else _F(1 - decay)
            for i in range(len(free)):
                mean[i] += _F(1 - MEAN_DECAY) * (gradient[i] - mean[i])
                square[i] = (
                    _F(SQUARE_DECAY) * square[i] + _F(1 - SQUARE_DECAY) * gradient[i] * gradient[i]
                )
                free[i] -= size * mean[i] / (np.sqrt(square[i]) * unit + _F(EPSILON))
                average[i] += share * (free[i] - average[i])
            if own.done:
                break
        _mix(average if decay else free, anchor, basis, weights[f])
    restore_mode(mode)


@compiled
def _values(flat, points, about, result):
    """Values of one field; see `values`."""
    widths, padded, encoding, codes = about
    activation, output, _, _ = codes
    last, n, order = len(widths) - 2, len(points), np.arange(BLOCK)
    work, mode = _workspace(about, points.shape[1], False), flush_subnormals()
    panels, _, (biases, _), rows, _, _, scratch = work
    coordinates, out = scratch[:-2], scratch[-2]
    _unpack(flat, about, panels, biases)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        whole = _place(points[start:], order, 0, m, coordinates)
        _encode(coordinates, rows[0], whole, encoding)
        for i in range(last):
            sizes = padded[i + 1], widths[i], whole
            _layer(panels[0, i], biases[i], rows[i], rows[i + 1], *sizes)
            _activate_only(rows[i + 1], padded[i + 1], whole, activation)
        _output(panels[0, last], biases[last], rows[last], out, widths[last], whole, output)
        result[start : start + m] = out[:m]
    restore_mode(mode)


def at_once(spec: FieldSpec, settings: Optimiser) -> int:
    """How many fields of a pack to fit together."""
    return max(_AT_ONCE, threads())


def _about(spec: FieldSpec, loss: str = "l1") -> tuple:
    """A specification as the compiled functions take it."""
    widths = np.array([spec.n_inputs, *spec.hidden, 1])
    padded = -(-widths // ROWS) * ROWS
    mirror = -1 if spec.mirror is None else spec.mirror
    encoding = (spec.octaves, spec.include_input, spec.frequency, mirror, spec.in_dim)
    activation, output = _ACTIVATIONS[spec.activation], _OUTPUTS[spec.output_activation]
    return widths, padded, encoding, (activation, output, _LOSSES[loss], spec.output_bias)


def gradients(
    spec: FieldSpec,
    free: np.ndarray,
    anchor: np.ndarray,
    basis: np.ndarray | None,
    points: np.ndarray,
    target: np.ndarray,
    rows: np.ndarray,
    chosen: np.ndarray,
    loss: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of F fields at points of the same numbers, and their gradients.

    Parameters
    ----------
    free : float32 [F, W] weights, or [F, k] coefficients in the basis.
    anchor : float32 [W] and
    basis : float32 [k, W]: the weights are then anchor + free @ basis.
    points : float32 [S, N, in_dim] in field coordinates, of S >= F signals.
    target : float32 [S, N].
    rows : int64 [F], the signal of each field.
    chosen : int64 [n], numbers of the points to use.
    loss : "l1" or "mse".

    Returns
    -------
    mean losses float32 [F], and the gradient of each with respect to its row of `free`.
    """
    losses, gradient = np.empty(len(free), np.float32), np.empty_like(free)
    basis = np.zeros((0, len(anchor)), np.float32) if basis is None else basis
    about = _about(spec, loss)

    def some(part: slice) -> None:
        fields = free[part], anchor, basis, points, target, rows[part], chosen
        _each(*fields, about, losses[part], gradient[part])

    in_threads(some, len(free))
    return losses, gradient


class Fit:
    """Fits of F fields, step by step, every one in the thread that has it.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    target : float32 [F, N].
    start : float32 [F, W] weights, or [F, k] coefficients in the basis.
    anchor, basis : as for `gradients`; the pull draws weights to the anchor, coefficients to zero.
    """

    def __init__(
        self,
        spec: FieldSpec,
        points: np.ndarray,
        target: np.ndarray,
        start: np.ndarray,
        anchor: np.ndarray,
        basis: np.ndarray | None,
        settings: Optimiser,
    ) -> None:
        n, free = start.shape
        self.signals = np.ascontiguousarray(points), np.ascontiguousarray(target)
        origin = anchor if basis is None else np.zeros(free, np.float32)
        basis = np.zeros((0, len(anchor)), np.float32) if basis is None else basis
        self.fixed, self.about = (anchor, basis, origin), _about(spec, settings.loss)
        rate, plateau = float(settings.learning_rate), settings.schedule == "plateau"
        decays = float(settings.pull), float(settings.averaging)
        self.rule = *decays, plateau, rate / RATE_SPAN
        self.moments = np.zeros((n, 4, free), np.float32)
        self.moments[:, 0] = self.moments[:, 3] = start
        self.progress = np.zeros(n, _PROGRESS)
        self.progress["rate"], self.progress["best"] = rate, np.inf
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
            _advance(rows[part], *signals, self.fixed, self.about, self.rule, *state)

        in_threads(some, len(rows))
        return not self.progress["done"].all()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights [F, W], losses [F], steps at which fits failed (-1: none) and steps taken [F]."""
        return self.weights, *(self.progress[name].copy() for name in ("loss", "failed", "steps"))


def values(spec: FieldSpec, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values float32 [N] of one field [W] at points float32 [N, in_dim] in field coordinates."""
    result, about = np.empty(len(points), np.float32), _about(spec)
    in_threads(lambda p: _values(weights, points[p], about, result[p]), len(points))
    return result
