"""Fields on the CPU: forward and backward pass fused over blocks of points that stay in cache.

A library's matrix product writes every activation to memory and reads it back; in fields, which
are narrow, that takes longer than the arithmetic. Here a block of points goes through all layers
and back before the next begins. One thread computes a field, in a fixed order, so its numbers do
not depend on which others are computed with it.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from nefgpt.compiled import MATH, compiled
from nefgpt.field import FieldSpec

_BLOCK = 128  # points; of 64 to 256 the fastest, or near it, for fields of 24 and 32 units
_AT_ONCE = 16  # fields, or more where there are more threads, that are fitted before any is written
_UNROLLED = 4  # widths are padded to a multiple of this
_ACTIVATIONS = {"gelu": 0, "relu": 1, "silu": 2}
_OUTPUTS = {"tanh": 0, "sigmoid": 1, "none": 2}
_LOSSES = {"l1": 0, "mse": 1}
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


@numba.njit(inline="always", **MATH)
def _exp(t):
    """Exponential of t <= 0; relative error below 4e-7."""
    t = max(t, _F(-87))
    k = np.floor(t * _F(1.44269504) + _F(0.5))
    r = (t - k * _F(0.693359375)) + k * _F(2.12194440e-4)  # ln 2 in two parts
    y = _F(1 / 24) + r * (_F(1 / 120) + r * _F(1 / 720))
    y = _F(1) + r * (_F(1) + r * (_F(0.5) + r * (_F(1 / 6) + r * y)))
    return y * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@numba.njit(inline="always", **MATH)
def _sigmoid(x):
    e = _exp(-abs(x))
    return _F(1) / (_F(1) + e) if x > 0 else e / (_F(1) + e)


@numba.njit(inline="always", **MATH)
def _sine_cosine(x):
    """Sine and cosine; absolute error below 1e-6 for |x| < 2000."""
    k = np.floor(x * _F(0.63661977) + _F(0.5))  # quarter turns
    r = ((x - k * _F(1.5703125)) - k * _F(4.837512969970703e-4)) - k * _F(7.549789948768648e-8)
    q = r * r
    s = r * (_F(1) + q * (_F(-1 / 6) + q * (_F(1 / 120) + q * _F(-1 / 5040))))
    c = _F(1) + q * (_F(-0.5) + q * (_F(1 / 24) + q * (_F(-1 / 720) + q * _F(1 / 40320))))
    turns = np.int32(k) & np.int32(3)
    sine = c if turns & 1 else s
    cosine = s if turns & 1 else c
    sine = -sine if turns & 2 else sine
    cosine = -cosine if (turns + 1) & 2 else cosine
    return sine, cosine


# Regrouped, the three parts of a quarter turn would become one rounded number.
@numba.njit(**{**MATH, "fastmath": {"contract", "nsz"}})
def _encode(points, columns, m, encoding):
    """columns[:, :m] = the encoding of points [in_dim, m], which a mirror folds; see
    `nefgpt.stacked.encode`."""
    octaves, include_input, frequency, mirror = encoding
    in_dim, row = len(points), 0
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
            for p in range(m):
                sine, cosine = _sine_cosine(points[d, p] * factor)
                columns[row + d, p] = sine
                columns[row + in_dim + d, p] = cosine
        row += 2 * in_dim
        factor *= _F(2)


@numba.njit(**MATH)
def _affine(weight, bias, inputs, outputs, n_out, n_in, m):
    """outputs[:, :m] = weight @ inputs[:, :m] + bias, four rows and four columns at a time."""
    for j in range(0, n_out, 4):
        for p in range(m):
            outputs[j, p] = bias[j]
            outputs[j + 1, p] = bias[j + 1]
            outputs[j + 2, p] = bias[j + 2]
            outputs[j + 3, p] = bias[j + 3]
        for i in range(0, n_in, 4):
            a0, a1, a2, a3 = weight[j, i], weight[j, i + 1], weight[j, i + 2], weight[j, i + 3]
            b0, b1 = weight[j + 1, i], weight[j + 1, i + 1]
            b2, b3 = weight[j + 1, i + 2], weight[j + 1, i + 3]
            c0, c1 = weight[j + 2, i], weight[j + 2, i + 1]
            c2, c3 = weight[j + 2, i + 2], weight[j + 2, i + 3]
            d0, d1 = weight[j + 3, i], weight[j + 3, i + 1]
            d2, d3 = weight[j + 3, i + 2], weight[j + 3, i + 3]
            for p in range(m):
                x0, x1, x2, x3 = inputs[i, p], inputs[i + 1, p], inputs[i + 2, p], inputs[i + 3, p]
                outputs[j, p] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                outputs[j + 1, p] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                outputs[j + 2, p] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                outputs[j + 3, p] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@numba.njit(**MATH)
def _outer(left, right, total, n_left, n_right, m):
    """total += left[:, :m] @ right[:, :m].T, sixteen sums at a time."""
    for j in range(0, n_left, 4):
        for i in range(0, n_right, 4):
            a0, a1, a2, a3 = _F(0), _F(0), _F(0), _F(0)
            b0, b1, b2, b3 = _F(0), _F(0), _F(0), _F(0)
            c0, c1, c2, c3 = _F(0), _F(0), _F(0), _F(0)
            d0, d1, d2, d3 = _F(0), _F(0), _F(0), _F(0)
            for p in range(m):
                x0, x1, x2, x3 = right[i, p], right[i + 1, p], right[i + 2, p], right[i + 3, p]
                a, b, c, d = left[j, p], left[j + 1, p], left[j + 2, p], left[j + 3, p]
                a0 += a * x0
                a1 += a * x1
                a2 += a * x2
                a3 += a * x3
                b0 += b * x0
                b1 += b * x1
                b2 += b * x2
                b3 += b * x3
                c0 += c * x0
                c1 += c * x1
                c2 += c * x2
                c3 += c * x3
                d0 += d * x0
                d1 += d * x1
                d2 += d * x2
                d3 += d * x3
            for row, sums in enumerate(
                ((a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3))
            ):
                for column in range(4):
                    total[j + row, i + column] += sums[column]


@numba.njit(**MATH)
def _activate(values, slopes, n, m, activation):
    """Replace values[:n, :m] by the activation there; `slopes` gets its derivative."""
    for j in range(n):
        if activation == 0:  # the normal integral by Abramowitz and Stegun (1964), 7.1.26
            for p in range(m):
                x = values[j, p]
                z = abs(x) * _F(0.70710678)
                e = _exp(-z * z)
                t = _F(1) / (_F(1) + _F(0.3275911) * z)
                tail = t * (_F(1.421413741) + t * (_F(-1.453152027) + t * _F(1.061405429)))
                tail = _F(0.5) * e * t * (_F(0.254829592) + t * (_F(-0.284496736) + tail))
                integral = tail if x < 0 else _F(1) - tail
                values[j, p] = x * integral
                slopes[j, p] = integral + x * e * _F(0.39894228)
        elif activation == 1:
            for p in range(m):
                x = values[j, p]
                # A comparison would turn NaN into zero.
                values[j, p] = (x + abs(x)) * _F(0.5)
                slopes[j, p] = _F(1) if x > 0 else _F(0)
        else:
            for p in range(m):
                x = values[j, p]
                s = _sigmoid(x)
                values[j, p] = x * s
                slopes[j, p] = s * (_F(1) + x * (_F(1) - s))


@numba.njit(**MATH)
def _output(weight, bias, inputs, values, n_in, m, output):
    """values[:m] = the output unit's value."""
    for p in range(m):
        values[p] = bias
    for i in range(n_in):
        w = weight[i]
        for p in range(m):
            values[p] += w * inputs[i, p]
    if output == 0:
        for p in range(m):
            e = _exp(_F(-2) * abs(values[p]))
            size = (_F(1) - e) / (_F(1) + e)
            values[p] = -size if values[p] < 0 else size
    elif output == 1:
        for p in range(m):
            values[p] = _sigmoid(values[p])


