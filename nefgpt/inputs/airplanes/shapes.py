"""Seeded parametric airplanes in the frame and folder layout of ShapeNet.

Every shape is the union of closed lofted parts, so it is watertight by construction. All
lengths below are in units of the fuselage length (for a flying wing: of the span) until the
last step, which centres the bounding box on the origin and gives it a diagonal of 1.

Frame: nose towards -Z, up +Y, wings along X, symmetric under X -> -X.
"""

import numpy as np

from nefgpt.base.seeds import stable_seed
from nefgpt.inputs.airplanes.parts import (
    _MIN_THICKNESS,
    _Fuselage,
    _gear,
    _jet,
    _panel,
    _propeller,
    _tail,
)
from nefgpt.inputs.airplanes.solids import (
    _BLOCK,
    Part,
    _both,
    _ellipsoid,
    _revolve,
    _strut,
    _tube,
    _union,
)

KINDS = tuple(dict.fromkeys(_BLOCK))


def _airliner(draw: np.random.Generator) -> list[Part]:
    radius = draw.uniform(0.048, 0.068)
    high = draw.random() < 0.2
    rear = not high and draw.random() < 0.3
    body = _Fuselage(
        width=radius,
        height=radius * draw.uniform(0.98, 1.12),
        nose=draw.uniform(0.11, 0.17),
        tail=draw.uniform(0.3, 0.42),
        nose_power=draw.uniform(1.75, 2.1),
        end=draw.uniform(0.17, 0.25),
        rise=draw.uniform(0.45, 0.75),
        droop=draw.uniform(0.1, 0.35),
    )
    span = draw.uniform(0.8, 1.1)
    minimum = _MIN_THICKNESS * max(1.0, span)
    chord = draw.uniform(0.14, 0.19)
    sweep = draw.uniform(18, 26) if high else draw.uniform(22, 38)
    place = draw.uniform(-0.17, -0.11) + (0.06 if rear else 0.0) + 0.02 * (26 - sweep) / 10
    wing = _panel(
        (0, body.height * (0.82 if high else -draw.uniform(0.4, 0.65)), place),
        span / 2,
        chord,
        draw.uniform(0.27, 0.4),
        sweep,
        -draw.uniform(1, 4) if high else draw.uniform(3, 7),
        minimum,
        kink=(draw.uniform(0.15, 0.45), draw.uniform(0.3, 0.45)),
        winglet=draw.uniform(0.04, 0.075) if draw.random() < 0.4 else 0.0,
    )
    parts = [body.solid(), wing.wing()]
    size = radius * draw.uniform(0.42, 0.58)
    length = size * draw.uniform(3.4, 4.6)
    if rear:
        count = int(draw.choice([1, 2, 2, 3]))
        z = draw.uniform(0.17, 0.22)
        middle, scale = (float(value) for value in body.at(z + length / 2))
        if count != 1:
            x = scale * body.width + 1.15 * size
            y = middle + 0.3 * scale * body.height
            stub = _strut([0, y, z + 0.5 * length], [x, y, z + 0.5 * length], 0.5 * length, minimum)
            parts += [*_both(_jet(x, y, z, size, length)), *_both(stub)]
        if count != 2:
            parts.append(_jet(0, middle + scale * body.height + 0.55 * size, z, size, 1.6 * length))
    else:
        count = 4 if draw.random() < 0.3 else 2
        size *= 0.8 if count == 4 else 1.0
        length *= 0.8 if count == 4 else 1.0
        inner = draw.uniform(0.28, 0.34)
        for where in (inner,) if count == 2 else (inner, inner + draw.uniform(0.26, 0.3)):
            x = where * span / 2
            y, z, _, thick = wing.at(x)
            low = y - 0.5 * thick - size * draw.uniform(0.95, 1.15)
            front = z - length * draw.uniform(0.5, 0.7)
            pylon = _strut([x, low, z + 0.02], [x, y, z + 0.05], max(0.5 * length, 0.05), minimum)
            parts += [*_both(_jet(x, low, front, size, length)), *_both(pylon)]
    layout = "t" if rear else str(draw.choice(["t", "conventional"])) if high else "conventional"
    parts += _tail(
        draw,
        body,
        layout,
        draw.uniform(0.11, 0.15),
        span * draw.uniform(0.33, 0.42),
        draw.uniform(0.12, 0.16),
        draw.uniform(32, 44),
        minimum,
    )
    return parts


