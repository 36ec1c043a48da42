"""Meshes for the page's viewer: reduced to few faces and packed as text."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trimesh

from nefgpt.signals.kind import Shown
from nefgpt.signals.render import is_valid
from nefgpt.signals.shapes import mesh_of

MAX_FACES = 6000  # at which a shape still looks itself, and a page of sixteen holds 2 MB of them


class Mesh(NamedTuple):
    """One mesh of the viewer, and what it is called."""

    label: str
    shown: Shown


def _cluster(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices on ever coarser grids until at most `target` faces are left."""
    low = vertices.min(axis=0)
    size = max(float((vertices.max(axis=0) - low).max()), 1e-12)
    cells = 256.0
    reduced = vertices, faces
    while len(reduced[1]) > target and cells > 2:
        keys = np.floor((vertices - low) * (cells / size)).astype(np.int64)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        group = group.reshape(-1)
        count = np.bincount(group)
        points = np.stack([np.bincount(group, vertices[:, k]) / count for k in range(3)], axis=1)
        mapped = group[faces]
        a, b, c = mapped.T
        mapped = mapped[(a != b) & (b != c) & (a != c)]
        _, first = np.unique(np.sort(mapped, axis=1), axis=0, return_index=True)
        reduced = points, mapped[np.sort(first)]
        cells *= 0.85
    return reduced


def decimate(
    vertices: np.ndarray, faces: np.ndarray, target: int = MAX_FACES
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh of about `target` faces or fewer that looks like the given one.

    Parameters
    ----------
    vertices : float64 [V, 3].
    faces : int64 [F, 3].

    Returns
    -------
    vertices, faces
        as given when there are few enough faces; at most 1.2 times `target` of them otherwise.
    """
    if len(faces) <= target:
        return vertices, faces
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.merge_vertices()
    simple = mesh.simplify_quadric_decimation(face_count=target)
    vertices, faces = np.asarray(simple.vertices), np.asarray(simple.faces)
    # Quadrics stop short of the target where faces cross each other.
    return _cluster(vertices, faces, target) if len(faces) > 1.2 * target else (vertices, faces)


def embed_mesh(mesh: Mesh) -> dict | None:
    """A mesh as the viewer reads it; None when there is none that can be drawn.

    Returns
    -------
    dict
        `label`; `scale`, the largest coordinate; `radius`, the largest distance from the origin;
        `vertices`, base64 of uint16 [V, 3] over [-scale, scale], and `faces`, base64 of
        uint16 [F, 3].
    """
    vertices, faces = mesh_of(mesh.shown)
    if not is_valid(vertices, faces):
        return None
    vertices, faces = decimate(vertices, faces)
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    scale = max(float(np.abs(vertices).max()), 1e-9)
    levels = np.round((vertices / scale + 1) * 32767.5).astype("<u2")
    return {
        "label": mesh.label,
        "scale": scale,
        "radius": float(np.linalg.norm(vertices, axis=1).max()),
        "vertices": base64.b64encode(levels.tobytes()).decode(),
        "faces": base64.b64encode(faces.astype("<u2").tobytes()).decode(),
    }


def embed(meshes: Sequence[Mesh]) -> tuple[list[dict], int]:
    """Those of the meshes that can be drawn, and how many cannot."""
    found = [embed_mesh(mesh) for mesh in meshes]
    shown = [entry for entry in found if entry is not None]
    return shown, len(found) - len(shown)
