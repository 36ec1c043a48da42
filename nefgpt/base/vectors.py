"""Vector instructions for compiled functions: what LLVM does not make of plain loops.

Each function here becomes LLVM instructions on whole vector registers inside the compiled
function that calls it. Every lane computes the same operations in the same order, so a point's
result does not depend on its place among others. Arrays are C-contiguous float32; rows that are
walked lie `BLOCK` numbers apart. Nothing checks bounds: the caller pads.
"""

import functools
import platform
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nefgpt.base.registers import BLOCK, CLOSE, LANES, LEFT, RIGHT, ROWS, VECTORS

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_NUMBERS = types.int64, types.float32
_EXP = (8.296939544379711e-3, 4.192034900188446e-2, 0.1666761189699173, 0.49998849630355835)
_EXP += (0.9999997019767761, 1.0000001192092896)
# Mills' ratio over sqrt(2 pi) on [0, 6.5], fitted for the least error of x Phi(x): 1.2e-7.
_MILLS = (1.2713476280623581e-6, -2.8995928005315363e-5, 2.9517081566154957e-4)
_MILLS += (-1.8014328088611364e-3, 7.541914004832506e-3, -2.3762939497828484e-2)
_MILLS += (6.070179492235184e-2, -0.1323055922985077, 0.24986957013607025)
_MILLS += (-0.39893248677253723, 0.49999988079071045)
_ROUND = 12582912.0  # 1.5 * 2^23: a number added to it is rounded, and lies in its last bits


class _Builder:
    """A builder whose float operations are computed as they are written.

    Those without flags numba lets LLVM regroup in functions that may regroup sums, which would
    undo the rounding to whole numbers.
    """

    _FLAGS = "contract", "nsz", "arcp"
    _FLAGGED = frozenset({"fadd", "fsub", "fmul", "fdiv", "fcmp_ordered", "fcmp_unordered"})

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._builder = builder

    def __getattr__(self, name: str) -> Callable:
        made = getattr(self._builder, name)
        return functools.partial(made, flags=self._FLAGS) if name in self._FLAGGED else made


