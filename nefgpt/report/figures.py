"""Figures of a run, each as SVG (images inside are bitmaps) and as PNG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table
from nefgpt.evaluation import tables
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.gpt.tokens import read_tokens
from nefgpt.inputs import meshes
from nefgpt.report import render

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "nefgpt",
}
COLORS = ["#33658a", "#e07a3f", "#4f9d69", "#a5548b", "#c9a227", "#5f6c7b", "#b23a48", "#2a9d8f"]
LADDER_COLUMNS = 8
_DPI = 160
_GAP = 8  # pixels


def save(fig: Figure, out_dir: str | Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.png; the same figure gives the same bytes."""
    out_dir = Path(out_dir)
    paths = []
    FigureCanvasAgg(fig)
    with mpl.rc_context(STYLE):
        for suffix, metadata in ((".svg", {"Date": None, "Creator": None}), (".png", {})):
            path = out_dir / f"{name}{suffix}"
            with atomic_path(path) as temporary:
                fig.savefig(temporary, format=suffix[1:], dpi=_DPI, metadata=metadata)
            paths.append(path)
    return paths


def _styled(function):
    """Build a figure under our style without changing matplotlib's global settings."""

    def styled(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    styled.__name__, styled.__doc__ = function.__name__, function.__doc__
    return styled


def _grid(rows: int, columns: int, width: float, height: float):
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False)


@_styled
def loss_curves(losses: dict[str, pd.DataFrame], unigram_entropy: float | None = None) -> Figure:
    """Training and validation loss in bits per token.

    Dotted: validation at the temperature of the logits that suits each checkpoint best; its
    lowest point is marked.

    Parameters
    ----------
    losses
        Model name to a frame with `iteration`, `train_loss`, `val_loss`, `calibrated_val_loss`
        (in nats).
    unigram_entropy
        Entropy of the codes' frequencies in bits: what a model without context reaches.
    """
    fig, axes = _grid(1, 1, 7, 4)
    ax = axes[0, 0]
    for i, (name, frame) in enumerate(losses.items()):
        color = COLORS[i % len(COLORS)]
        names = ["train_loss", "val_loss", "calibrated_val_loss"]
        bits = frame[names].astype(float) / np.log(2)
        iteration = frame["iteration"].to_numpy(float)
        train, val, calibrated = (bits[name].to_numpy() for name in names)
        seen = np.isfinite(train)
        ax.plot(iteration[seen], train[seen], color=color, alpha=0.45, lw=1, label=f"{name}, train")
        seen = np.isfinite(val)
        ax.plot(iteration[seen], val[seen], color=color, lw=1.6, label=f"{name}, val")
        label = f"{name}, val at its best temperature"
        ax.plot(iteration[seen], calibrated[seen], color=color, lw=1, ls=":", label=label)
        if seen.any():
            best = int(np.nanargmin(calibrated))
            place = iteration[best], calibrated[best]
            ax.plot(*place, "o", color=color, mec="white", ms=7, zorder=5)
            ax.annotate(
                f"{calibrated[best]:.3f}",
                place,
                xytext=(0, -12),
                textcoords="offset points",
                ha="center",
                color=color,
            )
    if unigram_entropy is not None:
        ax.axhline(unigram_entropy, color="#5f6c7b", lw=1, ls="--", label="unigram entropy")
    ax.margins(y=0.1)
    ax.set(xlabel="iteration", ylabel="loss (bits per token)", title="Loss")
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return fig


