"""Meshes in: any of the supported files as one geometry, or one clear reason why not."""

import warnings
from pathlib import Path

import numpy as np
import trimesh

from nefgpt.dataset import SUFFIXES
from nefgpt.errors import InputError


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """Read a mesh; parts of a scene are joined, materials and textures ignored.

    Raises
    ------
    InputError
        naming the file, when it is missing, empty, broken, without faces, without extent, or
        has non-finite vertices.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown format; use one of {sorted(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = trimesh.load(path, force="mesh", process=False, skip_materials=True)
        vertices = np.asarray(mesh.vertices, np.float64)
        faces = np.asarray(mesh.faces, np.int64)
    # The parsers raise whatever their broken input leads to; each is the file's fault here.
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a mesh ({error!r})") from error
    if faces.ndim != 2 or not len(faces):
        raise InputError(f"{path}: has no faces")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{path}: a face names a vertex that is not there; truncated file?")
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise InputError(f"{path}: has NaN or infinite vertices")
    if not np.ptp(used, axis=0).max() > 0:
        raise InputError(f"{path}: has no extent")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.merge_vertices()
    if not mesh.area > 0:
        raise InputError(f"{path}: its faces have no area")
    return mesh


def normalise(vertices: np.ndarray, extent: float = 0.9) -> tuple[np.ndarray, float]:
    """Centre (float64 [3], mesh units) and scale: field = (mesh - centre) * scale.

    The bounding box is centred on the origin and its longest side becomes `extent`.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (low + high) / 2, float(extent / (high - low).max())


def surface_points(mesh: trimesh.Trimesh, n: int, seed: int) -> np.ndarray:
    """Area-uniform points on the surface, float32 [n, 3], in the mesh's units."""
    points, _ = trimesh.sample.sample_surface(mesh, n, seed=seed)
    return np.asarray(points, np.float32)