@numba.njit(**MATH)
def _unpack(flat, widths, output_bias, weight, turned, bias):
    """Fill padded weight matrices [L, M, M], their transposes and biases [L, M] from flat [W]."""
    at = 0
    last = len(widths) - 2
    for layer in range(last + 1):
        for j in range(widths[layer + 1]):
            for i in range(widths[layer]):
                weight[layer, j, i] = flat[at]
                turned[layer, i, j] = flat[at]
                at += 1
        if layer < last or output_bias:
            for j in range(widths[layer + 1]):
                bias[layer, j] = flat[at]
                at += 1


@numba.njit(**MATH)
def _pack(weight, bias, widths, output_bias, flat):
    """Inverse of `_unpack`."""
    at = 0
    last = len(widths) - 2
    for layer in range(last + 1):
        for j in range(widths[layer + 1]):
            for i in range(widths[layer]):
                flat[at] = weight[layer, j, i]
                at += 1
        if layer < last or output_bias:
            for j in range(widths[layer + 1]):
                flat[at] = bias[layer, j]
                at += 1


@numba.njit(**MATH)
def _gradient(flat, points, target, chosen, about, gradient):
    """Mean loss of one field at the chosen points; `gradient` [W] gets its gradient."""
    widths, padded, encoding, codes = about
    activation, output, loss_kind, output_bias = codes
    last, n, most = len(widths) - 2, len(chosen), padded.max()
    weight = np.zeros((last + 1, most, most), np.float32)
    turned, total = np.zeros_like(weight), np.zeros_like(weight)
    bias = np.zeros((last + 1, most), np.float32)
    bias_total, no_bias = np.zeros_like(bias), np.zeros(most, np.float32)
    values = np.zeros((last + 1, most, _BLOCK), np.float32)
    slopes, back = np.zeros_like(values), np.zeros_like(values)
    coordinates = np.zeros((points.shape[1], _BLOCK), np.float32)
    out, wanted = np.zeros(_BLOCK, np.float32), np.zeros(_BLOCK, np.float32)
    _unpack(flat, widths, output_bias, weight, turned, bias)
    loss = 0.0
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        for p in range(m):
            point = chosen[start + p]
            wanted[p] = target[point]
            for d in range(points.shape[1]):
                coordinates[d, p] = points[point, d]
        _encode(coordinates, values[0], m, encoding)
        for i in range(last):
            _affine(weight[i], bias[i], values[i], values[i + 1], padded[i + 1], padded[i], m)
            _activate(values[i + 1], slopes[i], padded[i + 1], m, activation)
        _output(weight[last, 0], bias[last, 0], values[last], out, widths[last], m, output)
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
        top = back[last]
        for i in range(widths[last]):
            w, summed = weight[last, 0, i], _F(0)
            for p in range(m):
                summed += out[p] * values[last, i, p]
                top[i, p] = out[p] * w * slopes[last - 1, i, p]
            total[last, 0, i] += summed
        summed = _F(0)
        for p in range(m):
            summed += out[p]
        bias_total[last, 0] += summed
        for i in range(last - 1, -1, -1):
            arriving = back[i + 1]
            _outer(arriving, values[i], total[i], padded[i + 1], padded[i], m)
            for j in range(widths[i + 1]):
                summed = _F(0)
                for p in range(m):
                    summed += arriving[j, p]
                bias_total[i, j] += summed
            if i:
                _affine(turned[i], no_bias, arriving, back[i], padded[i], padded[i + 1], m)
                for j in range(widths[i]):
                    for p in range(m):
                        back[i, j, p] *= slopes[i - 1, j, p]
    _pack(total, bias_total, widths, output_bias, gradient)
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
def _slope(free, anchor, basis, points, target, chosen, about, flat, inner, gradient):
    """Loss of one field; `gradient` gets that of `free`, `inner` that of the weights `flat`."""
    _mix(free, anchor, basis, flat)
    loss = _gradient(flat, points, target, chosen, about, inner)
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
    for f in range(len(free)):
        signal = points[rows[f]], target[rows[f]], chosen
        losses[f] = _slope(free[f], anchor, basis, *signal, about, flat, inner, gradient[f])


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
    for f in rows:
        own, state = progress[f], moments[f]
        free, mean, square, average = state[0], state[1], state[2], state[3]
        for s in range(len(chosen)):
            signal = points[f], target[f], chosen[s]
            loss = _slope(free, anchor, basis, *signal, about, flat, inner, gradient)
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
            if plateau:  # halve the rate where the smoothed loss has not improved for 200 steps
                smoothed = own.smoothed + 0.02 * (loss - own.smoothed) if own.steps > 1 else loss
                own.smoothed = smoothed
                own.stalled += 1
                if smoothed < 0.999 * own.best:
                    own.best = smoothed
                    own.stalled = 0
                elif own.stalled > 200:
                    own.stalled = 0
                    own.done = own.rate <= least_rate
                    own.rate = max(own.rate / 2, least_rate)
            size = _F(rate / (1 - 0.9**own.steps))
            unit = _F((1 - 0.999**own.steps) ** -0.5)
            share = _F(1) if own.steps == 1 else _F(1 - decay)
            for i in range(len(free)):
                mean[i] += _F(0.1) * (gradient[i] - mean[i])
                square[i] = _F(0.999) * square[i] + _F(0.001) * gradient[i] * gradient[i]
                free[i] -= size * mean[i] / (np.sqrt(square[i]) * unit + _F(1e-8))
                average[i] += share * (free[i] - average[i])
            if own.done:
                break
        _mix(average if decay else free, anchor, basis, weights[f])


