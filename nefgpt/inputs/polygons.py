"""What a mesh file says, polygon by polygon, and the triangles that it stands for."""

import re
from pathlib import Path
from typing import NamedTuple

import manifold3d
import numpy as np

_COMMENT = re.compile(rb"(?:(?<!\d\.)#|#(?!INF|IND|QNAN|SNAN))[^\r\n]*")


class Soup(NamedTuple):
    """What one file holds.

    Attributes
    ----------
    vertices : float64 [V, 3], in the file's units.
    corners : int64 [C], the polygons' vertices, one polygon after the other.
    sizes : int64 [P], how many corners each polygon has.
    format : for people.
    parts : how many named objects, groups, solids or primitives have polygons.
    notes : what was read although it is not as the format says.
    """

    vertices: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    format: str
    parts: int = 1
    notes: tuple[str, ...] = ()


def text_of(path: Path) -> bytes:
    """A text file without its comments, which `#` begins, but for that of numbers as 1.#INF."""
    return _COMMENT.sub(b"", plain(path.read_bytes()))


def plain(content: bytes) -> bytes:
    """Text without a byte-order mark; UTF-16 becomes UTF-8."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16").encode()
    return content.removeprefix(b"\xef\xbb\xbf")


def soup(vertices: list, polygons: list, *about: object) -> Soup:
    """A soup of a list of points and a list of lists of corners; `about` are the other fields."""
    sizes = np.fromiter(map(len, polygons), np.int64, len(polygons))
    corners = [corner for polygon in polygons for corner in polygon]
    if corners and max(map(abs, corners)) > np.iinfo(np.int64).max:
        raise ValueError("a face names a vertex that is not there")
    points = np.array(vertices, np.float64).reshape(-1, 3)
    return Soup(points, np.array(corners, np.int64), sizes, *about)


def strips(indices: np.ndarray) -> np.ndarray:
    """Triangles int64 [T, 3] of one strip [N]: every second one is turned; flat ones are left out.

    Strips are joined by triangles that name a vertex twice.
    """
    indices = np.asarray(indices, np.int64)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    twice = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    return faces[~twice]


def fan(indices: np.ndarray) -> np.ndarray:
    """Triangles int64 [N - 2, 3] around the first of N vertices."""
    indices = np.asarray(indices, np.int64)
    return np.stack(
        [np.repeat(indices[:1], max(len(indices) - 2, 0)), indices[1:-1], indices[2:]], axis=1
    )


def _normals(points: np.ndarray) -> np.ndarray:
    """Newell's normals [n, 3] of polygons [n, k, 3]: as long as twice their area."""
    return np.cross(points, np.roll(points, -1, axis=1)).sum(axis=1)


def _bent(points: np.ndarray) -> np.ndarray:
    """Which polygons [n, k, 3] a fan from the first corner would not fill, bool [n].

    Those that somewhere turn to the other side, seen along their normal, or that turn more than
    once around; where more than four corners name a point twice in a row, turns are not seen.
    Those without area need no better.
    """
    sides = np.roll(points, -1, axis=1) - points
    after = np.roll(sides, -1, axis=1)
    normals = _normals(points)
    lengths = np.linalg.norm(normals, axis=1)
    turns = (np.cross(sides, after) * normals[:, None]).sum(axis=2)
    angles = np.arctan2(turns, (sides * after).sum(axis=2) * lengths[:, None])
    back = (turns < -1e-9 * lengths[:, None] ** 2).any(axis=1)
    still = (sides == 0).all(axis=2).any(axis=1) & (points.shape[1] > 4)
    return (lengths > 1e-12) & (back | still | (angles.sum(axis=1) > 2 * np.pi + 1))


def _ears(points: np.ndarray) -> np.ndarray:
    """Triangles [k - 2, 3] of one polygon [k, 3], seen along its normal, by ear clipping."""
    normal = _normals(points[None])[0]
    normal /= np.linalg.norm(normal)
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    flat = points @ np.stack([first, np.cross(normal, first)], axis=1)
    faces = np.asarray(manifold3d.triangulate([np.ascontiguousarray(flat)]), np.int64)
    if len(faces) != len(points) - 2:
        raise ValueError(f"a polygon of {len(points)} corners cannot be cut into triangles")
    return faces


def triangulate(given: Soup) -> np.ndarray:
    """Faces int64 [F, 3], polygon by polygon, each of k corners as k - 2 triangles.

    Convex polygons become fans; others are cut by ear clipping (manifold3d), so that no surface
    lies outside of them.

    Raises
    ------
    ValueError
        where a polygon names a vertex that is not there, or cannot be cut.
    """
    vertices, corners, sizes = given.vertices, given.corners, given.sizes
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a face names a vertex that is not there; truncated file?")
    starts, counts = np.cumsum(sizes) - sizes, sizes - 2
    firsts = np.cumsum(counts) - counts
    faces = np.empty((int(counts.sum()), 3), np.int64)
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        polygons = corners[starts[which, None] + np.arange(size)]
        made = np.empty((len(which), size - 2, 3), np.int64)
        made[:, :, 0] = polygons[:, :1]
        made[:, :, 1], made[:, :, 2] = polygons[:, 1:-1], polygons[:, 2:]
        if size > 3:
            with np.errstate(all="ignore"):  # broken vertices are refused later, by name
                points = vertices[polygons] - vertices[polygons[:, :1]]
                points /= np.abs(points).max(axis=(1, 2), keepdims=True)
                bent = np.flatnonzero(_bent(points))
            for i in bent:
                made[i] = polygons[i][_ears(points[i])]
        faces[firsts[which, None] + np.arange(size - 2)] = made
    return faces
