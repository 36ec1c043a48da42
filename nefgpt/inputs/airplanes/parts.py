"""An airplane's parts: wings, fuselages, engines, propellers, gear, tails."""

from dataclasses import dataclass

import numpy as np

from nefgpt.inputs.airplanes.solids import Part, _both, _loft, _revolve, _strut, _tube

# Thinnest wing, fin or strut, as a fraction of the larger of length and span: thinner sheets
# are lost on a small neural field.
_MIN_THICKNESS = 0.021


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
