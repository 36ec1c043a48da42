"""Figures of the regression experiment, and of what a shared start does to the weights."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec, unflatten
from nefgpt.generators.regression import STARTS, Rollouts
from nefgpt.report.style import COLORS, GREY, grid, styled
from nefgpt.signals.images import render

_COLUMNS = 8
_MARKS = dict(zip(STARTS, (("o-", COLORS[0]), ("s-", COLORS[1])), strict=True))


@styled
def regression_figure(table: pd.DataFrame) -> Figure:
    """Error of the written fields and of their signals over the number of fields.

    Parameters
    ----------
    table
        As `nefgpt.generators.regression.experiment` returns it.
    """
    if table.empty:
        raise InputError("the regression's table has no rows")
    counts = sorted(set(table["n_fields"]))
    fig, axes = grid(1, 3, 11, 3.4)
    for start, part in table.groupby("start", sort=False):
        part = part.sort_values("n_fields")
        style, color = _MARKS[start]
        dotted = {"color": color, "mfc": "white", "lw": 1}
        lines = (
            (axes[0, 0], "roll_out_error", f"{start}, written", style, {"color": color}),
            (
                axes[0, 0],
                "teacher_forced_error",
                f"{start}, teacher forced",
                style[0] + ":",
                dotted,
            ),
            (axes[0, 1], "relative_error", start, style, {"color": color}),
            (axes[0, 2], "psnr", start, style, {"color": color}),
            (axes[0, 2], "nearest_psnr", f"{start}, to the nearest", style[0] + ":", dotted),
        )
        for ax, column, label, line, look in lines:
            ax.plot(part["n_fields"], part[column], line, label=label, **look)
    axes[0, 1].axhline(1, color=GREY, lw=1, ls="--", label="mean field")
    axes[0, 0].set(title="Error of the weights", ylabel="mean absolute difference", yscale="log")
    axes[0, 1].set(title="Written, over the mean field's error", yscale="log")
    axes[0, 2].set(title="Signal of the written fields", ylabel="PSNR (dB)")
    for ax in axes[0]:
        ax.set_xscale("log", base=2)
        ax.set(xlabel="fields to memorise", xticks=counts, xticklabels=counts)
        ax.minorticks_off()
        ax.legend(fontsize=7)
    return fig


@styled
def rollout_images(spec: FieldSpec, rollouts: Rollouts, resolution: int = 56) -> Figure:
    """Original images above the written ones, for each start and number of fields.

    Parameters
    ----------
    spec
        Of images.
    rollouts
        (start, N) to original and written fields, float32 [N, W] each.
    """
    if spec.in_dim != 2:
        raise InputError(f"fields of {spec.in_dim} coordinates cannot be shown as images")
    if not rollouts:
        raise InputError("there are no written fields to show")
    starts = list(dict.fromkeys(start for start, _ in rollouts))
    counts = sorted({n for _, n in rollouts})
    columns = min(_COLUMNS, max(counts))
    width = columns * len(starts) + 1  # one empty column between the starts
    fig, axes = grid(2 * len(counts), width, 0.62 * width + 0.9, 1.24 * len(counts) + 0.4)
    for ax in axes.flat:
        ax.set_axis_off()
    for (start, n), pair in rollouts.items():
        row, column = 2 * counts.index(n), starts.index(start) * (columns + 1)
        for down, fields in enumerate(pair):
            shown = render(spec, fields[:columns], resolution, resolution)
            for i, image in enumerate(shown):
                axes[row + down, column + i].imshow(image, cmap="gray_r", vmin=0, vmax=1)
    for j, start in enumerate(starts):
        axes[0, j * (columns + 1)].set_title(start, loc="left")
    for row, n in enumerate(counts):
        for down, text in enumerate((f"{n} original", "written")):
            axes[2 * row + down, 0].text(
                -0.15, 0.5, text, transform=axes[2 * row + down, 0].transAxes, ha="right",
                va="center", fontsize=8,
            )  # fmt: skip
    return fig


@styled
def symmetry_figure(
    spec: FieldSpec, template: np.ndarray, from_template: np.ndarray, from_random: np.ndarray
) -> Figure:
    """Matrices and biases of one signal fitted twice, and their differences to the template.

    Hidden units can change places without changing the signal, so a fit from a random start
    shows the same and shares no weight with the template.

    Parameters
    ----------
    template, from_template, from_random : float32 [W].
    """
    starts = (template, from_template, from_random)
    template, near, far = (np.asarray(weights, np.float32) for weights in starts)
    shown = {
        "template": template,
        "fitted from the template": near,
        "Δ to the template": near - template,
        "fitted from a random start": far,
        "Δ of that to the template": far - template,
    }
    n_layers = len(spec.hidden) + 1
    fan_out = [shape[0] for name, shape in spec.layers if name.endswith("weight")]
    heights = [max(4, rows) for rows in fan_out]  # the output's one row needs height to be seen
    limit = float(np.quantile(np.abs(np.concatenate([template, near, far])), 0.98)) or 1.0
    fig = Figure(figsize=(12, 0.9 + 4.6 * sum(heights) / max(heights) / 2.25), layout="constrained")
    *panels, scale = fig.subfigures(
        1, len(shown) + 1, wspace=0.02, width_ratios=[1] * len(shown) + [0.3]
    )
    for panel, (title, values) in zip(panels, shown.items(), strict=True):
        axes = panel.subplots(
            n_layers, 2, squeeze=False, width_ratios=[12, 1], height_ratios=heights
        )
        tensors = unflatten(spec, values)
        sizes = []
        for kind in ("weight", "bias"):
            parts = [np.abs(tensor).ravel() for n, tensor in tensors.items() if n.endswith(kind)]
            sizes.append(float(np.concatenate(parts).mean()))
        if title.startswith("Δ"):
            title = f"{title}\n|ΔW| = {sizes[0]:.3f}, |Δb| = {sizes[1]:.3f}"
        panel.suptitle(title + ("" if "\n" in title else "\n"), fontsize=9)
        for i in range(n_layers):
            for ax, kind in zip(axes[i], ("weight", "bias"), strict=True):
                tensor = tensors.get(f"layers.{i}.{kind}")
                if tensor is None:
                    ax.set_axis_off()
                    continue
                image = ax.imshow(
                    tensor.reshape(fan_out[i], -1), cmap="RdBu_r", vmin=-limit, vmax=limit,
                    aspect="auto", interpolation="nearest",
                )  # fmt: skip
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                if panel is panels[0] and kind == "weight":
                    ax.set_ylabel(f"layer {i}")
                if i == n_layers - 1:
                    ax.set_xlabel("W" if kind == "weight" else "b")
    fig.colorbar(image, cax=scale.add_axes((0.05, 0.2, 0.25, 0.6)), extend="both")
    return fig