@_styled
def pictures(
    rows: list[tuple[str, list[np.ndarray | None]]],
    title: str,
    notes: dict[tuple[int, int], str] | None = None,
    heads: Sequence[str] = (),
) -> Figure:
    """Rows of images as one bitmap, pixel for pixel: a plot for each would take seconds to draw.

    Parameters
    ----------
    rows : name and images of each row, RGBA uint8 [size, size, 4]; None leaves its place empty.
    notes : (row, column) to the text below an image.
    heads : texts above the columns.
    """
    notes = notes or {}
    size = next(len(image) for _, images in rows for image in images if image is not None)
    upright = size >= 150  # then a row's name goes up its side
    left = 28 if upright else 16 + 11 * max(len(name) for name, _ in rows)
    top = 44 + 24 * bool(heads)
    under = [24 * any(r == row for r, _ in notes) for row in range(len(rows))]
    starts = top + np.cumsum([0] + [size + _GAP + more for more in under])
    width = left + max(len(images) for _, images in rows) * (size + _GAP)
    canvas = np.full((starts[-1], width, 3), 255, np.uint8)
    fig = Figure(figsize=(width / _DPI, len(canvas) / _DPI), dpi=_DPI)
    ax = fig.add_axes((0, 0, 1, 1))
    small = 9 if upright else 6
    for r, (name, images) in enumerate(rows):
        middle = starts[r] + size / 2
        side = {"ha": "center", "rotation": 90} if upright else {"ha": "right"}
        ax.text(left - 12, middle, name, va="center", fontsize=9 if upright else 8, **side)
        for c, image in enumerate(images):
            x = left + c * (size + _GAP)
            if (r, c) in notes:
                place = x + size / 2, starts[r] + size + 2
                ax.text(*place, notes[r, c], ha="center", va="top", fontsize=small)
            if image is not None:
                alpha = image[..., 3:] / 255
                spot = canvas[starts[r] : starts[r] + size, x : x + size]
                spot[:] = np.round(image[..., :3] * alpha + spot * (1 - alpha))
    for c, head in enumerate(heads):
        place = left + c * (size + _GAP) + size / 2, top - 4
        ax.text(*place, head, ha="center", va="bottom", fontsize=7)
    ax.text(width / 2, 10, title, ha="center", va="top", fontsize=10)
    ax.imshow(canvas, interpolation="none", extent=(0, width, len(canvas), 0))
    ax.set_axis_off()
    return fig


def load_input(
    path: str | Path, extent: float | None
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, float]]:
    """Vertices and faces of an input mesh, framed as its field was (longest side `extent`).

    Returns
    -------
    vertices, faces, (center, scale)
        with vertices = (mesh units - center) * scale.

    Raises
    ------
    InputError
        naming the file, when `extent` is given and the mesh is missing or unusable.
    """
    if extent is None:
        vertices, faces = render.load_mesh(path)
        return vertices, faces, (np.zeros(3), 1.0)
    mesh = meshes.load_mesh(path)
    center, scale = meshes.normalise(mesh.vertices[np.unique(mesh.faces)], extent)
    return (mesh.vertices - center) * scale, np.asarray(mesh.faces), (center, scale)


def _load_fields_of(paths: Sequence[str | Path], inputs: list[tuple]) -> list[tuple]:
    """Meshes of the fields of input meshes, which are in mesh units, in their inputs' frame."""
    found = [render.load_mesh(path) for path in paths]
    return [
        ((vertices - center) * scale, faces)
        for (vertices, faces), (_, _, (center, scale)) in zip(found, inputs, strict=True)
    ]


def _draw(fields: list[tuple], inputs: list[tuple], size: int) -> tuple[list, list]:
    """Images of meshes of fields and of input meshes, all in the same scale."""
    inputs = [entry[:2] for entry in inputs]
    half = render.common_half_extent(fields + inputs)
    # Input meshes may be open, so that their faces' orientation says nothing.
    return (
        [render.render(*mesh, size, half_extent=half) for mesh in fields],
        [render.render(*mesh, size, half_extent=half, tint_back=False) for mesh in inputs],
    )


def gallery(
    samples: Sequence[str | Path],
    nearest: Sequence[str | Path | None],
    distances: Sequence[float],
    columns: int = 8,
    size: int = 224,
    *,
    extent: float | None = None,
    title: str = "Samples",
) -> Figure:
    """Generated shapes over their nearest training shapes, Chamfer distance ×10² under each.

    Parameters
    ----------
    samples
        Meshes of fields; one that is missing or empty is drawn as a grey cross.
    nearest
        Input meshes, or None where a sample has no surface and hence no nearest shape.
    distances
        Chamfer distances; NaN where there is none.
    extent
        Longest side that input meshes are scaled to, in field units; None leaves those that
        lie in the field's cube as they are.
    """
    if not len(samples) == len(nearest) == len(distances):
        raise InputError("a gallery needs as many nearest shapes and distances as samples")
    inputs = [load_input(path, extent) for path in nearest if path is not None]
    above, given = _draw([render.load_mesh(path) for path in samples], inputs, size)
    left = iter(given)
    below = [None if path is None else next(left) for path in nearest]
    rows, notes = [], {}
    for start in range(0, len(samples), columns):
        some = slice(start, start + columns)
        rows += [("sample", above[some]), ("nearest train", below[some])]
        for column, distance in enumerate(distances[some]):
            text = f"{100 * distance:.2f}" if np.isfinite(distance) else "no surface"
            notes[len(rows) - 1, column] = text
    title = f"{title} and their nearest training shapes; Chamfer distance ×10²"
    return pictures(rows, title, notes)


