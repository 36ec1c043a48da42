"""Seeded parametric airplanes in the frame and folder layout of ShapeNet.

Every shape is the union of closed lofted parts, so it is watertight by construction. All
lengths below are in units of the fuselage length (for a flying wing: of the span) until the
last step, which centres the bounding box on the origin and gives it a diagonal of 1.

Frame: nose towards -Z, up +Y, wings along X, symmetric under X -> -X.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt.errors import InputError
from nefgpt.io import atomic_path, sha256_of, stable_seed, write_json

SYNSET = "02691156"

# One block of consecutive indices holds each class this often, in an order drawn per block:
# short packs are balanced too.
_BLOCK = (
    *("airliner",) * 3,
    *("propeller",) * 2,
    *("fighter",) * 2,
    "glider",
    "biplane",
    "flying_wing",
)
KINDS = tuple(dict.fromkeys(_BLOCK))

# Thinnest wing, fin or strut, as a fraction of the larger of length and span: thinner sheets
# are lost on a small neural field.
_MIN_THICKNESS = 0.021

Part = tuple[np.ndarray, np.ndarray]


# --- Closed parts ---------------------------------------------------------------------------


def _loft(rings: np.ndarray) -> Part:
    """Close a stack of rings into a solid.

    Parameters
    ----------
    rings : (S, R, 3) array
        Ring points; all rings run the same way round.

    Returns
    -------
    vertices : (S * R + 2, 3) array
    faces : (2 * S * R, 3) int array, facing outwards.
    """
    s, r, _ = rings.shape
    index = np.arange(s * r).reshape(s, r)
    a, b = index[:-1], np.roll(index, -1, axis=1)[:-1]
    c, d = np.roll(index, -1, axis=1)[1:], index[1:]
    points = rings.reshape(-1, 3)
    # The diagonal of a quad follows its side, so that the mirror image of a part has the
    # mirrored triangles.
    right = (points[a, 0] + points[b, 0] + points[c, 0] + points[d, 0] >= 0)[..., None]
    one = np.where(right, np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    two = np.where(right, np.stack([a, c, d], -1), np.stack([b, c, d], -1))
    first, last = index[0], index[-1]
    start = np.stack([np.full(r, s * r), np.roll(first, -1), first], -1)
    end = np.stack([np.full(r, s * r + 1), last, np.roll(last, -1)], -1)
    faces = np.concatenate([one.reshape(-1, 3), two.reshape(-1, 3), start, end])
    vertices = np.concatenate([points, rings[:1].mean(1), rings[-1:].mean(1)])
    triangles = vertices[faces]
    volume = np.einsum("ij,ij->", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2]))
    return vertices, faces if volume > 0 else faces[:, ::-1]


def _mirror(part: Part) -> Part:
    """The part's image under X -> -X, facing outwards."""
    vertices, faces = part
    return vertices * [-1, 1, 1], faces[:, ::-1]


def _both(part: Part) -> list[Part]:
    """A part and its mirror image."""
    return [part, _mirror(part)]


def _tube(
    centre: np.ndarray, a: np.ndarray, b: np.ndarray, power: float = 2.0, count: int = 16
) -> Part:
    """Solid with superelliptic sections.

    Parameters
    ----------
    centre, a, b : (S, 3) arrays
        Section centres and their two half axes.
    power : float
        2 is an ellipse; larger is boxier.
    count : int
        Points per section, a multiple of 4 so that points lie on the axes.
    """
    angle = 2 * np.pi * np.arange(count) / count
    cos, sin = np.round(np.cos(angle), 12), np.round(np.sin(angle), 12)
    u = (np.sign(cos) * np.abs(cos) ** (2 / power))[:, None]
    v = (np.sign(sin) * np.abs(sin) ** (2 / power))[:, None]
    return _loft(centre[:, None] + u * a[:, None] + v * b[:, None])


def _revolve(
    centre: tuple[float, float, float],
    z: np.ndarray,
    radius: np.ndarray,
    power: float = 2.0,
    aspect: float = 1.0,
    count: int = 16,
) -> Part:
    """Body along Z: at `centre` + z its half width is `radius`, half height `aspect * radius`."""
    z, radius = np.asarray(z, float), np.asarray(radius, float)
    zero = np.zeros_like(z)
    a = np.stack([radius, zero, zero], -1)
    b = np.stack([zero, aspect * radius, zero], -1)
    return _tube(np.asarray(centre) + np.stack([zero, zero, z], -1), a, b, power, count)


