"""Shapes as signals: fields of signed distance to surfaces, and how well they keep their shape.

Grid evaluation, marching cubes, meshes and point clouds. One of the kinds of `nefgpt.signals`.
"""

import dataclasses
import functools
import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from nefgpt import fused
from nefgpt.field import FieldSpec
from nefgpt.io import load_signal
from nefgpt.parts import connected_parts
from nefgpt.signals import Decoded

N_POINTS = 2048  # per cloud, DESIGN.md section 3
QUALITY = ("iou", "iou_near", "chamfer", "f_score")
KEPT = ("iou", "chamfer")
DISTANCE = "Chamfer distance ×10²"
FILES = ("meshes", ".ply")
_HELD_OUT = 10  # every tenth point is kept from training and measures the fit


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
        return len(self.faces) > 0 and bool(self._areas().sum() > 0)

    def _areas(self) -> np.ndarray:
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Area-uniform points, float32 [n, 3]."""
        rng = np.random.default_rng(seed)
        cumulative = np.cumsum(self._areas())
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
    padded = np.pad(grid, 1, constant_values=1.0)
    vertices, faces = _mcubes().marching_cubes(padded, level)
    vertices = (vertices - 1) / (len(grid) - 1) - 0.5
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
    grid = evaluate_grid(spec, field, resolution)
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


def normalise_cloud(points: np.ndarray) -> np.ndarray:
    """Centre on the mean, divide by the standard deviation of all coordinates."""
    points = points - points.mean(axis=0)
    return (points / points.std()).astype(np.float32)


def training_rows(n: int) -> np.ndarray:
    """Which of `n` points fits may see, bool [n]: all but every tenth."""
    return np.arange(n) % _HELD_OUT != 0


def overlap(spec: FieldSpec, weights: np.ndarray, signal: dict) -> dict:
    """Inside/outside agreement of one field [W] with a shape, without extracting its surface.

    Returns
    -------
    dict with `iou` (on all held-out points) and `iou_near` (on those near the surface).
    """
    from nefgpt.metrics import iou

    held_out = np.ascontiguousarray(signal["points"][::_HELD_OUT])
    truth = signal["values"][::_HELD_OUT] < 0
    inside = fused.values(spec, weights, held_out) < spec.surface_level()
    half = len(truth) // 2  # the sampler writes uniform points first, near ones second
    return {"iou": float(iou(inside, truth)), "iou_near": float(iou(inside[half:], truth[half:]))}


def closeness(found: Surface, reference: np.ndarray) -> dict:
    """How close an extracted surface is to the mesh.

    Parameters
    ----------
    reference : float32 [N, 3] points on the mesh, in field coordinates.

    Returns
    -------
    dict with `chamfer` (of N_POINTS points, in the evaluation's normalisation, times 100; NaN
    without a surface) and `f_score` (of N points at 0.01 field units; 0 without a surface).
    """
    from nefgpt.metrics import chamfer, f_score

    if not found.valid:
        return {"chamfer": float("nan"), "f_score": 0.0}
    few = reference[:N_POINTS]
    centre, spread = few.mean(axis=0), few.std()
    points = found.sample(len(few), seed=0)
    distance = 100 * chamfer((points - centre) / spread, (few - centre) / spread)
    return {
        "chamfer": distance,
        "f_score": f_score(found.sample(len(reference), seed=0), reference),
    }


def quality(spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
    """How well one field [W] keeps its shape.

    Parameters
    ----------
    signal : what the SDF stage wrote of the shape.
    resolution : grid samples per axis of the extracted surface.

    Returns
    -------
    dict of what `overlap` and `closeness` say, and `n_components` of the extracted surface.
    """
    found = surface(spec, weights, resolution)
    return (
        overlap(spec, weights, signal)
        | closeness(found, signal["surface"])
        | {"n_components": found.n_components}
    )


def real(signal: dict) -> np.ndarray:
    """What the metrics compare of a real shape: its cloud, float32 [N_POINTS, 3]."""
    return normalise_cloud(signal["surface"][:N_POINTS])


def distances(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of Chamfer distances; see `nefgpt.metrics.chamfer_matrix`."""
    from nefgpt.metrics import chamfer_matrix

    return chamfer_matrix(a, b)


def decode(
    spec: FieldSpec,
    field: np.ndarray,
    settings: dict,
    seed: int,
    size: tuple[int, ...],
    source: Path | None = None,
) -> Decoded:
    """Turn one field [W] into a mesh and the cloud that the metrics compare.

    Parameters
    ----------
    settings : resolution, min_component, level of `surface`.
    size : (N_POINTS, 3).
    source : for the field of a real shape: its .npz, which says how to go back to the mesh's own
        units. Generated fields have no others than field coordinates.
    """
    found = surface(spec, field, **settings)
    about = {"n_components": found.n_components, "n_faces": len(found.faces)}
    if not found.valid:
        return Decoded(None, about | {"watertight": False}, None)
    import trimesh  # fits need no mesh files, and start sooner without

    vertices = found.vertices
    if source is not None:
        frame = load_signal(source, only=("center", "scale"))
        vertices = vertices / frame["scale"] + frame["center"]
    mesh = trimesh.Trimesh(vertices, found.faces, process=False)
    about["watertight"] = bool(mesh.is_watertight)
    return Decoded(normalise_cloud(found.sample(size[0], seed)), about, mesh.export)
