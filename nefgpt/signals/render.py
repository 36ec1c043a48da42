"""A small software renderer: meshes to images without a display, a GPU or OpenGL."""

from pathlib import Path

import numpy as np
import trimesh

# Default view: three quarters from the front and above, so that fin and tailplane show.
AZIMUTH = 40.0
ELEVATION = 30.0
HALF_EXTENT = 1.0

_FRONT = np.array([0.66, 0.73, 0.82])
_BACK = np.array([0.86, 0.36, 0.30])
# Lights in camera coordinates (right, up, towards the viewer): direction and strength.
_KEY = (np.array([-0.45, 0.75, 0.55]), 0.62)
_FILL = (np.array([0.80, 0.10, 0.45]), 0.26)
_AMBIENT = 0.30
_CREASE_COSINE = 0.75
_CHUNK = 2_000_000


def load_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a mesh file; both empty when it cannot be read as a mesh."""
    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    except Exception:  # readers raise anything on a broken file; a figure shows it as invalid
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def is_valid(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether the arrays hold at least one face that can be drawn."""
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or faces.ndim != 2 or not len(vertices) or not len(faces):
        return False
    if vertices.shape[1] != 3 or faces.shape[1] != 3 or not np.isfinite(vertices).all():
        return False
    return bool(faces.min() >= 0 and faces.max() < len(vertices))


def camera(azimuth: float = AZIMUTH, elevation: float = ELEVATION) -> np.ndarray:
    """Rotation whose rows are the camera's right, up and backward axes.

    Azimuth 0 looks at the nose (-Z) of a shape, 90 at its +X side; angles are in degrees.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.sin(a) * np.cos(e), np.sin(e), -np.cos(a) * np.cos(e)])
    right = np.array([-np.cos(a), 0.0, -np.sin(a)])
    return np.stack([right, np.cross(back, right), back])


def _same(vertices: np.ndarray) -> np.ndarray:
    """A number for each vertex [V], equal for those at one place, to six decimals."""
    places = np.rint(vertices * 1e6)
    places -= places.min(axis=0)
    x, y, z = places.max(axis=0) + 1
    if x * y * z > 2**62:
        return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
    keys = places.astype(np.int64) @ np.array([int(y) * int(z), int(z), 1])
    return np.unique(keys, return_inverse=True)[1].reshape(-1)  # of integers, five times faster


def corner_normals(
    vertices: np.ndarray, faces: np.ndarray, some: np.ndarray | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals [F,3] and corner normals [F,3,3] of some faces, smooth but for creases."""
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = area[some]
    face_normals = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-20)
    # Files often repeat a vertex per face; equal positions share a normal all the same.
    merged = _same(vertices)[faces]
    count = len(vertices)
    sums = np.stack(
        [np.bincount(merged.ravel(), np.repeat(area[:, k], 3), count) for k in range(3)], axis=1
    )
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-20)
    smooth = sums[merged[some]]
    flat = np.broadcast_to(face_normals[:, None], smooth.shape)
    crease = (smooth * flat).sum(axis=2, keepdims=True) < _CREASE_COSINE
    return face_normals, np.where(crease, flat, smooth)