def _propeller_plane(draw: np.random.Generator) -> list[Part]:
    twin = draw.random() < 0.3
    radius = draw.uniform(0.058, 0.08)
    body = _Fuselage(
        width=radius,
        height=radius * draw.uniform(1.1, 1.4),
        nose=draw.uniform(0.2, 0.32),
        tail=draw.uniform(0.45, 0.6),
        nose_power=draw.uniform(1.6, 2.0),
        tip=0.1 if twin else draw.uniform(0.4, 0.55),
        end=draw.uniform(0.16, 0.25),
        rise=draw.uniform(0.1, 0.5),
        droop=draw.uniform(0.0, 0.25),
        power=draw.uniform(2.0, 2.8),
        waist=draw.uniform(1.1, 1.5),
    )
    span = draw.uniform(1.0, 1.45)
    minimum = _MIN_THICKNESS * max(1.0, span)
    high = draw.random() < 0.45
    place = draw.uniform(-0.24, -0.16)
    wing = _panel(
        (0, body.height * (0.9 if high else -draw.uniform(0.45, 0.7)), place),
        span / 2,
        draw.uniform(0.18, 0.25),
        draw.uniform(0.5, 0.95),
        draw.uniform(0, 7),
        draw.uniform(0, 3) if high else draw.uniform(3, 8),
        minimum,
        ratio=0.13,
        round_power=draw.uniform(0, 1) if draw.random() < 0.4 else 0.0,
    )
    parts = [body.solid(), wing.wing()]
    blades = int(draw.choice([0, 2, 3, 4]))
    swing = draw.uniform(0.13, 0.18)
    if twin:
        x = draw.uniform(0.3, 0.36) * span / 2
        y, z, chord, _ = wing.at(x)
        size = draw.uniform(0.034, 0.045)
        length = draw.uniform(0.22, 0.3)
        front = z - 0.45 * length
        steps = length * np.array([0.0, 0.05, 0.25, 0.6, 0.85, 1.0])
        shape = size * np.array([0.7, 0.85, 1.0, 0.95, 0.65, 0.3])
        parts += _both(_revolve((x, y, front), steps, shape))
        for part in _propeller(x, y, front - 0.006, min(swing, 0.8 * x), blades, minimum):
            parts += _both(part)
    else:
        nose, _ = body.at(-0.5)
        parts += _propeller(0, float(nose), -0.515, swing, blades, minimum)
    if not high or draw.random() < 0.5:
        z = place + draw.uniform(0.08, 0.14)
        parts.append(
            _ellipsoid(
                (0, 0.85 * body.height, z),
                (0.72 * radius, draw.uniform(0.4, 0.65) * body.height, draw.uniform(0.1, 0.17)),
            )
        )
    if draw.random() < 0.5:
        x = draw.uniform(0.09, 0.13)
        drop = draw.uniform(0.08, 0.11)
        wheel = draw.uniform(0.026, 0.036)
        parts += _gear(x, -0.6 * body.height, place + 0.06, drop, wheel, minimum)
    if high and draw.random() < 0.5:
        x = 0.5 * span / 2
        y, z, chord, _ = wing.at(x)
        foot = [0.5 * radius, -0.6 * body.height, z + 0.4 * chord]
        parts += _both(_strut(foot, [x, y, z + 0.4 * chord], 1.3 * minimum, minimum))
    parts += _tail(
        draw,
        body,
        str(draw.choice(["conventional", "conventional", "t", "twin"])),
        draw.uniform(0.1, 0.15),
        span * draw.uniform(0.28, 0.36),
        draw.uniform(0.12, 0.16),
        draw.uniform(10, 35),
        minimum,
    )
    return parts


