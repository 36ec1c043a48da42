"""Figures of signals, whatever their kind: galleries, ladders and sheets are one grid."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from nefgpt.report.style import DPI, styled
from nefgpt.signals.kind import Kind, Shown

WIDTH = 1880  # pixels that pictures side by side take up at most
_GAP = 8  # pixels between two
_LETTER = 11  # pixels across of a letter
_NOTE = 26  # pixels below a row for its notes
_BREAK = 20  # pixels between rows that do not belong together


def columns_of(kind: Kind) -> int:
    """How many pictures of signals of a kind fit side by side."""
    return max(1, WIDTH // (kind.SIDE + _GAP))


def cross(size: int) -> np.ndarray:
    """A grey cross, RGBA uint8 [size, size, 4]: stands for a signal that is empty."""
    y, x = np.mgrid[:size, :size] / max(size - 1, 1) * 2 - 1
    near = np.minimum(np.abs(x - y), np.abs(x + y)) / np.sqrt(2)
    inside = np.maximum(np.abs(x), np.abs(y)) < 0.45
    image = np.zeros((size, size, 4), dtype=np.uint8)
    image[...] = (170, 170, 170, 0)
    image[..., 3] = np.where(inside, np.clip((0.05 - near) * size / 2 + 0.5, 0, 1) * 255, 0)
    return image


def trimmed(images: list[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns outside of which no picture of a figure shows anything."""
    seen = np.any([image[..., 3] > 0 for image in images], axis=0)
    used = [np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0)]
    return tuple(slice(part[0], part[-1] + 1) if len(part) else slice(None) for part in used)


@styled
def picture_grid(
    rows: list[tuple[str, list[np.ndarray | None]]],
    title: str,
    notes: dict[tuple[int, int], str] | None = None,
    heads: Sequence[str] = (),
) -> Figure:
    """Rows of pictures as one bitmap, pixel for pixel: a plot for each would take seconds to draw.

    Margins that all pictures have are left out.

    Parameters
    ----------
    rows : name and pictures of each row, RGBA uint8 [size, size, 4]; None leaves its place empty,
        and a row without pictures is a gap.
    notes : (row, column) to the text below a picture.
    heads : texts above the columns, shortened to what fits.
    """
    notes = notes or {}
    part = trimmed([image for _, images in rows for image in images if image is not None])
    rows = [(name, [i if i is None else i[part] for i in images]) for name, images in rows]
    high, wide = next(i.shape[:2] for _, images in rows for i in images if i is not None)
    left = 16 + _LETTER * max(len(name) for name, _ in rows)
    top = 44 + 24 * bool(heads)
    under = [_NOTE * any(r == row for r, _ in notes) for row in range(len(rows))]
    tall = [high + _GAP if images else _BREAK for _, images in rows]
    starts = top + np.cumsum([0, *map(sum, zip(tall, under, strict=True))])
    width = left + max(len(images) for _, images in rows) * (wide + _GAP)
    width = max(width, _LETTER * len(title) + 40)
    canvas = np.full((starts[-1], width, 4), 255, np.uint8)  # as matplotlib would make it
    fig = Figure(figsize=(width / DPI, len(canvas) / DPI), dpi=DPI)
    ax = fig.add_axes((0, 0, 1, 1))
    for r, (name, images) in enumerate(rows):
        ax.text(left - 12, starts[r] + high / 2, name, va="center", ha="right", fontsize=8)
        for c, image in enumerate(images):
            x = left + c * (wide + _GAP)
            if (r, c) in notes:
                place = x + wide / 2, starts[r] + high + 3
                ax.text(*place, notes[r, c], ha="center", va="top", fontsize=7)
            if image is not None:
                alpha = image[..., 3:] / 255
                spot = canvas[starts[r] : starts[r] + high, x : x + wide, :3]
                spot[:] = np.round(image[..., :3] * alpha + spot * (1 - alpha))
    half = max(2, (wide + _GAP) // 21)  # of the letters that fit above a picture
    for c, head in enumerate(heads):
        place = left + c * (wide + _GAP) + wide / 2, top - 4
        text = head if len(head) <= 2 * half else f"{head[: half - 1]}…{head[-half:]}"
        ax.text(*place, text, ha="center", va="bottom", fontsize=7)
    ax.text(width / 2, 10, title, ha="center", va="top", fontsize=10)
    ax.imshow(canvas, interpolation="none", extent=(0, width, len(canvas), 0))
    ax.set_axis_off()
    return fig


def _drawn(kind: Kind, rows: list[tuple[str, list[Shown | None]]]) -> list[tuple[str, list]]:
    """Rows of pictures of signals, drawn at once so that they share a scale.

    A cross stands for an empty signal, and nothing for None.
    """
    wanted = list(dict.fromkeys(one for _, row in rows for one in row if one is not None))
    found: dict = {None: None}
    for one, image in zip(wanted, kind.pictures(wanted, kind.SIDE), strict=True):
        found[one] = cross(kind.SIDE) if image is None else image
    return [(name, [found[one] for one in row]) for name, row in rows]


def gallery(
    kind: Kind,
    samples: Sequence[Shown],
    nearest: Sequence[Sequence[Shown]],
    distances: Sequence[float],
    title: str,
) -> Figure:
    """Samples over the training signals nearest to each.

    Parameters
    ----------
    nearest : those of each sample, nearest first; none where a sample is empty.
    distances : of each sample to its nearest, shown below that one; NaN where it is empty.
    """
    depth, count = max(1, *map(len, nearest)), columns_of(kind)
    rows: list[tuple[str, list]] = []
    notes = {}
    for start in range(0, len(samples), count):
        some = slice(start, start + count)
        if start:
            rows.append(("", []))
        rows.append(("sample", list(samples[some])))
        for column, distance in enumerate(distances[some]):
            notes[len(rows), column] = f"{distance:.2f}" if np.isfinite(distance) else "empty"
        for place in range(depth):
            name = f"{place + 1}. nearest" if place else "nearest train"
            row = [found[place] if place < len(found) else None for found in nearest[some]]
            rows.append((name, row))
    return picture_grid(_drawn(kind, rows), title, notes)


def sheet(kind: Kind, classes: dict[int, list[Shown]], title: str) -> Figure:
    """The first samples of every class, a row for each."""
    count = columns_of(kind)
    return picture_grid(
        _drawn(kind, [(str(label), some[:count]) for label, some in classes.items()]), title
    )


def ladder(
    kind: Kind, rows: list[tuple[str, list[Shown]]], names: Sequence[str], title: str
) -> Figure:
    """The same signals in every row, their names above; no more of them than fit.

    Parameters
    ----------
    rows : what a row shows, and the signals.
    """
    count = columns_of(kind)
    shown = [(name, row[:count]) for name, row in rows]
    return picture_grid(_drawn(kind, shown), title, heads=names[:count])


def strips(
    kind: Kind,
    rows: list[tuple[str, list[Shown]]],
    notes: dict[tuple[int, int], str],
    heads: Sequence[str],
    title: str,
) -> Figure:
    """Rows of signals with texts above the columns and, as (row, column), below pictures."""
    return picture_grid(_drawn(kind, rows), title, notes, heads)