def _candidates(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First pixel, and number of columns and rows, of every triangle's bounding box."""
    a, b, c = (corners[:, k, :2] for k in range(3))  # faster than to reduce an axis of three
    low = np.clip(np.ceil(np.minimum(np.minimum(a, b), c) - 0.5), 0, size).astype(np.int64)
    high = np.clip(np.floor(np.maximum(np.maximum(a, b), c) - 0.5) + 1, 0, size).astype(np.int64)
    extent = np.maximum(high - low, 0)
    return low, extent[:, 0], extent[:, 1]


def _rasterise(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face (-1: none) and its barycentric coordinates at every pixel centre."""
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    determinant = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    low, columns, rows = _candidates(corners, size)
    counts = np.where(np.abs(determinant) > 1e-12, columns * rows, 0)
    used = np.flatnonzero(counts)
    depth = corners[:, :, 2]
    span = max(float(depth.max() - depth.min()), 1e-12)
    # One integer holds depth (high bits) and face: the maximum is the nearest face, and ties
    # go to the same face on every machine.
    best = np.full(size * size, -1, dtype=np.int64)
    ends = np.cumsum(counts[used])
    start = 0
    while start < len(used):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        faces = used[start:stop]
        number = counts[faces]
        face = np.repeat(faces, number)
        inside = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        x = low[face, 0] + inside % columns[face]
        y = low[face, 1] + inside // columns[face]
        u, v = _barycentric(corners, edge1, edge2, determinant, face, x, y)
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
        face, u, v = face[hit], u[hit], v[hit]
        z = depth[face, 0] + u * edge1[face, 2] + v * edge2[face, 2]
        level = np.clip((z - depth.min()) / span, 0, 1) * (2**31 - 1)
        np.maximum.at(best, (y * size + x)[hit], (level.astype(np.int64) << 32) | face)
        start = stop
    face = np.where(best >= 0, best & 0xFFFFFFFF, -1)
    pixel = np.flatnonzero(face >= 0)
    weights = np.zeros((size * size, 3))
    u, v = _barycentric(
        corners, edge1, edge2, determinant, face[pixel], pixel % size, pixel // size
    )
    weights[pixel] = np.stack([1 - u - v, u, v], axis=1)
    return face, weights


def _barycentric(corners, edge1, edge2, determinant, face, x, y):
    dx = x + 0.5 - corners[face, 0, 0]
    dy = y + 0.5 - corners[face, 0, 1]
    u = (dx * edge2[face, 1] - dy * edge2[face, 0]) / determinant[face]
    v = (dy * edge1[face, 0] - dx * edge1[face, 1]) / determinant[face]
    return u, v


def _shade(normals: np.ndarray, back: np.ndarray) -> np.ndarray:
    light = np.full(len(normals), _AMBIENT)
    light += 0.10 * normals[:, 1]  # sky above, ground below
    for direction, strength in (_KEY, _FILL):
        light += strength * np.maximum(normals @ (direction / np.linalg.norm(direction)), 0)
    color = np.where(back[:, None], _BACK, _FRONT) * light[:, None]
    half = _KEY[0] / np.linalg.norm(_KEY[0]) + np.array([0.0, 0.0, 1.0])
    shine = np.maximum(normals @ (half / np.linalg.norm(half)), 0) ** 40
    return np.clip(color + 0.15 * shine[:, None], 0, 1)


def render(
    vertices: np.ndarray,
    faces: np.ndarray,
    size: int = 256,
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
    supersample: int = 2,
    *,
    half_extent: float = HALF_EXTENT,
    tint_back: bool = True,
) -> np.ndarray | None:
    """Draw a mesh, orthographic, on a transparent background.

    Parameters
    ----------
    vertices, faces
        Mesh in field coordinates, nose towards -Z and +Y up.
    size
        Width and height of the image in pixels.
    azimuth, elevation
        View direction in degrees, see `camera`.
    supersample
        Samples per pixel along each axis.
    half_extent
        Half the width of the view in field units: equal for all images of one figure, so that
        shapes keep their relative sizes.
    tint_back
        Draw faces seen from behind in red: an inside-out or open mesh shows.

    Returns
    -------
    numpy.ndarray
        RGBA, uint8 [size, size, 4]; None when there is nothing to draw.
    """
    if not is_valid(vertices, faces):
        return None
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64)
    rotation = camera(azimuth, elevation)
    seen = vertices @ rotation.T
    fine = size * supersample
    screen = seen * np.array([1.0, -1.0, 1.0]) * (fine / 2 / half_extent)
    screen[:, :2] += fine / 2
    face, weights = _rasterise(screen[faces], fine)
    covered = face >= 0
    image = np.zeros((fine * fine, 4))
    if covered.any():
        face, weights = face[covered], weights[covered]
        shown, face = np.unique(face, return_inverse=True)
        flat, smooth = corner_normals(seen, faces, shown)
        normals = np.einsum("nk,nkd->nd", weights, smooth[face])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        back = flat[face, 2] < 0
        normals[back] *= -1
        image[covered, :3] = _shade(normals, back & tint_back)
        image[covered, 3] = 1
    image = image.reshape(size, supersample, size, supersample, 4)
    image = sum(image[:, i, :, j] for i, j in np.ndindex(supersample, supersample))
    image = image / supersample**2  # faster than a mean along two short axes
    alpha = image[..., 3:]
    image[..., :3] /= np.where(alpha > 0, alpha, 1)
    return np.round(image * 255).astype(np.uint8)


def common_half_extent(meshes: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Half the width of the smallest view that holds every mesh of a figure."""
    shown = [vertices for vertices, faces in meshes if is_valid(vertices, faces)]
    if not shown:
        return HALF_EXTENT
    # One stray vertex must not shrink the rest of the figure to dots.
    return min(1.04 * max(float(np.abs(v @ camera()[:2].T).max()) for v in shown), 1.6)