def _glider(draw: np.random.Generator) -> list[Part]:
    radius = draw.uniform(0.05, 0.065)
    span = draw.uniform(1.7, 2.3)
    minimum = 0.019 * span
    body = _Fuselage(
        width=radius,
        height=radius * draw.uniform(1.1, 1.3),
        nose=draw.uniform(0.28, 0.36),
        tail=draw.uniform(0.52, 0.6),
        nose_power=draw.uniform(1.8, 2.1),
        end=draw.uniform(0.34, 0.42),
        rise=draw.uniform(0.1, 0.6),
        droop=draw.uniform(0.1, 0.4),
        waist=draw.uniform(0.6, 0.85),
    )
    wing = _panel(
        (0, body.height * draw.uniform(0.35, 0.75), draw.uniform(-0.2, -0.13)),
        span / 2,
        draw.uniform(0.14, 0.18),
        draw.uniform(0.45, 0.6),
        draw.uniform(0, 4),
        draw.uniform(1, 4),
        minimum,
        bend=draw.uniform(0, 8),
        winglet=draw.uniform(0.06, 0.09) if draw.random() < 0.3 else 0.0,
    )
    canopy = _ellipsoid(
        (0, 0.62 * body.height, -0.27),
        (0.7 * radius, draw.uniform(0.45, 0.6) * body.height, draw.uniform(0.1, 0.14)),
    )
    tail = _tail(
        draw,
        body,
        str(draw.choice(["t", "t", "t", "conventional", "v"])),
        draw.uniform(0.15, 0.19),
        span * draw.uniform(0.19, 0.24),
        draw.uniform(0.12, 0.15),
        draw.uniform(8, 25),
        minimum,
    )
    return [body.solid(), wing.wing(), canopy, *tail]


def _jets(
    draw: np.random.Generator, body: _Fuselage, radius: float, twin_engine: bool
) -> list[Part]:
    """Side intakes, which run back into the engines, if any, and nozzles of a fighter."""
    parts = []
    if twin_engine or draw.random() < 0.6:
        start, end = draw.uniform(-0.16, -0.06), draw.uniform(0.36, 0.42)
        x = 0.95 * body.width
        z = start + (end - start) * np.array([0.08, 0.0, 0.06, 0.3, 0.7, 0.92, 1.0])
        size = radius * draw.uniform(0.6, 0.78) * np.array([0.75, 0.85, 0.93, 1, 0.95, 0.75, 0.5])
        steps = np.zeros_like(z)
        centre = np.stack([x - 0.25 * x * np.linspace(0, 1, 7), steps - 0.15 * radius, z], -1)
        a = np.stack([size * 0.85, steps, steps], -1)
        b = np.stack([steps, size, steps], -1)
        parts += _both(_tube(centre, a, b, 3.0))
    nozzle = radius * (0.58 if twin_engine else 0.75)
    step = 0.62 * body.width if twin_engine else 0.0
    profile = nozzle * np.array([1.0, 1.0, 1.08, 0.8, 0.65, 0.6])
    where = np.array([0.32, 0.42, 0.49, 0.545, 0.55, 0.52])
    jet = _revolve((step, 0, 0), where, profile)
    return [*parts, *(_both(jet) if twin_engine else [jet])]


def _fins(draw: np.random.Generator, body: _Fuselage, radius: float) -> list[Part]:
    """Two fins or one of a fighter."""
    chord = draw.uniform(0.16, 0.21)
    sweep = draw.uniform(36, 50)
    place = 0.44 - chord
    if draw.random() < 0.5:
        fin = _panel(
            (0.75 * body.width, 0.1 * radius, place - 0.04),
            draw.uniform(0.15, 0.19),
            chord,
            draw.uniform(0.4, 0.55),
            sweep,
            90 - draw.uniform(3, 28),
            _MIN_THICKNESS,
        )
        return list(_both(fin.solid()))
    height = draw.uniform(0.19, 0.24)
    return [_panel((0, 0, place), height, 1.15 * chord, 0.4, sweep, 90, _MIN_THICKNESS).solid()]


