"""Meshes for the page's viewer: reduced to few faces and packed as text."""

import base64
import zlib

import numpy as np
import trimesh

from nefgpt.signals.render import is_valid

MAX_FACES = 3000  # at which a shape still looks itself, and takes 15 kB
BITS = 12  # of a coordinate: a two-thousandth of the shape


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


def reduced(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mesh of about `MAX_FACES` faces at most, without vertices of none; empty when unusable."""
    if not is_valid(vertices, faces):
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, faces = decimate(vertices, faces)
    # In the order in which faces name them, which packs best.
    used, first, index = np.unique(faces, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return vertices[used[order]], place[index].reshape(faces.shape)


def _planes(numbers: np.ndarray) -> bytes:
    """Low bytes, then high bytes, of integers modulo 2^16."""
    words = np.ascontiguousarray(numbers, np.int64).astype("<u2")
    return words.view(np.uint8).reshape(-1, 2).T.tobytes()


def embed_mesh(vertices: np.ndarray, faces: np.ndarray) -> dict | None:
    """A mesh of `reduced` as the viewer reads it; None when it is empty.

    Coordinates are integers of `BITS` bits over [-scale, scale], each vertex less the one before;
    a corner is how far it lies below the first vertex that no face has named yet.

    Returns
    -------
    dict
        `scale`, the largest coordinate; `radius`, the largest distance from the origin;
        `counts` of vertices and faces; `data`, base64 of deflated low and high bytes of x, y and z
        one after the other, and of the corners.
    """
    if not len(faces):
        return None
    scale = max(float(np.abs(vertices).max()), 1e-9)
    levels = np.round((vertices / scale + 1) * (2**BITS - 1) / 2).astype(np.int64)
    steps = np.diff(levels, axis=0, prepend=np.zeros((1, 3), np.int64))
    corners = faces.ravel()
    unnamed = np.concatenate([[0], np.maximum.accumulate(corners)[:-1] + 1])
    packed = zlib.compress(_planes(steps.T.ravel()) + _planes(unnamed - corners), 9)
    return {
        "scale": scale,
        "radius": float(np.linalg.norm(vertices, axis=1).max()),
        "counts": [len(vertices), len(faces)],
        "data": base64.b64encode(packed).decode(),
    }