def _ellipsoid(
    centre: tuple[float, float, float], half: tuple[float, float, float], count: int = 16
) -> Part:
    """Ellipsoid with half axes `half` along X, Y, Z."""
    angle = np.linspace(0.08, np.pi - 0.08, 11)
    z = -np.cos(angle) * half[2]
    return _revolve(centre, z, np.sin(angle) * half[0], aspect=half[1] / half[0], count=count)


def _strut(start: np.ndarray, end: np.ndarray, chord: float, thickness: float) -> Part:
    """Straight bar of elliptic section, `chord` along Z, `thickness` across it."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / np.linalg.norm(end - start)
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    fore = np.cross(across, along)
    centre = start + np.linspace(0, 1, 3)[:, None] * (end - start)
    one = np.ones((3, 1))
    return _tube(centre, one * across * thickness / 2, one * fore * chord / 2, count=12)


@dataclass
class _Panel:
    """Half of a wing, or a fin: airfoil sections from root to tip.

    Attributes
    ----------
    leading : (S, 3) array
        Leading edge.
    chord, thickness : (S,) arrays
        Length along Z, and thickest height, of each section.
    normal : (S, 3) array
        Unit direction of the thickness, at right angles to Z.
    """

    leading: np.ndarray
    chord: np.ndarray
    thickness: np.ndarray
    normal: np.ndarray

    def at(self, x: float) -> tuple[float, float, float, float]:
        """Y and Z of the leading edge, chord and thickness where a wing passes `x` >= 0."""
        values = (self.leading[:, 1], self.leading[:, 2], self.chord, self.thickness)
        return tuple(float(np.interp(x, self.leading[:, 0], value)) for value in values)

    def solid(self) -> Part:
        """The panel alone."""
        return _airfoils(self.leading, self.chord, self.thickness, self.normal)

    def wing(self) -> Part:
        """The panel, whose root lies on X = 0, and its mirror image as one solid."""
        flip = np.array([-1, 1, 1])
        return _airfoils(
            np.concatenate([self.leading[:0:-1] * flip, self.leading]),
            np.concatenate([self.chord[:0:-1], self.chord]),
            np.concatenate([self.thickness[:0:-1], self.thickness]),
            np.concatenate([self.normal[:0:-1] * flip, self.normal]),
        )


def _airfoils(
    leading: np.ndarray, chord: np.ndarray, thickness: np.ndarray, normal: np.ndarray
) -> Part:
    """Loft airfoil sections; see `_Panel` for the arguments."""
    s = (1 - np.cos(np.linspace(0, np.pi, 10))) / 2
    half = 5 * (0.2969 * np.sqrt(s) - 0.126 * s - 0.3516 * s**2 + 0.2843 * s**3 - 0.1036 * s**4)
    # The blunt trailing edge keeps the rear of the section thick enough to be seen.
    half = half + 0.2 * s
    half /= 2 * half.max()
    along = np.concatenate([s, s[-1:], s[:0:-1]])
    across = np.concatenate([half, [0.0], -half[:0:-1]])
    rings = leading[:, None] + across[:, None] * (thickness[:, None] * normal)[:, None]
    rings[..., 2] += along * chord[:, None]
    return _loft(rings)


def _panel(
    root: tuple[float, float, float],
    span: float,
    chord: float,
    taper: float,
    sweep: float,
    angle: float,
    minimum: float,
    ratio: float = 0.11,
    kink: tuple[float, float] = (0.0, 0.0),
    round_power: float = 0.0,
    winglet: float = 0.0,
    bend: float = 0.0,
) -> _Panel:
    """Tapered, swept panel with a rounded tip.

    Parameters
    ----------
    root : three floats
        Leading edge of the root.
    span : float
        Length from root to tip.
    chord, taper : float
        Root chord, and tip chord over root chord.
    sweep : float
        Of the leading edge, degrees, positive towards the tail.
    angle : float
        Direction from root to tip in degrees: 0 is +X (a wing), 90 is +Y (a fin).
    minimum, ratio : float
        The thickness is the larger of `minimum` and `ratio * chord`.
    kink : two floats
        Extra chord at the root as a fraction of `chord`, and the part of the span over which
        it fades out, at the trailing edge.
    round_power : float
        0 is a straight taper, 1 an elliptic planform.
    winglet : float
        Length of an upturned tip.
    bend : float
        Extra dihedral of the outer panel, degrees.
    """
    u = np.concatenate([np.linspace(0, 0.9, 7), [0.95, 0.98, 1.0]])
    chords = chord * (1 - (1 - taper) * u)
    ellipse = np.sqrt(1 - (0.97 * u) ** 2)
    shrink = (1 - round_power) + round_power * ellipse / (1 - 0.4 * u)
    leading_shift = 0.35 * chords * (1 - shrink)
    chords = chords * shrink
    extra = kink[0] * chord * np.clip(1 - u / max(kink[1], 1e-6), 0, None)
    thickness = np.maximum(ratio * chords, minimum)
    chords = chords + extra
    # The tip is rounded in the last twentieth only, so that it does not turn into a blade.
    tip = np.array([*[1.0] * (len(u) - 3), 0.98, 0.9, 0.7])
    leading_shift = leading_shift + chords * (1 - tip) * 0.6
    chords = chords * tip

    angles = np.radians(angle + bend * np.clip((u - 0.4) / 0.6, 0, 1))
    step = np.diff(u) * span
    middle = (angles[1:] + angles[:-1]) / 2
    x = root[0] + np.concatenate([[0], np.cumsum(step * np.cos(middle))])
    y = root[1] + np.concatenate([[0], np.cumsum(step * np.sin(middle))])
    z = root[2] + u * span * np.tan(np.radians(sweep)) + leading_shift
    leading = np.stack([x, y, z], -1)
    if winglet > 0:
        rise = np.radians(angle + np.array([35.0, 70.0, 75.0]))
        part = winglet * np.array([0.25, 0.4, 0.35])
        offset = np.cumsum(part[:, None] * np.stack([np.cos(rise), np.sin(rise)], -1), axis=0)
        back = np.cumsum(part) * 0.8
        tip_point = leading[-3]
        leading = np.concatenate(
            [leading[:-2], tip_point + np.concatenate([offset, back[:, None]], axis=1)]
        )
        chords = np.concatenate([chords[:-2], chords[-3] * np.array([0.9, 0.75, 0.55])])
        thickness = np.concatenate([thickness[:-2], np.full(3, minimum)])
        angles = np.concatenate([angles[:-2], rise])
    else:
        thickness = thickness * tip
    normal = np.stack([-np.sin(angles), np.cos(angles), np.zeros_like(angles)], -1)
    if root[0] == 0 and abs(angle) < 80:
        normal[0] = [0.0, 1.0, 0.0]  # both halves of a wing share the root section
    return _Panel(leading, chords, thickness, normal)


@dataclass
class _Fuselage:
    """Body of length 1 along Z in [-0.5, 0.5], centred on X = Y = 0.

    Attributes
    ----------
    width, height : float
        Half axes of the thickest section.
    nose, tail : float
        Parts of the length over which it tapers.
    nose_power : float
        1 is a cone; 2 is an ellipsoid.
    tip, end : float
        Radius of the nose and of the tail end, as fractions of the full one.
    rise, droop : float
        How far the tail end rises and the nose sinks, in half heights.
    power : float
        Exponent of the superelliptic section.
    waist : float
        Exponent of the tail's taper: small tapers early.
    """

    width: float
    height: float
    nose: float = 0.15
    tail: float = 0.35
    nose_power: float = 2.0
    tip: float = 0.0
    end: float = 0.2
    rise: float = 0.5
    droop: float = 0.2
    power: float = 2.0
    waist: float = 1.6

    def at(self, z: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Centre's Y, and size as a fraction of the full section, at `z`."""
        t = np.clip(np.asarray(z, float) + 0.5, 0, 1)
        fore = np.clip(1 - t / self.nose, 0, 1)
        aft = np.clip((t - 1 + self.tail) / self.tail, 0, 1)
        front = np.clip(1 - fore**self.nose_power, 0, 1) ** (1 / self.nose_power)
        size = self.tip + (1 - self.tip) * front
        size = size * (1 - (1 - self.end) * aft**self.waist)
        centre = self.height * (self.rise * aft**1.6 - self.droop * fore**1.5)
        return centre, size

    def solid(self) -> Part:
        """The closed body."""
        ramp = np.linspace(0.06, 1, 12)
        t = np.concatenate(
            [
                self.nose * (1 - np.cos(ramp * np.pi / 2)),
                np.linspace(self.nose, 1 - self.tail, 8)[1:-1],
                1 - self.tail + self.tail * np.linspace(0, 1, 12),
            ]
        )
        centre, size = self.at(t - 0.5)
        # A last smaller ring rounds the tail end off.
        t = np.append(t, 1 + 0.4 * self.height * self.end)
        centre, size = np.append(centre, centre[-1]), np.append(size, size[-1] * 0.6)
        zero = np.zeros_like(t)
        middle = np.stack([zero, centre, t - 0.5], -1)
        a = np.stack([size * self.width, zero, zero], -1)
        b = np.stack([zero, size * self.height, zero], -1)
        return _tube(middle, a, b, self.power, 24)


