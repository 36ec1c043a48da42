"""Plots of a run's numbers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.report.style import COLORS, GREY, LINES, MARKS, grid, styled


@styled
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
    fig, axes = grid(1, 1, 7, 4)
    ax = axes[0, 0]
    for i, (name, frame) in enumerate(losses.items()):
        color, mark, line = (of[i % len(of)] for of in (COLORS, MARKS, LINES))
        names = ["train_loss", "val_loss", "calibrated_val_loss"]
        bits = frame[names].astype(float) / np.log(2)
        iteration = frame["iteration"].to_numpy(float)
        train, val, calibrated = (bits[name].to_numpy() for name in names)
        seen = np.isfinite(train)
        ax.plot(iteration[seen], train[seen], color=color, alpha=0.45, lw=1, label=f"{name}, train")
        seen = np.isfinite(val)
        ax.plot(iteration[seen], val[seen], color=color, ls=line, lw=1.6, label=f"{name}, val")
        label = f"{name}, val at its best temperature"
        ax.plot(iteration[seen], calibrated[seen], color=color, lw=1, ls=":", label=label)
        if seen.any():
            best = int(np.nanargmin(calibrated))
            place = iteration[best], calibrated[best]
            ax.plot(*place, mark, color=color, mec="white", ms=7, zorder=5)
            ax.annotate(
                f"{calibrated[best]:.3f}",
                place,
                xytext=(0, -12),
                textcoords="offset points",
                ha="center",
                color=color,
            )
    if unigram_entropy is not None:
        ax.axhline(unigram_entropy, color=GREY, lw=1, ls="--", label="unigram entropy")
    ax.margins(y=0.1)
    ax.set(xlabel="iteration", ylabel="loss (bits per token)", title="Loss")
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return fig


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Entropy in bits of each row of counts."""
    p = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=-1) + 0.0


@styled
def token_statistics(tokens: np.ndarray, codes: np.ndarray) -> Figure:
    """Code usage, entropy of the codes at each position, and the codebook's values.

    Parameters
    ----------
    tokens : uint16 [n, L].
    codes : values [K].
    """
    fig, axes = grid(1, 3, 12, 3.4)
    n_codes = len(codes)
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
    place, window = np.arange(1, len(curve) + 1), max(1, len(curve) // 100)
    if window > 1:
        ax.plot(place, curve, color=COLORS[0], lw=0.4, alpha=0.5)
    else:
        ax.plot(place, curve, ".-", color=COLORS[0], lw=1.2, ms=5)
    if window > 1:
        mean = np.convolve(curve, np.ones(window) / window, mode="valid")
        ax.plot(1 + np.arange(len(mean)) + (window - 1) / 2, mean, color=COLORS[1], lw=1.4)
    # With few shapes the entropy cannot exceed the logarithm of their number.
    bound = np.log2(max(1, min(n_codes, len(tokens))))
    ax.axhline(bound, color=GREY, lw=1, ls="--")
    ax.set(xlabel="position in the sequence", ylabel="bits", ylim=(0, bound * 1.08 + 0.05))
    ax.set_title("Entropy per position; dashed: largest possible")
    ax = axes[0, 2]
    ax.plot(np.sort(codes), ".", ms=3, color=COLORS[0])
    ax.set(xlabel="code, sorted", ylabel="value", title="Codebook")
    return fig


@styled
def weight_histograms(
    weights: np.ndarray, layer_slices: dict[str, tuple[int, int]], template: np.ndarray
) -> Figure:
    """Distribution of each layer's weights, and of their difference to the template."""
    weights, template = np.asarray(weights, dtype=float), np.asarray(template, dtype=float)
    if not layer_slices:
        raise InputError("weight histograms need at least one layer")
    count = len(layer_slices)
    fig, axes = grid(2, count, max(4, 2.3 * count), 4.6)
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


TUNED = "accuracy %", "1-NNA %", "COV %", "MMD x100"


@styled
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
    fig, axes = grid(
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
            cells = part.pivot(index="top_k", columns="temperature", values=column.name)
            cells = cells.loc[top_ks, temperatures].to_numpy(float)
            ax.imshow(column.worse(cells), cmap="cividis_r", vmin=low, vmax=high, aspect="auto")
            middle = (low + high) / 2
            for (i, j), value in np.ndenumerate(cells):
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


@styled
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
    fig, axes = grid(1, 1, 2.4 + 0.55 * len(labels), 0.9 + 0.28 * len(table))
    ax = axes[0, 0]
    ax.imshow(table.to_numpy(float), cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(table.to_numpy(float)):
        color = "white" if value < 60 else "black"
        text = f"{value:.0f}" if np.isfinite(value) else ""
        ax.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlabel="class", title="Accuracy % of the classifier")
    ax.grid(False)
    return fig


@styled
def fits_by_shape(
    panels: list[tuple[str, bool, dict[str, np.ndarray]]], names: list[str], splits: list[str]
) -> Figure:
    """How well every field keeps its signal, worst first; the worst three are named.

    Parameters
    ----------
    panels : title of a measure, whether low values are bad, and [n] values by what they are of,
        the first of which names the worst.
    names, splits : of the n signals; names only of those of the train split are used, which
        stand among the first.
    """
    fig, axes = grid(1, len(panels), 5.2 * len(panels), 3.6)
    of, worst = np.asarray(splits), "none"
    for ax, (title, low_is_bad, series) in zip(axes[0], panels, strict=True):
        for i, (what, values) in enumerate(series.items()):
            for split, mark in (("train", "."), ("val", "^"), ("test", "s")):
                rows = np.flatnonzero((of == split) & np.isfinite(values))
                if not len(rows):
                    continue
                rows = rows[np.argsort(values[rows] if low_is_bad else -values[rows])]
                share = 100 * (np.arange(len(rows)) + 0.5) / len(rows)
                label = f"{what}, {split} (median {np.median(values[rows]):.3g})"
                style = {"ls": LINES[i], "marker": mark, "ms": 3.5, "mfc": "white" if i else None}
                style["markevery"] = max(1, len(rows) // 60)  # a mark takes long to write
                ax.plot(share, values[rows], color=COLORS[i], lw=0.9, label=label, **style)
                if i == 0 and split == "train":
                    worst = ", ".join(f"{names[row]:.12}" for row in rows[:3])
        ax.set(title=title, xlabel=f"% of the fields, worst first\nworst of train: {worst}")
        ax.legend(fontsize=7)
    return fig
