"""Meshes in: any of the supported files as one geometry, or one clear reason why not."""

import json
import logging
import re
import warnings
from pathlib import Path

import numpy as np
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.inputs.listing import SUFFIXES

# Its parsers log tracebacks of what they then try in another way.
logging.getLogger("trimesh").setLevel(logging.CRITICAL)

LARGEST = 1e100  # a coordinate's magnitude; squares and cubes of larger ones overflow
HEADER = 1 << 16  # bytes that a PLY or OFF header fits in


def _claimed_faces(path: Path) -> int:
    """The number of faces that a PLY or OFF header promises; 0 when it says nothing."""
    with path.open("rb") as stream:
        head = stream.read(HEADER)
    if path.suffix.lower() == ".ply":
        head = head[: head.find(b"end_header")]
        found = re.search(rb"^\s*element\s+face\s+(\d+)\s*$", head, re.MULTILINE)
    else:
        found = re.match(rb"\s*[A-Za-z0-9]*OFF\s*\d+\s+(\d+)", re.sub(rb"#[^\n]*", b"", head))
    return int(found[1]) if found else 0


def _check_glb(path: Path) -> None:
    """Refuse a GLB whose chunks or accessors claim more bytes or elements than the file has.

    The format lets an accessor stand for zeros that are nowhere in the file.
    """
    content = path.read_bytes()
    chunks, start = [], 12
    while start < len(content):
        length = int.from_bytes(content[start : start + 4], "little")
        start += 8 + length
        chunks.append(content[start - length : start])
    if start != len(content):
        raise ValueError("its chunks are longer than the file")
    for accessor in json.loads(chunks[0]).get("accessors", []):
        if accessor["count"] > len(content):
            raise ValueError(f"an accessor claims {accessor['count']} elements")


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """Read a mesh; parts of a scene are joined, materials and textures ignored.

    Raises
    ------
    InputError
        naming the file, when it is missing, empty, broken, without faces, without extent, or
        has non-finite or huge vertices.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown format; use one of {sorted(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        if suffix == ".glb":
            _check_glb(path)
        claimed = _claimed_faces(path) if suffix in (".ply", ".off") else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = trimesh.load(path, force="mesh", process=False, skip_materials=True)
        vertices = np.asarray(mesh.vertices, np.float64)
        faces = np.asarray(mesh.faces, np.int64)
    # The parsers raise whatever their broken input leads to; each is the file's fault here.
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a mesh ({error!r:.200})") from error
    if not len(faces):
        raise InputError(f"{path}: has no faces")
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
        raise InputError(f"{path}: its vertices or faces have not three numbers each")
    if len(faces) < claimed:
        raise InputError(f"{path}: {claimed} faces are promised, {len(faces)} found; truncated?")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{path}: a face names a vertex that is not there; truncated file?")
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise InputError(f"{path}: has NaN or infinite vertices")
    if np.abs(used).max() > LARGEST:
        raise InputError(f"{path}: has vertices beyond {LARGEST:g}")
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


def surface_points(mesh: trimesh.Trimesh, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Area-uniform points on the surface, in the mesh's units.

    Returns
    -------
    float32 [n, 3], and the face that each lies on, int64 [n].
    """
    points, faces = trimesh.sample.sample_surface(mesh, n, seed=seed)
    return np.asarray(points, np.float32), np.asarray(faces, np.int64)