def ladder(
    meshes: Sequence[str | Path],
    fields: Sequence[str | Path],
    quantised: Sequence[str | Path],
    labels: Sequence[str],
    size: int = 224,
    *,
    extent: float | None = None,
) -> Figure:
    """The same shapes as input mesh, as field and as quantised field (at most eight).

    `extent` is as for `gallery`.
    """
    count = max(1, min(LADDER_COLUMNS, len(labels)))
    inputs = [load_input(path, extent) for path in meshes[:count]]
    found = [_load_fields_of(paths[:count], inputs) for paths in (fields, quantised)]
    drawn, given = _draw([*found[0], *found[1]], inputs, size)
    rows = [("mesh", given), ("field", drawn[: len(found[0])])]
    rows.append(("quantised field", drawn[len(found[0]) :]))
    heads = [name if len(name) <= 18 else f"{name[:8]}…{name[-8:]}" for name in map(str, labels)]
    title = "Training shapes as meshes, as fields and as quantised fields"
    return pictures(rows, title, heads=heads[:count])


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Entropy in bits of each row of counts."""
    p = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1) + 0.0


@_styled
def token_statistics(tokens: np.ndarray, n_codes: int, codes: np.ndarray | None = None) -> Figure:
    """Code usage, entropy of the codes at each position, and the codebook's values."""
    fig, axes = _grid(1, 3 if codes is not None else 2, 12 if codes is not None else 8, 3.4)
    tokens = np.asarray(tokens)
    usage = np.bincount(tokens.ravel(), minlength=n_codes)
    ax = axes[0, 0]
    ax.fill_between(np.arange(len(usage)), usage, step="mid", color=COLORS[0], lw=0)
    ax.set(xlabel="code", ylabel="tokens", xlim=(-0.5, len(usage) - 0.5), ylim=(0, None))
    ax.set_title(
        f"Usage: {np.count_nonzero(usage)} of {n_codes} codes, {entropy_bits(usage):.2f} bits"
    )
    ax = axes[0, 1]
    curve = np.array(
        [entropy_bits(np.unique(column, return_counts=True)[1]) for column in tokens.T]
    )
    window = max(1, len(curve) // 100)
    if window > 1:
        ax.plot(curve, color=COLORS[0], lw=0.4, alpha=0.5)
    else:
        ax.plot(curve, ".-", color=COLORS[0], lw=1.2, ms=5)
    if window > 1:
        mean = np.convolve(curve, np.ones(window) / window, mode="valid")
        ax.plot(np.arange(len(mean)) + (window - 1) / 2, mean, color=COLORS[1], lw=1.4)
    # With few shapes the entropy cannot exceed the logarithm of their number.
    bound = np.log2(max(1, min(n_codes, len(tokens))))
    ax.axhline(bound, color="#5f6c7b", lw=1, ls="--")
    ax.set(xlabel="position in the sequence", ylabel="bits", ylim=(0, bound * 1.08 + 0.05))
    ax.set_title("Entropy per position; dashed: largest possible")
    if codes is not None:
        ax = axes[0, 2]
        values = np.asarray(codes, dtype=float).reshape(len(codes), -1)
        order = np.argsort(values[:, 0], kind="stable")
        ax.plot(values[order], ".", ms=3, color=COLORS[0])
        ax.set(xlabel="code, sorted", ylabel="value", title="Codebook")
    return fig


@_styled
def weight_histograms(
    weights: np.ndarray, layer_slices: dict[str, tuple[int, int]], template: np.ndarray
) -> Figure:
    """Distribution of each layer's weights, and of their difference to the template."""
    weights, template = np.asarray(weights, dtype=float), np.asarray(template, dtype=float)
    if not layer_slices:
        raise InputError("weight histograms need at least one layer")
    count = len(layer_slices)
    fig, axes = _grid(2, count, max(4, 2.3 * count), 4.6)
    for column, (name, (start, stop)) in enumerate(layer_slices.items()):
        part = weights[:, start:stop]
        difference = part - template[start:stop]
        for row, values in enumerate((part, difference)):
            ax = axes[row, column]
            values = values[np.isfinite(values)]
            # Rare outliers would squeeze the histogram into one bar.
            low, high = np.quantile(values, [0.001, 0.999]) if len(values) else (0.0, 1.0)
            if high - low < 1e-12:
                low, high = low - 0.5, high + 0.5
            counts, edges = np.histogram(values, bins=80, range=(low, high))
            ax.stairs(counts, edges, fill=True, color=COLORS[row])
            ax.set(yticks=[])
            ax.locator_params(axis="x", nbins=4)
        axes[0, column].set_title(f"{name} ({stop - start})", fontsize=8)
    axes[0, 0].set_ylabel("weights")
    axes[1, 0].set_ylabel("minus template")
    return fig


_BARS = "1-NNA %", "COV %", "MMD x100"


@_styled
def metric_bars(metrics: pd.DataFrame) -> Figure:
    """1-NNA, COV and MMD of every row of the ladder; the mark shows the spread over seeds.

    Parameters
    ----------
    metrics
        Long table with `method`, `setting`, `metric`, `value`.
    """
    frame = metrics.copy()
    # No bar is infinitely long; without any valid sample there is no distance to show.
    frame["value"] = frame["value"].where(np.isfinite(frame["value"]))
    setting = frame["setting"].fillna("").astype(str)
    frame["row"] = frame["method"].astype(str) + np.where(setting == "", "", " " + setting)
    rows = list(dict.fromkeys(frame["row"]))
    positions = {row: i for i, row in enumerate(rows)}
    fig, axes = _grid(1, 3, 11, 0.9 + 0.32 * max(3, len(rows)))
    for place, (ax, name) in enumerate(zip(axes[0], _BARS, strict=True)):
        column, part = COLUMNS[name], frame[frame["metric"] == name]
        grouped = part.groupby("row", sort=False)["value"].agg(["mean", "std"])
        y = [positions[row] for row in grouped.index]
        colors = [COLORS[i % len(COLORS)] for i in y]
        ax.barh(
            y,
            grouped["mean"],
            xerr=grouped["std"].fillna(0),
            color=colors,
            height=0.68,
            error_kw={"lw": 0.8},
        )
        for at, value, spread in zip(y, grouped["mean"], grouped["std"].fillna(0), strict=True):
            if np.isfinite(value):
                ax.annotate(
                    f"{value:.3g}", (value + spread, at), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=7,
                )  # fmt: skip
        if isinstance(column.best, float):
            ax.axvline(column.best, color="#5f6c7b", lw=1, ls="--")
        ax.margins(x=0.16)
        ax.set(title=column.heading, yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels(rows if place == 0 else [])
        ax.grid(False, axis="y")
    return fig


def _codes(path: str | Path) -> np.ndarray:
    try:
        return load_file(path)["codes"]
    except (OSError, KeyError, SafetensorError) as error:
        raise InputError(
            f"cannot read codes in {path}: {error}; delete it and run again"
        ) from error


def make_all(spec: dict, out_dir: str | Path) -> list[Path]:
    """Draw every figure that the specification has the data for; see `main`."""
    written = []
    unigram = None
    if spec.get("tokens"):
        table = read_tokens(spec["tokens"])
        tokens, n_codes = table.tokens[table.of_split("train")], table.n_codes
        unigram = float(entropy_bits(np.bincount(tokens.ravel(), minlength=n_codes)))
        codes = _codes(spec["codebook"]) if spec.get("codebook") else None
        written += save(token_statistics(tokens, n_codes, codes), out_dir, "tokens")
    if spec.get("losses"):
        columns = ["iteration", "train_loss", "val_loss", "calibrated_val_loss"]
        losses = {
            name: read_table(path, columns)[columns].apply(pd.to_numeric)
            for name, path in spec["losses"].items()
        }
        written += save(loss_curves(losses, unigram), out_dir, "losses")
    if spec.get("weights"):
        fields = read_fields(spec["weights"])
        layers = {name: (start, stop) for name, start, stop in fields.spec.slices}
        figure = weight_histograms(fields.weights, layers, fields.template)
        written += save(figure, out_dir, "weights")
    if spec.get("metrics"):
        metrics = tables.read_metrics(spec["metrics"])
        values = pd.to_numeric(metrics["value"], errors="coerce")
        written += save(metric_bars(metrics.assign(value=values)), out_dir, "metrics")
    for entry in spec.get("galleries", []):
        figure = gallery(
            entry["samples"],
            entry["nearest"],
            entry["distances"],
            extent=spec.get("extent"),
            title=entry.get("title", "Samples"),
        )
        written += save(figure, out_dir, f"gallery-{entry['name']}".replace("/", "-"))
    if spec.get("ladder"):
        columns = [
            [row[key] for row in spec["ladder"]]
            for key in ("mesh", "field", "quantised", "shape_id")
        ]
        written += save(ladder(*columns, extent=spec.get("extent")), out_dir, "ladder")
    return written