# --- Assemblies -----------------------------------------------------------------------------


def _jet(x: float, y: float, z: float, radius: float, length: float) -> Part:
    """Nacelle with an open intake, front at `z`."""
    where = length * np.array([0.18, 0.0, -0.02, 0.06, 0.3, 0.6, 0.85, 1.0, 1.08])
    size = radius * np.array([0.7, 0.76, 0.86, 0.96, 1.0, 0.95, 0.78, 0.6, 0.3])
    return _revolve((x, y, z), where, size)


def _propeller(
    x: float, y: float, z: float, radius: float, blades: int, minimum: float
) -> list[Part]:
    """Propeller with its spinner, hub at (x, y, z); a disc when `blades` is 0.

    The blades are placed so that the whole is its own mirror image about its hub.
    """
    hub = max(0.16 * radius, 0.6 * minimum)
    where = hub * np.array([-1.6, -1.45, -1.0, -0.4, 0.3, 2.5])
    size = hub * np.array([0.15, 0.4, 0.75, 0.95, 1.0, 1.0])
    # With 20 points no edge of the spinner runs along a blade at 45 degrees: where edges only
    # touch, the union has coincident vertices that a reader may merge into an open surface.
    parts = [_revolve((x, y, z), where, size, count=20)]
    if blades == 0:
        rim = np.array([0.97, 1.0, 1.0, 0.97])
        thick = minimum * np.array([-0.5, -0.35, 0.35, 0.5])
        return [*parts, _revolve((x, y, z), thick, radius * rim, count=32)]
    first = 0.0 if blades == 2 else 45.0 if blades == 4 else 90.0
    for k in range(blades):
        angle = np.radians(first + 360.0 * k / blades)
        along = np.round([np.cos(angle), np.sin(angle), 0.0], 12)
        across = np.array([-along[1], along[0], 0.0])
        u = np.array([0.0, 0.25, 0.5, 0.75, 0.93, 1.0])[:, None]
        wide = radius * np.array([0.09, 0.11, 0.13, 0.125, 0.09, 0.04])[:, None]
        deep = np.array([1.0, 1.0, 1.0, 1.0, 0.95, 0.6])[:, None] * minimum / 2
        centre = np.array([x, y, z]) + u * radius * along
        fore = np.array([0.0, 0.0, 1.0])
        parts.append(_tube(centre, np.maximum(wide, deep) * across, deep * fore, count=12))
    return parts


