"""The surface that a field holds: its values on a grid, where they matter, and marching cubes."""

import dataclasses
import functools
import importlib.machinery
import importlib.util
from types import ModuleType

import numpy as np

from nefgpt.base.compiled import B3, F3, I1, Compiled
from nefgpt.fields import fused
from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.parts import connected_parts

STRIDE = 4  # grid samples from one coarse sample to the next
# A cell is looked into where the field says at a corner that the surface is nearer than this, in
# diagonals of the cell. Half a diagonal would do were a field's steepness exactly one.
_REACH = 1.0


@dataclasses.dataclass
class Surface:
    """A triangle mesh in field coordinates.

    Attributes
    ----------
    vertices : float64 [V, 3].
    faces : int64 [F, 3], counter-clockwise seen from outside.
    n_components : connected parts before small ones were dropped.
    """

    vertices: np.ndarray
    faces: np.ndarray
    n_components: int

    @property
    def valid(self) -> bool:
        """Whether there is a surface with a positive area."""
        return len(self.faces) > 0 and bool(self._areas.sum() > 0)

    @functools.cached_property
    def _areas(self) -> np.ndarray:
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Area-uniform points, float32 [n, 3]."""
        rng = np.random.default_rng(seed)
        cumulative = np.cumsum(self._areas)
        chosen = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        chosen = np.minimum(chosen, len(self.faces) - 1)
        root, v = np.sqrt(rng.random((n, 1))), rng.random((n, 1))
        a, b, c = (self.vertices[self.faces[chosen, i]] for i in range(3))
        return (a * (1 - root) + b * root * (1 - v) + c * root * v).astype(np.float32)


def evaluate_grid(spec: FieldSpec, weights: np.ndarray, resolution: int) -> np.ndarray:
    """Values of one field [W] on the corner-exact grid over [-0.5, 0.5]^3.

    Parameters
    ----------
    resolution : samples per axis; the first lies at -0.5, the last at 0.5.

    Returns
    -------
    float32 [resolution, resolution, resolution], indexed x, y, z.
    """
    axis = np.linspace(-0.5, 0.5, resolution, dtype=np.float32)
    mirrored, across = spec.mirror is not None, spec.mirror or 0
    first, second = (d for d in range(3) if d != across)
    plane = np.empty((resolution, resolution, 3), np.float32)
    plane[..., first], plane[..., second] = axis[:, None], axis
    planes = np.empty((resolution,) * 3, np.float32)
    for i in range(resolution // 2 if mirrored else 0, resolution):
        plane[..., across] = axis[i]
        values = fused.values(spec, weights, plane.reshape(-1, 3))
        planes[i] = values.reshape(resolution, resolution)
        if mirrored:
            planes[-1 - i] = planes[i]
    return np.ascontiguousarray(np.moveaxis(planes, 0, across))


_spread = Compiled(__name__, "spread", F3, F3, B3)
_cells_near = Compiled(__name__, "cells_near", F3, float, float, float, int, B3)
_unknown = Compiled(__name__, "unknown", B3, B3, I1)
_cells_entered = Compiled(__name__, "cells_entered", B3, B3, F3, float, B3)


def evaluate_near(
    spec: FieldSpec, weights: np.ndarray, resolution: int, level: float = 0.0
) -> np.ndarray:
    """Values of one field [W] on the grid of `evaluate_grid`: exact near its surface.

    Every fourth sample is evaluated, then the samples of each cell between those that can hold
    the surface, then of each cell into which the surface is seen to go on. So what marching cubes
    makes of it differs from the whole grid's only by parts that lie within cells at whose corners
    the field says that the surface is further away than the cell is long. All other samples have
    the sign of a coarse one. An occupancy says no distances: it is evaluated everywhere.

    Parameters
    ----------
    level : signed distance of the surface, field units; see `surface`.

    Returns
    -------
    float32 [resolution, resolution, resolution], indexed x, y, z.
    """
    if spec.target != "sdf" or resolution <= 4 * STRIDE:
        return evaluate_grid(spec, weights, resolution)
    axis = np.linspace(-0.5, 0.5, resolution, dtype=np.float32)
    folded, across = spec.mirror is not None, spec.mirror or 0
    order = across, *(d for d in range(3) if d != across)  # of the coordinates, as stored here
    sides = [axis[resolution // 2 :] if folded else axis, axis, axis]
    shape = tuple(map(len, sides))

    def evaluate(numbers: np.ndarray) -> np.ndarray:
        points = np.empty((len(numbers), 3), np.float32)
        places = np.unravel_index(numbers, shape)
        for d, side, place in zip(order, sides, places, strict=True):
            points[:, d] = side[place]
        return fused.values(spec, weights, points)

    knots = [np.minimum(np.arange(0, n + STRIDE - 1, STRIDE), n - 1) for n in shape]
    numbers = np.ravel_multi_index(np.ix_(*knots), shape)
    coarse = evaluate(numbers.ravel()).reshape(numbers.shape)
    reach = _REACH * np.sqrt(3) * STRIDE / (resolution - 1)
    low, border, high = (spec.surface_level(level + side * reach) for side in (-1, 0, 1))
    values, known = np.empty(shape, np.float32), np.empty(shape, bool)
    _spread(coarse, values, known)
    fresh = np.empty([n - 1 for n in coarse.shape], bool)
    _cells_near(coarse, border, low, high, folded, fresh)
    active, chosen = fresh.copy(), np.empty(values.size, np.int64)
    while fresh.any():
        some = chosen[: _unknown(fresh, known, chosen)]
        values.ravel()[some] = evaluate(some)
        _cells_entered(active, known, values, border, fresh)
        active |= fresh
    if folded:
        mirrored = values[:0:-1] if resolution % 2 else values[::-1]
        values = np.concatenate([mirrored, values])
    return np.moveaxis(values, 0, across)


@functools.cache
def _mcubes() -> ModuleType:
    """PyMCubes' extension alone: the package loads SciPy as well, to smooth, which takes 0.3 s."""
    package = importlib.util.find_spec("mcubes")
    places = package.submodule_search_locations if package else None
    found = importlib.machinery.PathFinder.find_spec("mcubes._mcubes", places)
    if found is None:
        return importlib.import_module("mcubes")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def marching_cubes(grid: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Level set of a corner-exact grid over [-0.5, 0.5]^3, closed at the cube's border."""
    inside, box = grid < level, []  # the samples around all that lie inside
    for d in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != d)))
        if not len(found):
            return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
        box.append(slice(max(found[0] - 1, 0), found[-1] + 2))
    padded = np.pad(grid[tuple(box)], 1, constant_values=1.0)
    vertices, faces = _mcubes().marching_cubes(padded, level)
    vertices = (vertices - 1 + [side.start for side in box]) / (len(grid) - 1) - 0.5
    return vertices, faces.astype(np.int64)[:, ::-1]


def surface(
    spec: FieldSpec,
    field: np.ndarray,
    resolution: int,
    min_component: float = 0.0,
    level: float = 0.0,
) -> Surface:
    """Extract the surface of one field [W].

    Parameters
    ----------
    resolution : grid samples per axis.
    min_component : drop connected parts with fewer faces than this share of the largest.
    level : signed distance, in field units, of the surface that is extracted; a little above
        zero keeps parts that are thinner than a grid cell.
    """
    grid = evaluate_near(spec, field, resolution, level)
    if not np.isfinite(grid).all():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64), 0)
    vertices, faces = marching_cubes(grid, spec.surface_level(level))
    if not len(faces):
        return Surface(vertices, faces, 0)
    n_components, part = connected_parts(faces, len(vertices))
    part_of_face = part[faces[:, 0]]
    sizes = np.bincount(part_of_face, minlength=n_components)
    faces = faces[sizes[part_of_face] >= min_component * sizes.max()]
    used, index = np.unique(faces, return_inverse=True)
    return Surface(vertices[used], index.reshape(faces.shape), n_components)
