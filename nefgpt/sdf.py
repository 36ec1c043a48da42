"""Meshes to SDF point clouds in field coordinates."""

import time
import zipfile
from pathlib import Path

import igl
import numpy as np
import trimesh

from nefgpt import meshes
from nefgpt.errors import InputError
from nefgpt.io import atomic_path, sha256_of, stable_seed

N_SURFACE = 4096  # two evaluation clouds of the mesh itself


def signed_distance(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Exact distance, negative where the fast winding number's magnitude is above one half.

    The magnitude makes a mesh with its faces turned inside out equal to its right side out.

    Parameters
    ----------
    points : float [N, 3], in the frame of the mesh.

    Returns
    -------
    float32 [N]
    """
    vertices = np.ascontiguousarray(mesh.vertices, np.float64)
    faces = np.ascontiguousarray(mesh.faces, np.int64)
    queries = np.ascontiguousarray(points, np.float64)
    squared = igl.point_mesh_squared_distance(queries, vertices, faces)[0]
    winding = igl.fast_winding_number(vertices, faces, queries)
    distance = np.sqrt(np.maximum(squared, 0))
    return np.where(np.abs(winding) > 0.5, -distance, distance).astype(np.float32)


def sample_sdf(mesh: trimesh.Trimesh, settings: dict, seed: int) -> dict:
    """Sample the SDF of a mesh.

    Parameters
    ----------
    mesh : in its own units.
    settings : n_uniform, n_near, sigma (field units), extent.

    Returns
    -------
    dict of `points` float32 [N, 3] (uniform ones first, then near ones), `sdf` float32 [N],
    `surface` float32 [N_SURFACE, 3], all in field coordinates, and `center`, `scale` with
    field = (mesh - center) * scale.
    """
    used = mesh.vertices[np.unique(mesh.faces)]
    center, scale = meshes.normalise(np.asarray(used), settings["extent"])
    scaled = trimesh.Trimesh((mesh.vertices - center) * scale, mesh.faces, process=False)
    rng = np.random.default_rng(seed)
    uniform = rng.uniform(-0.5, 0.5, (settings["n_uniform"], 3))
    base = meshes.surface_points(scaled, settings["n_near"], stable_seed(seed, "near"))
    near = base + rng.normal(0, settings["sigma"], base.shape)
    points = np.clip(np.concatenate([uniform, near]), -0.5, 0.5).astype(np.float32)
    return {
        "points": points,
        "sdf": signed_distance(scaled, points),
        "surface": meshes.surface_points(scaled, N_SURFACE, stable_seed(seed, "surface")),
        "center": center,
        "scale": np.float64(scale),
    }


def prepare(path: Path, shape_id: str, out: Path, settings: dict, seed: int) -> None:
    """Write one shape's point cloud; an unusable mesh is written as rejected, with its reason."""
    began, reason = time.perf_counter(), ""
    empty = np.zeros((0, 3), np.float32)
    arrays = {"points": empty, "sdf": empty[:, 0], "surface": empty}
    arrays |= {"center": np.zeros(3), "scale": np.float64(1), "n_faces": 0, "watertight": False}
    try:
        mesh = meshes.load_mesh(path)
        arrays |= sample_sdf(mesh, settings, stable_seed(seed, shape_id))
        arrays |= {"n_faces": len(mesh.faces), "watertight": bool(mesh.is_watertight)}
    except InputError as error:
        reason = str(error)
    arrays["sha256"] = sha256_of(path) if Path(path).is_file() else ""
    arrays |= {"source_path": str(path), "rejected": reason}
    arrays["seconds"] = time.perf_counter() - began
    with atomic_path(out) as temporary:
        np.savez(temporary, **arrays)


def load_sdf(path: Path) -> dict:
    """Read a point cloud; raise InputError naming the file when it is missing or broken."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            cloud = {name: stored[name] for name in stored.files}
        cloud["rejected"] = str(cloud["rejected"])
        healthy = len(cloud["points"]) == len(cloud["sdf"]) and np.isfinite(cloud["sdf"]).all()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
    if not healthy:
        raise InputError(f"{path} holds broken values; delete it and run again")
    return cloud