@compiled
def _values(flat, points, about, result):
    """Values of one field; see `values`."""
    widths, padded, encoding, codes = about
    activation, output, _, output_bias = codes
    last, n, most = len(widths) - 2, len(points), padded.max()
    weight = np.zeros((last + 1, most, most), np.float32)
    turned, bias = np.zeros_like(weight), np.zeros((last + 1, most), np.float32)
    rows = np.zeros((last + 1, most, _BLOCK), np.float32)
    slopes, out = np.zeros((most, _BLOCK), np.float32), np.zeros(_BLOCK, np.float32)
    coordinates = np.zeros((points.shape[1], _BLOCK), np.float32)
    _unpack(flat, widths, output_bias, weight, turned, bias)
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        for p in range(m):
            for d in range(points.shape[1]):
                coordinates[d, p] = points[start + p, d]
        _encode(coordinates, rows[0], m, encoding)
        for i in range(last):
            _affine(weight[i], bias[i], rows[i], rows[i + 1], padded[i + 1], padded[i], m)
            _activate(rows[i + 1], slopes, padded[i + 1], m, activation)
        _output(weight[last, 0], bias[last, 0], rows[last], out, widths[last], m, output)
        for p in range(m):
            result[start + p] = out[p]


def threads() -> int:
    """Threads to compute with: as many as OpenMP is told to use (Snakemake does), or one a core."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(told), 1) if told.isdecimal() else numba.config.NUMBA_NUM_THREADS


def at_once(spec: FieldSpec, settings: dict) -> int:
    """How many fields of a pack to fit together."""
    return max(_AT_ONCE, threads())


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads beside the one that calls; to start them takes longer than a small step."""
    return ThreadPoolExecutor(count - 1)


