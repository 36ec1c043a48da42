"""Meshes in: any of the supported files as one geometry, or one clear reason why not."""

import dataclasses
from pathlib import Path

import numpy as np
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.inputs import gltf, obj, off, ply, stl
from nefgpt.inputs.listing import SUFFIXES
from nefgpt.inputs.orient import repair
from nefgpt.inputs.polygons import Soup, triangulate
from nefgpt.inputs.settings import Frame

LARGEST = 1e100  # a coordinate's magnitude; squares and cubes of larger ones overflow
SMALLEST = 1e-100  # a mesh's extent
SAME = 1e-8  # vertices nearer than this share of the extent are one
READERS = {".obj": obj, ".off": off, ".ply": ply, ".stl": stl, ".glb": gltf, ".gltf": gltf}


@dataclasses.dataclass(frozen=True)
class Read:
    """A mesh as it is used, and how it came out of its file.

    Attributes
    ----------
    mesh : in ShapeNet's frame and the file's units; equal vertices are one.
    format : what the file is, for people.
    parts : objects, groups, solids or primitives that the file names and that have faces.
    n_vertices, n_polygons : what the file holds, before polygons were cut into triangles.
    notes : what was left out or repaired, a sentence each.
    """

    mesh: trimesh.Trimesh
    format: str
    parts: int
    n_vertices: int
    n_polygons: int
    notes: tuple[str, ...]


def read_mesh(path: str | Path, frame: Frame = Frame()) -> Read:  # noqa: B008 (it is frozen)
    """Read a mesh; parts of a scene are joined, materials and textures ignored.

    Parameters
    ----------
    frame : of the file; the mesh is turned into ShapeNet's.

    Raises
    ------
    InputError
        naming the file, when it is missing, empty, broken, without faces, without extent, or
        has non-finite or huge vertices.
    """
    path = Path(path)
    found = _soup(path)
    try:
        faces = triangulate(found)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as a mesh ({error})") from error
    if not len(faces):
        raise InputError(_without_faces(path, found))
    used = found.vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise InputError(f"{path}: has NaN or infinite vertices")
    if np.abs(used).max() > LARGEST:
        raise InputError(f"{path}: has vertices beyond {LARGEST:g}")
    if not np.ptp(used, axis=0).max() > SMALLEST:
        raise InputError(f"{path}: has no extent")
    vertices, faces = merge(found.vertices, faces)
    if frame.given:
        vertices = vertices @ np.array(frame.turn, np.float64).T
    notes = list(found.notes)
    flat = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    if flat.any():
        faces = faces[~flat]
        notes.append(f"{flat.sum()} faces that name a point twice left out")
    if not len(faces) or not _area(vertices, faces) > 0:
        raise InputError(f"{path}: its faces have no area")
    faces, repairs = repair(vertices, faces)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    counts = found.parts, len(found.vertices), len(found.sizes)
    return Read(mesh, found.format, *counts, (*notes, *repairs))


def load_mesh(path: str | Path, frame: Frame = Frame()) -> trimesh.Trimesh:  # noqa: B008
    """The mesh alone; see `read_mesh`."""
    return read_mesh(path, frame).mesh


def _soup(path: Path) -> Soup:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format; use one of {', '.join(sorted(SUFFIXES))}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        return READERS[suffix].read(path)
    # Readers raise whatever their broken input leads to; each is the file's fault here.
    except Exception as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise InputError(f"{path}: cannot be read as a mesh ({reason:.200})") from error


def _without_faces(path: Path, found: Soup) -> str:
    why = f" ({'; '.join(found.notes)})" if found.notes else ""
    return f"{path}: has no faces{why}"


def merge(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices that faces name, each position once, and the faces that name those.

    Positions are compared on a grid of `SAME` of the extent, so that no unit and no distance to
    the origin makes a difference.

    Parameters
    ----------
    vertices : float64 [V, 3]
    faces : int64 [F, 3]
    """
    named, corners = np.unique(faces, return_inverse=True)
    used = vertices[named]
    low = used.min(axis=0)
    grid = np.rint((used - low) / ((used - low).max() * SAME)).astype(np.int64)
    _, first, same = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return used[first[order]], place[same.ravel()][corners.ravel()].reshape(faces.shape)


def _area(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Area of all faces, of a mesh whose extent is made one."""
    corners = (vertices[faces] - vertices.min(axis=0)) / np.ptp(vertices, axis=0).max()
    sides = corners[:, 1:] - corners[:, :1]
    return float(np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2)


def normalise(vertices: np.ndarray, extent: float = 0.9) -> tuple[np.ndarray, float]:
    """Centre (float64 [3], mesh units) and scale: field = (mesh - centre) * scale.

    The bounding box is centred on the origin and its longest side becomes `extent`.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (low + high) / 2, float(extent / (high - low).max())


def surface_points(mesh: trimesh.Trimesh, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Area-uniform points on the surface, in the mesh's units.

    Returns
    -------
    float32 [n, 3], and the face that each lies on, int64 [n].
    """
    points, faces = trimesh.sample.sample_surface(mesh, n, seed=seed)
    return np.asarray(points, np.float32), np.asarray(faces, np.int64)
