"""Pictures of one input: a mesh from two sides with slices through it, an image as it is read."""

from collections.abc import Callable, Sequence

import numpy as np
import trimesh
from PIL import Image, ImageDraw, ImageFont

from nefgpt.inputs.pixels import Picture, laid
from nefgpt.signals import images, render

SIDE = 300  # pixels across of each tile
_GAP, _TEXT = 10, 18
_LETTERS = 13
_INK = (70, 70, 70)
_INSIDE, _OUTSIDE = np.array([0.33, 0.45, 0.66]), np.array([0.96, 0.95, 0.93])
_BANDS = 0.05  # field units between two shades of a slice
_SQUARES = 10  # pixels across of what shows through an image
# Of each slice: the axis that it cuts, those that go right and up, and the signs of these.
_SLICES = (
    ("side", 0, (2, -1), (1, 1)),
    ("top", 1, (2, -1), (0, -1)),
    ("front", 2, (0, -1), (1, 1)),
)


def sheet(tiles: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Pictures RGBA uint8 [side, side, 4] in a row on white, each below its title."""
    side = tiles[0][1].shape[0]
    page = Image.new("RGB", (_GAP + len(tiles) * (side + _GAP), side + 2 * _GAP + _TEXT), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_LETTERS)
    for i, (title, pixels) in enumerate(tiles):
        left, tile = _GAP + i * (side + _GAP), Image.fromarray(pixels)
        page.paste(tile, (left, _GAP + _TEXT), tile)
        draw.text((left, _GAP // 2), title, fill=_INK, font=font)
    return page


def _slice(
    distance: Callable[[np.ndarray], np.ndarray],
    middle: np.ndarray,
    right: tuple[int, int],
    up: tuple[int, int],
) -> np.ndarray:
    """A slice of the unit cube through `middle` [3], in bands of distance: blue is inside."""
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    points = np.tile(middle, (SIDE, SIDE, 1))
    points[..., right[0]] = right[1] * at
    points[..., up[0]] = -up[1] * at[:, None]
    found = distance(points.reshape(-1, 3)).reshape(SIDE, SIDE).astype(np.float64)
    band = np.minimum(np.floor(np.abs(found) / _BANDS), 8)[..., None]
    shade = np.where(found[..., None] < 0, _INSIDE * (1 - 0.08 * band), _OUTSIDE - 0.045 * band)
    edge = np.clip(1.5 - np.abs(found)[..., None] * SIDE, 0, 1)  # the surface, 1.5 pixels wide
    pixels = np.rint(255 * (shade * (1 - edge))).astype(np.uint8)
    pixels[[0, -1]], pixels[:, [0, -1]] = 0xDA, 0xDA
    return np.dstack([pixels, np.full((SIDE, SIDE), 255, np.uint8)])


def _arrow(axis: tuple[int, int]) -> str:
    return ("+" if axis[1] > 0 else "-") + "xyz"[axis[0]]


def of_mesh(
    mesh: trimesh.Trimesh, distance: Callable[[np.ndarray], np.ndarray], inner: np.ndarray
) -> Image.Image:
    """A mesh in field coordinates, nose towards -z and +y up, from two sides and in three slices.

    Parameters
    ----------
    distance : signed distance [N] of points [N, 3].
    inner : points inside [N, 3], through whose median the slices go; of none through the origin.
    """
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    half = render.common_half_extent([(vertices, faces)])
    middle = np.round(np.median(inner, axis=0), 3) if len(inner) else np.zeros(3)
    tiles = []
    for title, azimuth, elevation in (
        ("from the front, above", render.AZIMUTH, render.ELEVATION),
        ("from behind, below (red: backs of faces)", render.AZIMUTH + 180, -render.ELEVATION),
    ):
        seen = render.render(vertices, faces, SIDE, azimuth, elevation, half_extent=half)
        tiles.append((title, seen))
    for title, cut, right, up in _SLICES:
        where = f"{'xyz'[cut]} = {middle[cut] + 0.0:.2g}"
        text = f"{title}, {where} ({_arrow(right)} right, {_arrow(up)} up)"
        tiles.append((text, _slice(distance, middle, right, up)))
    return sheet(tiles)


def _as_stored(picture: Picture) -> np.ndarray:
    """An image float32 [H, W, 3], with squares of two greys where it is transparent."""
    values = laid(picture, 3, "white")
    if picture.alpha is None:
        return values
    height, width = picture.alpha.shape
    size = max(1, _SQUARES * max(height, width) // SIDE)
    y, x = np.mgrid[:height, :width] // size
    dark = ((x + y) % 2)[..., None] * (1 - picture.alpha[..., None])
    return (values - 0.25 * dark).clip(0, 1)


def of_image(picture: Picture, read: np.ndarray) -> Image.Image:
    """An image as it is stored, and `read` [H, W(, 3)] from it."""
    if read.ndim == 2:
        read = np.repeat(read[..., None], 3, axis=2)
    height, width = read.shape[:2]
    tiles = [("as it is stored", images.picture(_as_stored(picture), SIDE))]
    tiles.append((f"as it is read ({width} x {height})", images.picture(read, SIDE)))
    return sheet(tiles)
