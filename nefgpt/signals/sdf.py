"""Meshes to SDF point clouds in field coordinates."""

import argparse
import contextlib
import logging
import sys
import time
from pathlib import Path

import igl
import numpy as np
import trimesh
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, sha256_of, write_json
from nefgpt.base.seeds import stable_seed
from nefgpt.inputs import meshes, seen
from nefgpt.inputs.settings import Frame
from nefgpt.signals.file import load_signal
from nefgpt.signals.finished import is_finished, made_from, state_of, write_note
from nefgpt.signals.pose import grid
from nefgpt.signals.settings import Sampling

log = logging.getLogger(__name__)

N_SURFACE = 4096  # two evaluation clouds of the mesh itself
N_THIN = 256  # of them are asked whether they lie on a thin part
N_MIRRORED = 512  # points of the surface that are mirrored
NEAR = 0.01  # field units within which a mirrored point is still on the surface
N_SIGNS = 1024  # near points on which the two signs are compared


def inside(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Whether points float [N, 3], in the mesh's frame, lie inside, bool [N].

    See `nefgpt.inputs.seen.inside`.
    """
    return seen.inside(mesh.vertices, mesh.faces, points)


def signed_distance(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Exact distance, negative `inside`.

    Parameters
    ----------
    points : float [N, 3], in the frame of the mesh.

    Returns
    -------
    float32 [N]
    """
    squared = igl.point_mesh_squared_distance(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(mesh.vertices, np.float64),
        np.ascontiguousarray(mesh.faces, np.int64),
    )[0]
    distance = np.sqrt(np.maximum(squared, 0))
    return np.where(inside(mesh, points), -distance, distance).astype(np.float32)


def on_thin_part(
    mesh: trimesh.Trimesh, points: np.ndarray, normals: np.ndarray, thickness: float = 0.02
) -> np.ndarray:
    """Whether surface points lie on a part thinner than `thickness`, bool [N].

    They do where a line along the normal leaves the solid within `thickness` on both sides, seen
    at 16 depths a side. So the direction of the normals does not matter, and a sheet without
    volume is thin. The narrow faces at the rim of a plate are not.

    Parameters
    ----------
    points, normals : float [N, 3] on the mesh, in its frame; normals of length 1.
    thickness : in the units of the mesh.
    """
    depths = np.linspace(0, thickness, 17)[1:]
    thin = np.ones(len(points), bool)
    for side in (-1, 1):
        within = thin & inside(mesh, points + side * thickness * normals)
        rows = np.flatnonzero(within)  # few: most have left at the far end
        line = points[rows, None] + side * depths[:-1, None] * normals[rows, None]  # [n, 15, 3]
        within[rows] = inside(mesh, line.reshape(-1, 3)).reshape(line.shape[:2]).all(axis=1)
        thin &= ~within
    return thin


def sign_agreement(mesh: trimesh.Trimesh, points: np.ndarray, sdf: np.ndarray) -> float:
    """Share of points that are inside and hidden, or outside and seen from far away.

    What is hidden does not depend on which way faces lie (`nefgpt.inputs.seen.Seen.hidden`): it
    is one where the surface lets no view in and has no cavity. Low values mean that the winding
    number has guessed: the surface is open, its faces lie against each other, or it has rooms.

    Parameters
    ----------
    points : float [N, 3], in the frame of the mesh.
    sdf : float [N], as `signed_distance` gives them.
    """
    hidden = seen.Seen(mesh.vertices, mesh.faces).hidden(points)
    return float((hidden == (sdf < 0)).mean())


def asymmetry(mesh: trimesh.Trimesh, surface: np.ndarray) -> np.ndarray:
    """Of each axis: the share of the surface that is none once mirrored, float32 [3].

    Parameters
    ----------
    mesh : in field coordinates, whose planes x = 0, y = 0 and z = 0 are the mirrors.
    surface : float [N, 3] on it.
    """
    found = []
    for axis in range(3):
        mirrored = np.array(surface[:N_MIRRORED], np.float64)
        mirrored[:, axis] *= -1
        squared = igl.point_mesh_squared_distance(
            mirrored,
            np.ascontiguousarray(mesh.vertices, np.float64),
            np.ascontiguousarray(mesh.faces, np.int64),
        )[0]
        found.append((squared > NEAR**2).mean())
    return np.array(found, np.float32)


def mesh_to_sdf_distance(mesh: trimesh.Trimesh, points: np.ndarray, method: str) -> np.ndarray:
    """Signed distance float32 [N] by the mesh_to_sdf package.

    Parameters
    ----------
    method : "scan" renders the mesh from 100 views (needs EGL or OSMesa), "sample" takes points
        on its faces.

    Raises
    ------
    InputError
        when the package, or for "scan" the library it renders with, is missing.
    """
    # The package prints its progress; standard output is for results.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            import mesh_to_sdf
        except ImportError as error:
            raise InputError(
                f"sdf.backend: mesh_to_sdf cannot be imported ({error}): install the mesh-to-sdf "
                "extra and an OpenGL library (EGL or OSMesa), or use sdf.backend: libigl"
            ) from error
        options = {"surface_point_method": method, "sign_method": "normal"}
        options |= {"bounding_radius": float(np.sqrt(3) / 2), "sample_point_count": 1_000_000}
        try:
            found = mesh_to_sdf.mesh_to_sdf(mesh, np.asarray(points, np.float64), **options)
        # OpenGL's wrappers raise types of their own for a display that is not there.
        except Exception as error:
            if method == "sample":
                raise InputError(f"mesh_to_sdf failed on this mesh: {error!r}") from error
            raise InputError(
                f"mesh_to_sdf could not scan ({error!r}): its scan method needs an EGL or OSMesa "
                "library (set PYOPENGL_PLATFORM=egl or osmesa); or use sdf.method: sample, or "
                "sdf.backend: libigl"
            ) from error
    return np.asarray(found, np.float32)


def sample_sdf(mesh: trimesh.Trimesh, settings: Sampling, seed: int) -> dict:
    """Sample the SDF of a mesh.

    Parameters
    ----------
    mesh : in its own units.

    Returns
    -------
    dict of `points` float32 [N, 3] (uniform ones first, then near ones), `sdf` float32 [N],
    `surface` float32 [N_SURFACE, 3], all in field coordinates, `thin` bool [N_THIN] (whether the
    first points of the surface lie on a thin part), `center`, `scale` with
    field = (mesh - center) * scale, `sign_agreement`, `inside` (the share of the cube),
    `asymmetry` float32 [3] and `cells` uint16 [6, 6, 6] (see `nefgpt.signals.pose.grid`).

    Raises
    ------
    InputError
        when no point lies inside, so that there is nothing to fit.
    """
    used = mesh.vertices[np.unique(mesh.faces)]
    center, scale = meshes.normalise(np.asarray(used), settings.extent)
    scaled = trimesh.Trimesh((mesh.vertices - center) * scale, mesh.faces, process=False)
    rng = np.random.default_rng(seed)
    uniform = rng.uniform(-0.5, 0.5, (settings.n_uniform, 3))
    base, _ = meshes.surface_points(scaled, settings.n_near, stable_seed(seed, "near"))
    near = base + rng.normal(0, settings.sigma, base.shape)
    points = np.clip(np.concatenate([uniform, near]), -0.5, 0.5).astype(np.float32)
    if settings.backend == "libigl":
        sdf = signed_distance(scaled, points)
    else:
        sdf = mesh_to_sdf_distance(scaled, points, settings.method)
    signs = slice(settings.n_uniform, settings.n_uniform + N_SIGNS)
    if not (sdf < 0).any():
        raise InputError(
            "encloses nothing: no point lies inside, so that there is nothing to fit (sheets "
            "have no inside; give them a thickness, or close the surface)"
        )
    surface, faces = meshes.surface_points(scaled, N_SURFACE, stable_seed(seed, "surface"))
    few = slice(N_THIN)
    return {
        "points": points,
        "sdf": sdf,
        "sign_agreement": sign_agreement(scaled, points[signs], sdf[signs]),
        "inside": (sdf[: settings.n_uniform] < 0).mean(),
        "asymmetry": asymmetry(scaled, surface),
        "cells": grid(surface),
        "surface": surface,
        "thin": on_thin_part(scaled, surface[few], scaled.face_normals[faces[few]]),
        "center": center,
        "scale": np.float64(scale),
    }


def prepare(
    path: Path,
    shape_id: str,
    out: Path,
    settings: Sampling,
    seed: int,
    versions: str = "",
    frame: Frame = Frame(),  # noqa: B008 (it is frozen)
) -> None:
    """Write one shape's point cloud; an unusable mesh is written as rejected, with its reason.

    Parameters
    ----------
    versions : of the code that makes mesh and cloud; part of the cloud's note.
    frame : of the mesh's file.
    """
    began, reason = time.perf_counter(), ""
    # Before the mesh is read: a change in between makes the cloud one of the earlier content.
    state = state_of(Path(path))
    empty = np.zeros((0, 3), np.float32)
    arrays = {"points": empty, "sdf": empty[:, 0], "surface": empty, "thin": np.zeros(0, bool)}
    arrays |= {"center": np.zeros(3), "scale": np.float64(1), "n_faces": 0, "watertight": False}
    arrays |= {"sign_agreement": np.nan, "inside": np.nan, "repaired": "", "turn": frame.turn}
    arrays |= {"asymmetry": np.full(3, np.nan, np.float32), "cells": grid(empty)}
    try:
        read = meshes.read_mesh(path, frame)
        arrays |= {"n_faces": len(read.mesh.faces), "repaired": "; ".join(read.notes)}
        arrays["watertight"] = bool(read.mesh.is_watertight)
        arrays |= sample_sdf(read.mesh, settings, stable_seed(seed, shape_id))
    except InputError as error:
        reason = str(error) if str(path) in str(error) else f"{path}: {error}"
        log.warning("%s is left out: %s", shape_id, reason)
    arrays |= {"sha256": state["sha256"], "source_path": str(path), "rejected": reason}
    arrays["seconds"] = time.perf_counter() - began
    with atomic_path(out) as temporary:
        np.savez(temporary, **arrays)
        write_note(temporary, made_from(path, settings, seed, versions, frame) | {"mesh": state})


def prepare_pack(
    sources: dict[str, str],
    out_dir: Path,
    settings: Sampling,
    seed: int,
    versions: str,
    frame: Frame = Frame(),  # noqa: B008 (it is frozen)
) -> dict[str, str]:
    """Write `<shape_id>.npz` of every mesh, but for those that an earlier job finished.

    Parameters
    ----------
    sources : shape id to mesh file.

    Returns
    -------
    Hex SHA-256 of each file.
    """
    hashes = {}
    for shape_id, source in tqdm(sources.items(), desc="meshes", unit="mesh", mininterval=1):
        path = out_dir / f"{shape_id}.npz"
        wanted = made_from(source, settings, seed, versions, frame)
        if _is_whole(path) and is_finished(path, wanted, Path(source)):
            log.info("kept %s: made from the same mesh", path)
        else:
            prepare(Path(source), shape_id, path, settings, seed, versions, frame)
        hashes[shape_id] = sha256_of(path)
    return hashes


def _is_whole(path: Path) -> bool:
    """Whether a cloud is there and its checksums are right."""
    try:
        return path.exists() and bool(load_signal(path))
    except InputError as error:
        log.warning("%s; it is made anew", error)
        return False


def main() -> None:
    """Command line: meshes to point clouds (.npz)."""
    parser = argparse.ArgumentParser(description="Write the SDF point clouds of meshes.")
    parser.add_argument("--meshes", required=True, help="JSON object: shape id -> file, or @file")
    parser.add_argument("--settings", required=True, help="sdf block, JSON or @file")
    parser.add_argument("--frame", default="{}", help="up and forward axes of the files, JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--versions", default="", help="of the code; other clouds are made anew")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, help="write the files' hashes here when done")
    args = parser.parse_args()
    sources = cli.json_argument(args.meshes)
    settings = cli.settings_argument(Sampling, args.settings)
    frame = cli.settings_argument(Frame, args.frame)
    hashes = prepare_pack(sources, args.out_dir, settings, args.seed, args.versions, frame)
    if args.manifest:
        write_json(args.manifest, hashes)