class Emitter:
    """Writes vector arithmetic at a builder's place."""

    type, ints = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = _Builder(builder)

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.type, [float(np.float32(value))] * LANES)

    def whole(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * LANES)

    def places(self, first: int, n: int) -> ir.Constant:
        """Lanes first, first + 1, ..., as a shuffle takes them."""
        return ir.Constant(ir.VectorType(_INT, n), list(range(first, first + n)))

    def load(self, pointer: ir.Value, lanes: int = LANES) -> ir.Value:
        kind = ir.VectorType(_FLOAT, lanes)
        value = self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()))
        value.align = 4
        return value

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        place = self.builder.bitcast(pointer, value.type.as_pointer())
        self.builder.store(value, place).align = 4

    def spread(self, scalar: ir.Value) -> ir.Value:
        """The scalar in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(one, undefined, self.whole(0))

    def call(self, name: str, *arguments: ir.Value) -> ir.Value:
        """LLVM's function of floats `name` on each lane."""
        kind = arguments[0].type
        function = ir.FunctionType(kind, [kind] * len(arguments))
        name = f"llvm.{name}.v{LANES}f32"
        found = cgutils.get_or_insert_function(self.builder.module, function, name)
        return self.builder.call(found, arguments)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a b + c, rounded once where the processor can."""
        return self.call("fmuladd", a, b, c)

    def least(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The smaller one; `b` where `a` is no number."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def polynomial(self, x: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
        """Coefficients of the highest power first."""
        total = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.fma(total, x, self.constant(coefficient))
        return total

    def exp(self, t: ir.Value) -> ir.Value:
        """Exponential of -87 < t <= 0; relative error below 3e-7."""
        b = self.builder
        rounded = self.fma(t, self.constant(1.44269504), self.constant(_ROUND))
        k = b.fsub(rounded, self.constant(_ROUND))
        rest = self.fma(k, self.constant(-0.69314718), t)
        mantissa = b.bitcast(self.polynomial(rest, _EXP), self.ints)
        power = b.shl(b.bitcast(rounded, self.ints), self.whole(23))
        return b.bitcast(b.add(mantissa, power), self.type)

    def sine_cosine(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Sine and cosine; absolute error below 1e-6 for |x| < 2000."""
        b = self.builder
        rounded = self.fma(x, self.constant(0.63661977), self.constant(_ROUND))  # quarter turns
        k = b.fsub(rounded, self.constant(_ROUND))
        r = x
        for part in (1.5703125, 4.837512969970703e-4, 7.549789948768648e-8):
            r = self.fma(k, self.constant(-part), r)
        q = b.fmul(r, r)
        s = self.polynomial(q, (-1 / 5040, 1 / 120, -1 / 6, 1.0))
        s = b.fmul(s, r)
        c = self.polynomial(q, (1 / 40320, -1 / 720, 1 / 24, -0.5, 1.0))
        turns = b.bitcast(rounded, self.ints)
        odd = b.icmp_signed("!=", b.and_(turns, self.whole(1)), self.whole(0))

        def signed(value: ir.Value, turns: ir.Value) -> ir.Value:
            sign = b.shl(b.and_(turns, self.whole(2)), self.whole(30))
            return b.bitcast(b.xor(b.bitcast(value, self.ints), sign), self.type)

        sine = signed(b.select(odd, c, s), turns)
        return sine, signed(b.select(odd, s, c), b.add(turns, self.whole(1)))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        b, one = self.builder, self.constant(1)
        e = self.exp(b.fneg(self.least(self.call("fabs", x), self.constant(40))))
        larger = b.fdiv(one, b.fadd(one, e))
        found = b.select(b.fcmp_ordered(">", x, self.constant(0)), larger, b.fmul(e, larger))
        return self.keep_nan(x, found)

    def tanh(self, x: ir.Value) -> ir.Value:
        b, one = self.builder, self.constant(1)
        size = self.least(self.call("fabs", x), self.constant(20))
        e = self.exp(b.fmul(size, self.constant(-2)))
        found = self.call("copysign", b.fdiv(b.fsub(one, e), b.fadd(one, e)), x)
        return self.keep_nan(x, found)

    def keep_nan(self, x: ir.Value, value: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_unordered("uno", x, x), x, value)

    def gelu(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """x Phi(x) and its derivative; absolute errors below 3e-7 max(1, |x|)."""
        b = self.builder
        z = self.least(self.call("fabs", x), self.constant(12))
        e = self.exp(b.fmul(b.fmul(z, z), self.constant(-0.5)))
        tail = b.fmul(e, self.polynomial(z, _MILLS))
        half = self.constant(0.5)
        integral = b.fadd(half, self.call("copysign", b.fsub(half, tail), x))
        slope = self.fma(b.fmul(x, self.constant(0.39894228)), e, integral)
        return b.fmul(x, integral), slope

    def relu(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The positive part (a comparison would turn NaN into zero) and its derivative."""
        b = self.builder
        positive = b.fcmp_ordered(">", x, self.constant(0))
        value = b.fmul(b.fadd(x, self.call("fabs", x)), self.constant(0.5))
        return value, b.select(positive, self.constant(1), self.constant(0))

    def silu(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """x sigmoid(x) and its derivative."""
        b, one, s = self.builder, self.constant(1), self.sigmoid(x)
        return b.fmul(x, s), b.fmul(s, self.fma(x, b.fsub(one, s), one))

    def sums(self, vectors: list[ir.Value]) -> ir.Value:
        """One vector of the sums over the lanes of each; their number is a power of two."""
        width = LANES
        while len(vectors) > 1 or width > 1:
            half = width // 2
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True)) or [(vectors[0],) * 2]
            joined = []
            for a, c in pairs:
                size = a.type.count
                places = range(size) if a is c else range(2 * size)
                first = [i for i in places if i % width < half]
                halves = [
                    ir.Constant(ir.VectorType(_INT, len(first)), [i + shift for i in first])
                    for shift in (0, half)
                ]
                parts = [self.builder.shuffle_vector(a, c, places) for places in halves]
                joined.append(self.builder.fadd(*parts))
            vectors, width = joined, half
        return vectors[0]


def emitted(write: Callable) -> Callable:
    """The function of compiled code that `write(emitter, *arguments)` writes.

    Arrays arrive as pointers to their first number, numbers as 64-bit integers or 32-bit floats;
    it returns nothing.
    """

    @functools.wraps(write)
    def typed(typing_context, *kinds):
        def generate(context, builder, signature, values):
            arguments = [
                context.make_array(kind)(context, builder, value).data
                if isinstance(kind, types.Array)
                else context.cast(builder, value, kind, _NUMBERS[isinstance(kind, types.Float)])
                for kind, value in zip(signature.args, values, strict=True)
            ]
            write(Emitter(builder), *arguments)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return intrinsic(typed)


def _row(e: Emitter, array: ir.Value, row: ir.Value, place: ir.Value) -> ir.Value:
    """Pointer to array[row, place]."""
    b = e.builder
    return b.gep(array, [b.add(b.mul(row, ir.Constant(row.type, BLOCK)), place)])


def _variables(e: Emitter, n: int, start: Callable[[int], ir.Value]) -> list[ir.Value]:
    """Places for `n` vectors, which LLVM keeps in registers."""
    places = [cgutils.alloca_once(e.builder, e.type) for _ in range(n)]
    for i, place in enumerate(places):
        e.builder.store(start(i), place)
    return places


def _products(
    e: Emitter,
    panel: ir.Value,
    at: ir.Value,
    count: ir.Value,
    inputs: ir.Value,
    place: ir.Value,
    totals: list[ir.Value],
    rows: int,
) -> None:
    """totals += panel @ inputs[:count, place : place + STEP], row by row of the panel."""
    b, vectors = e.builder, len(totals) // rows
    with cgutils.for_range(b, count) as loop:
        k = loop.index
        source = _row(e, inputs, k, place)
        step = [ir.Constant(k.type, v * LANES) for v in range(vectors)]
        points = [e.load(b.gep(source, [s])) for s in step]
        first = b.gep(panel, [b.add(at, b.mul(k, ir.Constant(k.type, rows)))])
        for row in range(rows):
            weight = e.spread(b.load(b.gep(first, [ir.Constant(k.type, row)])))
            for v in range(vectors):
                total = totals[row * vectors + v]
                b.store(e.fma(weight, points[v], b.load(total)), total)


def _tile(
    e: Emitter,
    panel: ir.Value,
    at: ir.Value,
    count: ir.Value,
    inputs: ir.Value,
    place: ir.Value,
    start: Callable[[ir.Value], ir.Value],
    outputs: ir.Value,
    row: ir.Value,
    finish: Callable[[ir.Value, ir.Value, ir.Value], ir.Value],
) -> None:
    b = e.builder
    totals = _variables(e, ROWS * VECTORS, lambda i: start(ir.Constant(at.type, i // VECTORS)))
    _products(e, panel, at, count, inputs, place, totals, ROWS)
    for i, total in enumerate(totals):
        here = b.add(row, ir.Constant(row.type, i // VECTORS))
        there = b.add(place, ir.Constant(row.type, i % VECTORS * LANES))
        e.store(finish(b.load(total), here, there), _row(e, outputs, here, there))


@emitted
def affine(e, panel, at, count, inputs, place, bias, outputs, row):
    """outputs[row : row + ROWS, place : place + STEP] = panel @ inputs[:count, ...] + bias.

    The panel is `count` columns of ROWS numbers from panel[at] on, `bias` one number a row of
    `outputs`.
    """
    b = e.builder

    def start(i: ir.Value) -> ir.Value:
        return e.spread(b.load(b.gep(bias, [b.add(row, i)])))

    _tile(e, panel, at, count, inputs, place, start, outputs, row, lambda total, *_: total)


@emitted
def backward(e, panel, at, count, inputs, place, slopes, outputs, row):
    """outputs[...] = (panel @ inputs[:count, ...]) * slopes[...], as `affine`."""

    def finish(total: ir.Value, here: ir.Value, there: ir.Value) -> ir.Value:
        return e.builder.fmul(total, e.load(_row(e, slopes, here, there)))

    def start(_: ir.Value) -> ir.Value:
        return e.constant(0)

    _tile(e, panel, at, count, inputs, place, start, outputs, row, finish)


@emitted
def outer(e, left, j, right, i, count, total, at, width):
    """Add left[j : j + LEFT, :count] @ right[i : i + RIGHT, :count].T to `total`.

    Its rows begin at total[at] and lie `width` numbers apart; `count` is a multiple of LANES.
    """
    b = e.builder
    sums = _variables(e, LEFT * RIGHT, lambda _: e.constant(0))
    with cgutils.for_range_slice(
        b, ir.Constant(count.type, 0), count, ir.Constant(count.type, LANES)
    ) as (p, _):
        rights = [e.load(_row(e, right, b.add(i, ir.Constant(i.type, r)), p)) for r in range(RIGHT)]
        for row in range(LEFT):
            value = e.load(_row(e, left, b.add(j, ir.Constant(j.type, row)), p))
            for r in range(RIGHT):
                place = sums[row * RIGHT + r]
                b.store(e.fma(value, rights[r], b.load(place)), place)
    found = e.sums([b.load(place) for place in sums])
    for row in range(LEFT):
        start = b.add(at, b.add(b.mul(b.add(j, ir.Constant(j.type, row)), width), i))
        place = b.gep(total, [start])
        part = b.shuffle_vector(found, found, e.places(row * RIGHT, RIGHT))
        e.store(b.fadd(e.load(place, RIGHT), part), place)


@emitted
def weighted(e, weights, at, count, inputs, place, bias, outputs):
    """outputs[place : place + STEP] = weights[at : at + count] @ inputs[:count, ...] + bias[0]."""
    b = e.builder
    totals = _variables(e, VECTORS, lambda _: e.spread(b.load(bias)))
    _products(e, weights, at, count, inputs, place, totals, 1)
    for v, total in enumerate(totals):
        there = b.add(place, ir.Constant(place.type, v * LANES))
        e.store(b.load(total), b.gep(outputs, [there]))


@emitted
def sine_cosine(e, coordinates, row, place, frequency, columns, sines, cosines):
    """Rows `sines` and `cosines` of `columns` = those of frequency * coordinates[row], LANES."""
    angle = e.builder.fmul(e.load(_row(e, coordinates, row, place)), e.spread(frequency))
    for rows, found in zip((sines, cosines), e.sine_cosine(angle), strict=True):
        e.store(found, _row(e, columns, rows, place))


@emitted
def nearest(e, a, n, i, b, m, to_a, to_b):
    """Squared distances of points a[:, i : i + CLOSE] to their nearest of b[:, :m], in to_a[i:].

    And to_b[:m] gets smaller where one of these is nearer to a point of b. Both clouds are three
    rows, of n and m numbers, m a multiple of LANES.
    """
    b_, word = e.builder, n.type
    own = [
        [
            e.spread(b_.load(b_.gep(a, [b_.add(b_.add(i, ir.Constant(word, r)), row)])))
            for row in (ir.Constant(word, 0), n, b_.add(n, n))
        ]
        for r in range(CLOSE)
    ]
    best = _variables(e, CLOSE, lambda _: e.constant(3e38))
    with cgutils.for_range_slice(b_, ir.Constant(word, 0), m, ir.Constant(word, LANES)) as (q, _):
        rows = q, b_.add(q, m), b_.add(q, b_.add(m, m))
        point = [e.load(b_.gep(b, [row])) for row in rows]
        place = b_.gep(to_b, [q])
        least = e.load(place)
        for r in range(CLOSE):
            apart = [b_.fsub(x, y) for x, y in zip(point, own[r], strict=True)]
            distance = b_.fmul(apart[0], apart[0])
            for difference in apart[1:]:
                distance = e.fma(difference, difference, distance)
            b_.store(e.least(distance, b_.load(best[r])), best[r])
            least = e.least(distance, least)
        e.store(least, place)
    for r in range(CLOSE):
        value, width = b_.load(best[r]), LANES
        while width > 1:
            width //= 2
            halves = [b_.shuffle_vector(value, value, e.places(s, width)) for s in (0, width)]
            value = e.least(*halves)
        place = b_.gep(to_a, [b_.add(i, ir.Constant(word, r))])
        b_.store(b_.extract_element(value, ir.Constant(_INT, 0)), place)


def _elementwise(name: str) -> Callable:
    """values[place] = f(values[place]), LANES numbers from flat place `place` on."""

    def write(e, values, place):
        there = e.builder.gep(values, [place])
        e.store(getattr(e, name)(e.load(there)), there)

    return emitted(write)


def _with_slope(name: str) -> Callable:
    """values = f(values), slopes = f'(values), LANES numbers of `row` from `place` on."""

    def write(e, values, row, place, slopes):
        there = _row(e, values, row, place)
        value, slope = getattr(e, name)(e.load(there))
        e.store(value, there)
        e.store(slope, _row(e, slopes, row, place))

    return emitted(write)


def _without_slope(name: str) -> Callable:
    def write(e, values, row, place):
        there = _row(e, values, row, place)
        e.store(getattr(e, name)(e.load(there))[0], there)

    return emitted(write)


tanh, sigmoid = _elementwise("tanh"), _elementwise("sigmoid")
gelu, relu, silu = map(_with_slope, ("gelu", "relu", "silu"))
gelu_only, relu_only, silu_only = map(_without_slope, ("gelu", "relu", "silu"))


def _mode(e: Emitter, new: ir.Value | None = None) -> ir.Value | None:
    """The thread's floating-point mode, an integer; or set it. None where it is not known how."""
    b, machine = e.builder, platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        place = cgutils.alloca_once(b, _INT)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
        if new is not None:
            b.store(new, place)
        name = f"llvm.x86.sse.{'st' if new is None else 'ld'}mxcsr"
        function = cgutils.get_or_insert_function(b.module, kind, name)
        b.call(function, [b.bitcast(place, ir.IntType(8).as_pointer())])
        return b.load(place)
    if machine in ("aarch64", "arm64"):
        word = ir.IntType(64)
        if new is None:
            kind = ir.FunctionType(word, [])
            return b.trunc(b.asm(kind, "mrs $0, fpcr", "=r", [], side_effect=True), _INT)
        kind = ir.FunctionType(ir.VoidType(), [word])
        b.asm(kind, "msr fpcr, $0", "r", [b.zext(new, word)], side_effect=True)
    return None


# Flush results to zero, and take subnormal numbers for zero.
_FLUSHING = 1 << 24 if platform.machine().lower() in ("aarch64", "arm64") else 0x8040


@intrinsic
def flush_subnormals(typing_context):
    """Let this thread compute with zero where numbers are below 1.2e-38; its mode before.

    Intel's processors take many times as long for an operation on such numbers, which trained
    fields are full of.
    """

    def generate(context, builder, signature, values):
        e = Emitter(builder)
        before = _mode(e)
        if before is None:
            return ir.Constant(_INT, 0)
        _mode(e, builder.or_(before, ir.Constant(_INT, _FLUSHING)))
        return before

    return types.int32(), generate


@intrinsic
def restore_mode(typing_context, mode):
    """Give the thread the mode that `flush_subnormals` found."""

    def generate(context, builder, signature, values):
        _mode(Emitter(builder), values[0])
        return context.get_dummy_value()

    return types.void(types.int32), generate