def _in_threads(work: Callable[[slice], None], n: int, most: int) -> None:
    """Share `n` rows among at most so many threads."""
    count = min(most, n)
    cuts = np.linspace(0, n, count + 1).astype(int)
    mine, *others = map(slice, cuts[:-1], cuts[1:])
    waiting = [_pool(most).submit(work, part) for part in others]
    work(mine)
    for future in waiting:
        future.result()


def _about(spec: FieldSpec, loss: str = "l1") -> tuple:
    """A specification as the compiled functions take it."""
    widths = np.array([spec.n_inputs, *spec.hidden, 1])
    padded = -(-widths // _UNROLLED) * _UNROLLED
    mirror = -1 if spec.mirror is None else spec.mirror
    encoding = (spec.octaves, spec.include_input, spec.frequency, mirror)
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

    _in_threads(some, len(free), threads())
    return losses, gradient


class Fit:
    """Fits of F fields, step by step, every one in the thread that has it.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    target : float32 [F, N].
    start : float32 [F, W] weights, or [F, k] coefficients in the basis.
    anchor, basis : as for `gradients`; the pull draws weights to the anchor, coefficients to zero.
    settings : as for `nefgpt.fit.fit_fields`.
    """

    def __init__(
        self,
        spec: FieldSpec,
        points: np.ndarray,
        target: np.ndarray,
        start: np.ndarray,
        anchor: np.ndarray,
        basis: np.ndarray | None,
        settings: dict,
    ) -> None:
        n, free = start.shape
        self.signals = np.ascontiguousarray(points), np.ascontiguousarray(target)
        origin = anchor if basis is None else np.zeros(free, np.float32)
        basis = np.zeros((0, len(anchor)), np.float32) if basis is None else basis
        self.fixed, self.about = (anchor, basis, origin), _about(spec, settings["loss"])
        rate, plateau = float(settings["learning_rate"]), settings["schedule"] == "plateau"
        decays = float(settings["pull"]), float(settings["averaging"])
        self.rule = *decays, plateau, rate / 1000
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

        _in_threads(some, len(rows), threads())
        return not self.progress["done"].all()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights [F, W], losses [F], steps at which fits failed (-1: none) and steps taken [F]."""
        return self.weights, *(self.progress[name].copy() for name in ("loss", "failed", "steps"))


def values(spec: FieldSpec, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values float32 [N] of one field [W] at points float32 [N, in_dim] in field coordinates."""
    result, about = np.empty(len(points), np.float32), _about(spec)
    _in_threads(lambda p: _values(weights, points[p], about, result[p]), len(points), threads())
    return result
