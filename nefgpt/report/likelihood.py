"""Held-out likelihood: the table on the page, and its chart."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nefgpt.report.style import COLORS, GREY, MARKS, grid, styled

# Differences of fewer standard errors are taken for chance.
CERTAIN = 2


def verdict(above: float, error: float) -> str:
    """What a density knows beside the kernel density, by the mean difference of their bits."""
    if not np.isfinite(above) or not np.isfinite(error):
        return "not known"
    if error == 0 and above == 0:
        return ""
    if abs(above) < CERTAIN * error:
        return "as much, as far as can be seen"
    return "less than noise on train fields" if above > 0 else "more than noise on train fields"


def rows_of(table: pd.DataFrame) -> list[dict]:
    """Rows for the page of what `nefgpt likelihood` wrote (numbers as numbers)."""
    return [
        {
            "density": row.density,
            "setting": row.setting,
            "of it": row.chosen,
            "bits a field": f"{row.bits_per_field:.1f} ± {row.standard_error:.1f}",
            "bits a code": f"{row.bits_per_code:.3f}",
            "above the kernel density": f"{row.above_kernel:+.1f} ± {row.above_kernel_error:.1f}",
            "knows": verdict(row.above_kernel, row.above_kernel_error),
        }
        for row in table.itertuples()
    ]


@styled
def bars(table: pd.DataFrame) -> Figure:
    """Bits a field of each density, with standard errors; hollow: as its generator draws."""
    names = list(dict.fromkeys(table["density"]))
    fig, axes = grid(1, 1, 7.2, 0.9 + 0.38 * len(names))
    ax = axes[0, 0]
    for i, (setting, part) in enumerate(table.groupby("setting", sort=False)):
        places = [
            names.index(name) + (0.12 if setting == "plain" else -0.12) for name in part.density
        ]
        face = "white" if setting == "plain" else COLORS[i % len(COLORS)]
        ax.errorbar(
            part.bits_per_field,
            places,
            xerr=part.standard_error,
            fmt=MARKS[i % len(MARKS)],
            color=COLORS[i % len(COLORS)],
            mfc=face,
            ms=5,
            lw=1.2,
            label=setting,
        )
    kernel = table[table.density == "kernel density"]
    if len(kernel):
        ax.axvline(kernel.bits_per_field.iloc[0], color=GREY, lw=0.8, ls=":")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    split = table.split.iloc[0]
    ax.set(xlabel=f"bits a field, {split} split", title="What held-out fields cost")
    fig.legend(loc="outside right upper", fontsize=7.5)
    return fig
