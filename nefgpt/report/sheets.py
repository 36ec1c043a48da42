"""Figures of image runs: classes beside their nearest training images, contact sheets, tuning."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.report.figures import _grid, _styled, pictures
from nefgpt.report.render import placeholder

SHEET_COLUMNS = 20
_PIXELS = 96  # an image's side, or a little more


def _paint(image: np.ndarray | None) -> np.ndarray:
    """One image, framed, in a square: [H, W] in black on white, [H, W, 3] in its colours.

    A grey cross where there is none.
    """
    if image is None or not np.isfinite(image).all():
        return placeholder(_PIXELS)
    times = max(1, -(-_PIXELS // max(image.shape[:2])))
    light = 1 - image[..., None] if image.ndim == 2 else image
    painted = np.round(255 * np.clip(light, 0, 1)).astype(np.uint8)
    painted = np.kron(painted, np.ones((times, times, 1), np.uint8))
    painted = np.pad(painted, ((1, 1), (1, 1), (0, 0)), constant_values=0xDA)
    height, width = painted.shape[:2]
    square = np.zeros((max(height, width), max(height, width), 4), np.uint8)
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    square[top : top + height, left : left + width, :3] = painted
    square[top : top + height, left : left + width, 3] = 255
    return square


def _rows(rows: list[tuple[str, list]], title: str, notes: dict | None = None) -> Figure:
    """Rows of images, each with its name on the left; `notes` (row, column) to text below."""
    painted = [(name, [_paint(image) for image in images]) for name, images in rows]
    size = max(len(image) for _, images in painted for image in images)
    fitting = [
        (name, [image if len(image) == size else placeholder(size) for image in images])
        for name, images in painted
    ]
    return pictures(fitting, title, notes)


def classes_with_nearest(
    samples: list[np.ndarray], nearest: list[list[np.ndarray]], ssim: list[float], title: str
) -> Figure:
    """For each class token a sample over its three nearest training images by SSIM.

    Parameters
    ----------
    samples : images [H, W(, 3)], one per class; the first ones where there are no classes.
    nearest : the training images of each, nearest first.
    ssim : of each sample to its nearest training image, printed below that one.
    """
    depth = max(map(len, nearest), default=0)
    rows: list[tuple[str, list]] = [("sample", samples)]
    for place in range(depth):
        name = "nearest train" if place == 0 else f"{place + 1}. nearest"
        rows.append((name, [found[place] if place < len(found) else None for found in nearest]))
    notes = {(1, i): f"SSIM {value:.2f}" for i, value in enumerate(ssim) if np.isfinite(value)}
    return _rows(rows, title, notes)


def contact_sheet(images: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """The first samples of every class, a row per class.

    Parameters
    ----------
    images : float32 [n, H, W(, 3)]; NaN where a field holds no image.
    labels : int [n], the row of each.
    """
    found = [(str(c), list(images[labels == c][:SHEET_COLUMNS])) for c in np.unique(labels)]
    return _rows(found, title)


def image_ladder(
    originals: np.ndarray, fields: np.ndarray, quantised: np.ndarray, title: str
) -> Figure:
    """The same images [n, H, W(, 3)] as pixels, as fields and as quantised fields."""
    rows = [("image", originals), ("field", fields), ("quantised field", quantised)]
    return _rows([(name, list(row)) for name, row in rows], title)


TUNED = "accuracy %", "1-NNA %", "COV %", "MMD x100"


@_styled
def tuning(table: pd.DataFrame) -> Figure:
    """Heat maps of the search: temperature across, top-k down; a column per top-p and guidance.

    Parameters
    ----------
    table : frame with `top_k`, `top_p`, `temperature`, `guidance` and metrics.
    """
    shown = [COLUMNS[name] for name in TUNED if name in table]
    if table.empty or not shown:
        raise InputError("the table of the search is empty; delete it and run again")
    table = table.copy()
    for key in ("top_k", "top_p", "guidance"):
        table[key] = [f"{value:g}" if np.isfinite(value) else "off" for value in table[key]]
    facets = list(dict.fromkeys(zip(table["top_p"], table["guidance"], strict=True)))
    top_ks, temperatures = (list(dict.fromkeys(table[key])) for key in ("top_k", "temperature"))
    fig, axes = _grid(
        len(shown),
        len(facets),
        1.2 + max(2.0, 0.5 * len(temperatures)) * len(facets),
        0.6 + (0.6 + 0.3 * len(top_ks)) * len(shown),
    )
    for r, column in enumerate(shown):
        shade = column.worse(table[column.name])
        low, high = shade.min(), shade.max()
        for c, (top_p, guidance) in enumerate(facets):
            ax, part = axes[r, c], table[(table.top_p == top_p) & (table.guidance == guidance)]
            grid = part.pivot(index="top_k", columns="temperature", values=column.name)
            grid = grid.loc[top_ks, temperatures].to_numpy(float)
            ax.imshow(column.worse(grid), cmap="viridis_r", vmin=low, vmax=high, aspect="auto")
            middle = (low + high) / 2
            for (i, j), value in np.ndenumerate(grid):
                color = "white" if column.worse(value) > middle else "black"
                ax.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color=color)
            ax.set_xticks(range(len(temperatures)), [f"{t:g}" for t in temperatures])
            ax.set_yticks(range(len(top_ks)), top_ks if c == 0 else [""] * len(top_ks))
            ax.grid(False)
            if r == 0:
                ax.set_title(f"top-p {top_p}, guidance {guidance}", fontsize=8)
            if c == 0:
                ax.set_ylabel(f"{column.heading}\n\ntop-k", fontsize=8)
            if r == len(shown) - 1:
                ax.set_xlabel("temperature")
    return fig


@_styled
def class_accuracy(classes: pd.DataFrame, reference: dict[int, float]) -> Figure:
    """Heat map of the classifier's accuracy per class, a row for each row of the ladder.

    Parameters
    ----------
    classes : frame with `method`, `setting`, `label`, `accuracy %`.
    reference : accuracy on real test images by class.
    """
    rows = classes["method"].where(
        classes["setting"] == "all", classes["method"] + " " + classes["setting"]
    )
    labels = sorted(reference)
    table = classes.assign(row=rows).pivot(index="row", columns="label", values="accuracy %")
    table = table.reindex(index=list(dict.fromkeys(rows)), columns=labels)
    table = pd.concat([pd.DataFrame([reference], index=["real test images"])[labels], table])
    fig, axes = _grid(1, 1, 2.4 + 0.55 * len(labels), 0.9 + 0.28 * len(table))
    ax = axes[0, 0]
    ax.imshow(table.to_numpy(float), cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(table.to_numpy(float)):
        color = "white" if value < 60 else "black"
        text = f"{value:.0f}" if np.isfinite(value) else ""
        ax.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlabel="class", title="Accuracy % of the classifier")
    ax.grid(False)
    return fig
