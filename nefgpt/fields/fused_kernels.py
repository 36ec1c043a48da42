"""What `nefgpt.fields.fused` compiles: a block of points goes through all layers and back."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH
from nefgpt.base.registers import BLOCK, LANES, LEFT, RIGHT, ROWS, STEP
from nefgpt.base.vectors import (
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
from nefgpt.fields.fused import EPSILON, IMPROVED, MEAN_DECAY, PATIENCE, SMOOTHING, SQUARE_DECAY

_F = np.float32


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
def _output(weights, bias, inputs, values, n_out, n_in, m, output):
    """values[: n_out * m] = the output units' values, m of one after m of another."""
    for o in range(n_out):
        for p in range(0, m, STEP):
            weighted(weights, o * n_in, n_in, inputs, p, bias[o:], values[o * m :])
    if output == 0:
        for p in range(0, n_out * m, LANES):
            tanh(values, p)
    elif output == 1:
        for p in range(0, n_out * m, LANES):
            sigmoid(values, p)


@numba.njit(**MATH)
def _unpack(flat, about, panels, biases):
    """Lay out flat [W] as `affine` and `backward` read it: panels of ROWS rows, column by column.

    panels[0] has the weights, panels[1] their transposes; the outputs' weights are rows.
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
    for i in range(widths[last + 1] * widths[last]):
        panels[0, last, i] = flat[at]
        at += 1
    for o in range(widths[last + 1]):
        biases[last, o] = flat[at + o] if output_bias else _F(0)


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
def _back(out, weights, inputs, slopes, n_in, whole, first, top, total):
    """From one output back: add to its weights' gradient `total`, and to `top` if not the `first`.

    Returns what its bias's gradient grows by.
    """
    for i in range(n_in):
        w, summed = weights[i], _F(0)
        if first:
            for p in range(whole):
                summed += out[p] * inputs[i, p]
                top[i, p] = out[p] * w * slopes[i, p]
        else:
            for p in range(whole):
                summed += out[p] * inputs[i, p]
                top[i, p] += out[p] * w * slopes[i, p]
        total[i] += summed
    summed = _F(0)
    for p in range(whole):
        summed += out[p]
    return summed


@numba.njit(**MATH)
def _gradient(flat, points, target, chosen, about, work, gradient):
    """Mean loss of one field at the chosen points; `gradient` [W] gets its gradient."""
    widths, padded, encoding, codes = about
    activation, output, loss_kind, _ = codes
    panels, totals, (biases, bias_totals), values, slopes, back, coordinates, out, wanted = work
    last, n, n_out = len(widths) - 2, len(chosen), widths[-1]
    totals[:] = 0
    bias_totals[:] = 0
    _unpack(flat, about, panels, biases)
    loss = 0.0
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        whole = _place(points, chosen, start, m, coordinates)
        _encode(coordinates, values[0], whole, encoding)
        for i in range(last):
            sizes = padded[i + 1], widths[i], whole
            _layer(panels[0, i], biases[i], values[i], values[i + 1], *sizes)
            _activate(values[i + 1], slopes[i], padded[i + 1], whole, activation)
        sizes = n_out, widths[last], whole
        _output(panels[0, last], biases[last], values[last], out, *sizes, output)
        for o in range(n_out):
            for p in range(m):
                wanted[o * whole + p] = target[chosen[start + p], o]
            for p in range(m, whole):  # there is no point, and so no error
                wanted[o * whole + p] = out[o * whole + p]
        block, rows = _F(0), (n_out - 1) * whole + m
        for p in range(rows):
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
                out[p] = sign * slope / _F(n * n_out)
            else:
                block += error * error
                out[p] = _F(2) * error * slope / _F(n * n_out)
        loss += block
        out[rows : n_out * whole] = 0
        for o in range(n_out):
            own, total = out[o * whole :], totals[last, o * padded[last] :]
            front = panels[0, last, o * widths[last] :], values[last], slopes[last - 1]
            bias_totals[last, o] += _back(
                own, *front, widths[last], whole, o == 0, back[last], total
            )
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
    return loss / (n * n_out)


@numba.njit(**MATH)
def _copy(source, target, start):
    """target[start:] begins with `source`; numba's own way would allocate memory."""
    for i in range(len(source)):
        target[start + i] = source[i]