def _fighter(draw: np.random.Generator) -> list[Part]:
    radius = draw.uniform(0.046, 0.06)
    twin_engine = draw.random() < 0.5
    body = _Fuselage(
        width=radius * draw.uniform(1.0, 1.3),
        height=radius,
        nose=draw.uniform(0.32, 0.42),
        tail=draw.uniform(0.25, 0.4),
        nose_power=draw.uniform(1.3, 1.55),
        end=draw.uniform(0.6, 0.8),
        rise=0.0,
        droop=draw.uniform(0.1, 0.5),
        power=draw.uniform(2.0, 2.8),
    )
    delta = draw.random() < 0.5
    span = draw.uniform(0.58, 0.72)
    minimum = _MIN_THICKNESS
    chord = draw.uniform(0.4, 0.5) if delta else draw.uniform(0.27, 0.34)
    sweep = draw.uniform(46, 57) if delta else draw.uniform(33, 46)
    # The trailing edge stays near the same place whatever the chord.
    place = (0.43 if delta else 0.28) - chord
    wing = _panel(
        (0, radius * draw.uniform(-0.3, 0.35), place),
        span / 2,
        chord,
        draw.uniform(0.12, 0.2) if delta else draw.uniform(0.24, 0.36),
        sweep,
        draw.uniform(-4, 3),
        minimum,
        ratio=0.06,
    )
    parts = [body.solid(), wing.wing()]
    canopy = _ellipsoid(
        (0, 0.72 * radius, draw.uniform(-0.25, -0.17)),
        (0.62 * radius, draw.uniform(0.6, 0.8) * radius, draw.uniform(0.1, 0.14)),
    )
    parts.append(canopy)
    parts += _jets(draw, body, radius, twin_engine) + _fins(draw, body, radius)
    if not delta:
        half = 0.5 * span * draw.uniform(0.6, 0.72)
        root = draw.uniform(0.14, 0.18)
        stabilizer = _panel((0, 0, 0.45 - root), half, root, 0.45, 0.85 * sweep, -2, minimum)
        parts.append(stabilizer.wing())
    if delta and draw.random() < 0.65:
        canard = _panel(
            (0, 0.35 * radius, place - draw.uniform(0.12, 0.16)),
            0.5 * span * draw.uniform(0.45, 0.58),
            draw.uniform(0.11, 0.14),
            0.42,
            draw.uniform(35, 50),
            draw.uniform(0, 8),
            minimum,
        )
        parts.append(canard.wing())
    return parts


def _biplane(draw: np.random.Generator) -> list[Part]:
    radius = draw.uniform(0.06, 0.075)
    body = _Fuselage(
        width=radius,
        height=radius * draw.uniform(1.1, 1.35),
        nose=draw.uniform(0.12, 0.2),
        tail=draw.uniform(0.55, 0.68),
        nose_power=draw.uniform(1.8, 2.4),
        tip=draw.uniform(0.6, 0.7),
        end=draw.uniform(0.2, 0.28),
        rise=draw.uniform(0.2, 0.6),
        droop=0.0,
        power=draw.uniform(2.2, 3.2),
        waist=draw.uniform(1.1, 1.4),
    )
    span = draw.uniform(1.05, 1.35)
    minimum = _MIN_THICKNESS * max(1.0, span)
    chord = draw.uniform(0.17, 0.21)
    place = draw.uniform(-0.32, -0.26)
    stagger = draw.uniform(0.0, 0.07)
    gap = draw.uniform(0.18, 0.23)
    taper = draw.uniform(0.85, 1.0)
    low_y = -body.height * draw.uniform(0.55, 0.75)
    lower = _panel(
        (0, low_y, place + stagger),
        0.5 * span * draw.uniform(0.82, 1.0),
        chord * draw.uniform(0.88, 1.0),
        taper,
        0,
        draw.uniform(1, 4),
        minimum,
    )
    upper = _panel((0, low_y + gap, place), span / 2, chord, taper, 0, draw.uniform(0, 2), minimum)
    parts = [body.solid(), lower.wing(), upper.wing()]
    bays = (0.68,) if draw.random() < 0.65 else (0.45, 0.78)
    for where in (0.12, *bays):
        x = where * span / 2
        ends = []
        for wing in (lower, upper):
            y, z, c, _ = wing.at(x)
            ends.append(np.array([x, y, z + 0.45 * c]))
        ends[0][0] = min(x, float(lower.leading[-3, 0]))
        parts += _both(_strut(*ends, 1.7 * minimum, minimum))
    parts += _propeller(
        0, 0.0, -0.515, draw.uniform(0.13, 0.17), int(draw.choice([0, 2, 4])), minimum
    )
    x, drop = draw.uniform(0.09, 0.12), draw.uniform(0.07, 0.1)
    parts += _gear(x, low_y, place + 0.07, drop, draw.uniform(0.032, 0.042), minimum)
    parts += _tail(
        draw,
        body,
        "conventional",
        draw.uniform(0.09, 0.13),
        span * draw.uniform(0.3, 0.37),
        draw.uniform(0.13, 0.16),
        draw.uniform(10, 32),
        minimum,
    )
    return parts