def _gear(x: float, y: float, z: float, drop: float, radius: float, minimum: float) -> list[Part]:
    """Two fixed legs with wheels, from (0.4 x, y, z) down to (x, y - drop, z)."""
    leg = _strut([0.4 * x, y, z], [x, y - drop, z], 1.6 * minimum, minimum)
    width = minimum * np.array([-0.5, -0.4, 0.4, 0.5])
    size = radius * np.array([0.85, 1.0, 1.0, 0.85])
    zero = np.zeros(4)
    wheel = _tube(
        np.array([x, y - drop, z]) + np.stack([width, zero, zero], -1),
        np.stack([zero, size, zero], -1),
        np.stack([zero, zero, size], -1),
    )
    return [*_both(leg), *_both(wheel)]


def _tail(
    draw: np.random.Generator,
    body: _Fuselage,
    layout: str,
    height: float,
    span: float,
    chord: float,
    sweep: float,
    minimum: float,
) -> list[Part]:
    """Tail surfaces at the rear of a body.

    Parameters
    ----------
    layout : str
        "conventional", "cruciform", "t", "v" or "twin" (two fins on the tailplane's tips).
    height, span, chord : float
        Of the fin above the body, of the whole tailplane, and of both at their roots.
    sweep : float
        Of the fin's leading edge, degrees.
    """
    z = 0.49 - chord * draw.uniform(1.0, 1.08)
    middle, size = (float(value) for value in body.at(z + chord / 2))
    top = size * body.height
    taper = draw.uniform(0.42, 0.62)
    if layout == "v":
        angle = draw.uniform(32, 45)
        reach = 0.5 * span / np.cos(np.radians(angle))
        panel = _panel((0, middle, z), reach, chord, taper, 0.7 * sweep, angle, minimum)
        return [panel.wing()]
    plane_sweep = sweep * draw.uniform(0.55, 0.85)
    if layout == "twin":
        y = middle + 0.2 * top
        plane = _panel((0, y, z), span / 2, 0.8 * chord, 0.85, 0.2 * sweep, 0, minimum)
        py, pz, pc, _ = plane.at(0.46 * span)
        fin = _panel(
            (0.46 * span, py - 0.3 * height, pz - 0.1 * pc),
            height,
            1.15 * pc,
            0.6,
            0.5 * sweep,
            90,
            minimum,
        )
        return [plane.wing(), *_both(fin.solid())]
    fin = _panel((0, middle, z), height + top, chord * 1.05, taper, sweep, 90, minimum)
    if layout == "conventional":
        y, place, width = middle + draw.uniform(-0.1, 0.3) * top, z + 0.1 * chord, 0.85 * chord
        angle = draw.uniform(0, 7)
    else:
        u = 0.95 if layout == "t" else draw.uniform(0.4, 0.6)
        y = float(np.interp(u, [0, 1], [middle, middle + height + top]))
        tip = chord * 1.05 * (1 - (1 - taper) * u)
        place = z + u * (height + top) * np.tan(np.radians(sweep)) - 0.02 * tip
        width, angle = max(tip, 0.75 * chord), draw.uniform(-3, 2)
    plane = _panel((0, y, place), span / 2, width, taper, plane_sweep, angle, minimum)
    return [fin.solid(), plane.wing()]


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
    # Side intakes run back into the engines.
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
    parts += _both(jet) if twin_engine else [jet]
    fin_chord = draw.uniform(0.16, 0.21)
    fin_sweep = draw.uniform(36, 50)
    fin_place = 0.44 - fin_chord
    if draw.random() < 0.5:
        fin = _panel(
            (0.75 * body.width, 0.1 * radius, fin_place - 0.04),
            draw.uniform(0.15, 0.19),
            fin_chord,
            draw.uniform(0.4, 0.55),
            fin_sweep,
            90 - draw.uniform(3, 28),
            minimum,
        )
        parts += _both(fin.solid())
    else:
        height = draw.uniform(0.19, 0.24)
        fin = _panel((0, 0, fin_place), height, 1.15 * fin_chord, 0.4, fin_sweep, 90, minimum)
        parts.append(fin.solid())
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