@numba.njit(**MATH)
def _mix(free, anchor, basis, flat):
    """flat = the weights [W] that `free` [W], or [k] in a basis, stands for."""
    if len(basis) == 0:
        _copy(free, flat, 0)
    else:
        _copy(anchor, flat, 0)
        for k in range(len(basis)):
            for w in range(len(flat)):
                flat[w] += free[k] * basis[k, w]


@numba.njit(**MATH)
def _slope(free, anchor, basis, points, target, chosen, about, work, flat, inner, gradient):
    """Loss of one field; `gradient` gets that of `free`, `inner` that of the weights `flat`."""
    _mix(free, anchor, basis, flat)
    loss = _gradient(flat, points, target, chosen, about, work, inner)
    if len(basis) == 0:
        _copy(inner, gradient, 0)
    for k in range(len(basis)):
        summed = _F(0)
        for w in range(len(flat)):
            summed += inner[w] * basis[k, w]
        gradient[k] = summed
    return loss


@numba.njit(**MATH)
def each(free, anchor, basis, points, target, rows, chosen, about, losses, gradient, work, spare):
    """Losses and gradients of F fields; see `fused.gradients`. `spare` is [W] twice."""
    (flat, inner), mode = spare, flush_subnormals()
    for f in range(len(free)):
        signal = points[rows[f]], target[rows[f]], chosen
        losses[f] = _slope(free[f], anchor, basis, *signal, about, work, flat, inner, gradient[f])
    restore_mode(mode)


@numba.njit(**MATH)
def advance(rows, points, target, chosen, factors, fixed, about, rule, state, work, spare):
    """Steps of fields `rows` at the points `chosen` [steps, n]; see `nefgpt.fields.fused.Fit`.

    Parameters
    ----------
    factors : float64 [steps], of the learning rate.
    fixed : anchor, basis, and what the pull draws to.
    rule : pull, averaging, whether the schedule is "plateau", and its least rate.
    state : moments float32 [F, 4, P] (parameters, mean and mean square of their gradients,
        average), progress [F], and weights float32 [F, W], which get the fields.
    spare : float32 [W] twice, and [P].
    """
    anchor, basis, origin = fixed
    moments, progress, weights = state
    pull, decay, plateau, least_rate = rule
    (flat, inner, gradient), mode = spare, flush_subnormals()
    for f in rows:
        own, found = progress[f], moments[f]
        free, mean, square, average = found[0], found[1], found[2], found[3]
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
                moved = own.smoothed + SMOOTHING * (loss - own.smoothed)
                smoothed = moved if own.steps > 1 else loss
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
                fresh = _F(1 - SQUARE_DECAY) * gradient[i] * gradient[i]
                square[i] = _F(SQUARE_DECAY) * square[i] + fresh
                free[i] -= size * mean[i] / (np.sqrt(square[i]) * unit + _F(EPSILON))
                average[i] += share * (free[i] - average[i])
            if own.done:
                break
        _mix(average if decay else free, anchor, basis, weights[f])
    restore_mode(mode)


@numba.njit(**MATH)
def values(flat, points, about, result, work, order):
    """Values of one field; see `nefgpt.fields.fused.values`. `order` is 0 to BLOCK - 1."""
    widths, padded, encoding, codes = about
    activation, output, _, _ = codes
    last, n, n_out, mode = len(widths) - 2, len(points), widths[-1], flush_subnormals()
    panels, _, (biases, _), rows, _, _, coordinates, out, _ = work
    _unpack(flat, about, panels, biases)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        whole = _place(points[start:], order, 0, m, coordinates)
        _encode(coordinates, rows[0], whole, encoding)
        for i in range(last):
            sizes = padded[i + 1], widths[i], whole
            _layer(panels[0, i], biases[i], rows[i], rows[i + 1], *sizes)
            _activate_only(rows[i + 1], padded[i + 1], whole, activation)
        sizes = n_out, widths[last], whole
        _output(panels[0, last], biases[last], rows[last], out, *sizes, output)
        for p in range(m):
            for o in range(n_out):
                result[start + p, o] = out[o * whole + p]
    restore_mode(mode)
