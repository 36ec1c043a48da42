"""Solids that airplanes are made of: lofts, tubes, bodies of revolution, struts."""

import numpy as np

# One block of consecutive indices holds each class this often, in an order drawn per block:
# short packs are balanced too.
_BLOCK = (
    *("airliner",) * 3,
    *("propeller",) * 2,
    *("fighter",) * 2,
    "glider",
    "biplane",
    "flying_wing",
)

Part = tuple[np.ndarray, np.ndarray]


# --- Closed parts ---------------------------------------------------------------------------
def _loft(rings: np.ndarray) -> Part:
    """Close a stack of rings into a solid.

    Parameters
    ----------
    rings : (S, R, 3) array
        Ring points; all rings run the same way round.

    Returns
    -------
    vertices : (S * R + 2, 3) array
    faces : (2 * S * R, 3) int array, facing outwards.
    """
    s, r, _ = rings.shape
    index = np.arange(s * r).reshape(s, r)
    a, b = index[:-1], np.roll(index, -1, axis=1)[:-1]
    c, d = np.roll(index, -1, axis=1)[1:], index[1:]
    points = rings.reshape(-1, 3)
    # The diagonal of a quad follows its side, so that the mirror image of a part has the
    # mirrored triangles.
    right = (points[a, 0] + points[b, 0] + points[c, 0] + points[d, 0] >= 0)[..., None]
    one = np.where(right, np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    two = np.where(right, np.stack([a, c, d], -1), np.stack([b, c, d], -1))
    first, last = index[0], index[-1]
    start = np.stack([np.full(r, s * r), np.roll(first, -1), first], -1)
    end = np.stack([np.full(r, s * r + 1), last, np.roll(last, -1)], -1)
    faces = np.concatenate([one.reshape(-1, 3), two.reshape(-1, 3), start, end])
    vertices = np.concatenate([points, rings[:1].mean(1), rings[-1:].mean(1)])
    triangles = vertices[faces]
    volume = np.einsum("ij,ij->", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2]))
    return vertices, faces if volume > 0 else faces[:, ::-1]


def _mirror(part: Part) -> Part:
    """The part's image under X -> -X, facing outwards."""
    vertices, faces = part
    return vertices * [-1, 1, 1], faces[:, ::-1]


def _both(part: Part) -> list[Part]:
    """A part and its mirror image."""
    return [part, _mirror(part)]


def _tube(
    centre: np.ndarray, a: np.ndarray, b: np.ndarray, power: float = 2.0, count: int = 16
) -> Part:
    """Solid with superelliptic sections.

    Parameters
    ----------
    centre, a, b : (S, 3) arrays
        Section centres and their two half axes.
    power : float
        2 is an ellipse; larger is boxier.
    count : int
        Points per section, a multiple of 4 so that points lie on the axes.
    """
    angle = 2 * np.pi * np.arange(count) / count
    cos, sin = np.round(np.cos(angle), 12), np.round(np.sin(angle), 12)
    u = (np.sign(cos) * np.abs(cos) ** (2 / power))[:, None]
    v = (np.sign(sin) * np.abs(sin) ** (2 / power))[:, None]
    return _loft(centre[:, None] + u * a[:, None] + v * b[:, None])


def _revolve(
    centre: tuple[float, float, float],
    z: np.ndarray,
    radius: np.ndarray,
    power: float = 2.0,
    aspect: float = 1.0,
    count: int = 16,
) -> Part:
    """Body along Z: at `centre` + z its half width is `radius`, half height `aspect * radius`."""
    z, radius = np.asarray(z, float), np.asarray(radius, float)
    zero = np.zeros_like(z)
    a = np.stack([radius, zero, zero], -1)
    b = np.stack([zero, aspect * radius, zero], -1)
    return _tube(np.asarray(centre) + np.stack([zero, zero, z], -1), a, b, power, count)


def _ellipsoid(
    centre: tuple[float, float, float], half: tuple[float, float, float], count: int = 16
) -> Part:
    """Ellipsoid with half axes `half` along X, Y, Z."""
    angle = np.linspace(0.08, np.pi - 0.08, 11)
    z = -np.cos(angle) * half[2]
    return _revolve(centre, z, np.sin(angle) * half[0], aspect=half[1] / half[0], count=count)


def _strut(start: np.ndarray, end: np.ndarray, chord: float, thickness: float) -> Part:
    """Straight bar of elliptic section, `chord` along Z, `thickness` across it."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / np.linalg.norm(end - start)
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    fore = np.cross(across, along)
    centre = start + np.linspace(0, 1, 3)[:, None] * (end - start)
    one = np.ones((3, 1))
    return _tube(centre, one * across * thickness / 2, one * fore * chord / 2, count=12)


def _union(parts: list[Part]):
    """Union of closed parts as one trimesh.Trimesh, centred, with a diagonal of 1."""
    import manifold3d
    import trimesh

    solids = []
    for vertices, faces in parts:
        mesh = manifold3d.Mesh(vertices.astype(np.float32), faces.astype(np.uint32))
        solid = manifold3d.Manifold(mesh)
        if solid.status() != manifold3d.Error.NoError:
            raise RuntimeError(f"a part is not closed: {solid.status()}")
        solids.append(solid)
    union = manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add).to_mesh()
    vertices = np.asarray(union.vert_properties[:, :3], np.float64)
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) / np.linalg.norm(high - low)
    return trimesh.Trimesh(vertices, np.asarray(union.tri_verts, np.int64), process=False)