def _flying_wing(draw: np.random.Generator) -> list[Part]:
    chord = draw.uniform(0.26, 0.34)
    sweep = draw.uniform(24, 38)
    tips = draw.random()
    wing = _panel(
        (0, 0.0, -0.5 * chord),
        0.5,
        chord,
        draw.uniform(0.25, 0.4),
        sweep,
        draw.uniform(-1, 4),
        _MIN_THICKNESS,
        ratio=draw.uniform(0.1, 0.14),
        kink=(draw.uniform(0.1, 0.4), draw.uniform(0.3, 0.5)),
        winglet=draw.uniform(0.05, 0.09) if tips < 0.4 else 0.0,
    )
    # The body is lofted at length 1 and then shrunk onto the wing's root.
    length = chord * draw.uniform(1.25, 1.6)
    wide = draw.uniform(0.05, 0.085) / length
    body = _Fuselage(
        width=wide,
        height=draw.uniform(0.032, 0.045) / length,
        nose=draw.uniform(0.4, 0.5),
        tail=draw.uniform(0.4, 0.5),
        nose_power=draw.uniform(1.5, 1.9),
        end=draw.uniform(0.3, 0.45),
        rise=draw.uniform(0.0, 0.3),
        droop=draw.uniform(0.0, 0.4),
    )
    vertices, faces = body.solid()
    shift = [0, 0.008, draw.uniform(-0.02, 0.04)]
    parts = [wing.wing(), (vertices * length + shift, faces)]
    if draw.random() < 0.6:
        x = draw.uniform(0.09, 0.13)
        y, z, c, thick = wing.at(x)
        size = draw.uniform(0.019, 0.026)
        long = 0.75 * c
        parts += _both(_jet(x, y + 0.5 * thick + 0.3 * size, z + 0.12 * c, size, long))
    if tips >= 0.7:
        x = draw.uniform(0.12, 0.4)
        y, z, c, _ = wing.at(x)
        fin = _panel(
            (x, y, z + 0.42 * c),
            draw.uniform(0.07, 0.11),
            max(0.58 * c, 0.06),
            0.55,
            draw.uniform(25, 45),
            90 - draw.uniform(0, 15),
            _MIN_THICKNESS,
        )
        parts += _both(fin.solid())
    return parts


_BUILDERS = {
    "airliner": _airliner,
    "propeller": _propeller_plane,
    "fighter": _fighter,
    "glider": _glider,
    "biplane": _biplane,
    "flying_wing": _flying_wing,
}


def kind_of(seed: int, index: int) -> str:
    """Class of the shape, one of `KINDS`."""
    block, place = divmod(index, len(_BLOCK))
    order = np.random.default_rng(stable_seed("kinds", seed, block)).permutation(len(_BLOCK))
    return _BLOCK[order[place]]


def airplane(seed: int, index: int):
    """Build one airplane.

    Parameters
    ----------
    seed, index : int
        Name the shape; it depends on nothing else.

    Returns
    -------
    trimesh.Trimesh
        One closed surface facing outwards, its bounding box centred on the origin with a
        diagonal of 1; nose towards -Z, up +Y, symmetric under X -> -X.
    """
    draw = np.random.default_rng(stable_seed("airplane", seed, index))
    parts = _BUILDERS[kind_of(seed, index)](draw)
    for _ in range(8):
        mesh = _union(parts)
        welded = mesh.copy()
        welded.merge_vertices()
        if welded.is_watertight:
            return mesh
        # Edges of two parts touch without crossing: coincident vertices, which a reader merges
        # into an open surface. A shift far below any visible size parts them.
        shifts = draw.uniform(-3e-5, 3e-5, (len(parts), 3)) * [0, 1, 1]
        parts = [(v + shift, f) for (v, f), shift in zip(parts, shifts, strict=True)]
    raise RuntimeError(f"airplane {seed}/{index}: the union of its parts is not closed")