def _union(parts: list[Part]):
    """Union of closed parts as one trimesh.Trimesh, centred, with a diagonal of 1."""
    import manifold3d
    import trimesh

    solids = []
    for vertices, faces in parts:
        mesh = manifold3d.Mesh(vertices.astype(np.float32), faces.astype(np.uint32))
        solid = manifold3d.Manifold(mesh)
        if solid.status() != manifold3d.Error.NoError:
            raise RuntimeError(f"a part is not closed: {solid.status()}")
        solids.append(solid)
    union = manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add).to_mesh()
    vertices = np.asarray(union.vert_properties[:, :3], np.float64)
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) / np.linalg.norm(high - low)
    return trimesh.Trimesh(vertices, np.asarray(union.tri_verts, np.int64), process=False)


# --- Shapes and files -----------------------------------------------------------------------


def shape_id(seed: int, index: int) -> str:
    """32 hex characters that name the shape, as ShapeNet's ids do."""
    return hashlib.sha256(f"airplane\0{seed}\0{index}".encode()).hexdigest()[:32]


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


def write_mesh(root: Path, seed: int, index: int) -> Path:
    """Write one shape to root/02691156/<id>/models/model_normalized.obj; return that path."""
    path = Path(root) / SYNSET / shape_id(seed, index) / "models" / "model_normalized.obj"
    with atomic_path(path) as temporary:
        airplane(seed, index).export(temporary, file_type="obj", header=None)
    return path


def write_pack(root: Path, seed: int, start: int, stop: int) -> list[Path]:
    """Write the shapes with start <= index < stop; return their paths in that order."""
    return [write_mesh(root, seed, index) for index in tqdm(range(start, stop), desc="airplanes")]


def main() -> None:
    """Command line: write a pack of airplanes, and the hashes of its files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that gets 02691156/")
    parser.add_argument("--n-shapes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=int, default=0, help="index of the first shape")
    parser.add_argument("--manifest", type=Path, help="JSON file for the SHA-256 of each mesh")
    args = parser.parse_args()
    if args.n_shapes < 1 or args.start < 0:
        raise InputError("--n-shapes must be at least 1 and --start at least 0")
    paths = write_pack(args.root, args.seed, args.start, args.start + args.n_shapes)
    if args.manifest:
        shapes = {path.parent.parent.name: sha256_of(path) for path in paths}
        write_json(args.manifest, {"shapes": shapes})
