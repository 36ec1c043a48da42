"""Plots of the table's rows: each measure with its interval, and quality against novelty."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nefgpt.evaluation.metric import COLUMNS
from nefgpt.report.style import COLORS, GREY, MARKS, grid, styled

CHART = "1-NNA %", "COV %", "MMD x100", "novelty"
TICKS = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of novelty
# Where a name may stand, in points from its own; near ones are tried first.
_AROUND = [
    (round(far * np.cos(angle), 3), round(far * np.sin(angle), 3))
    for far in (9, 14, 20, 28, 38)
    for angle in np.arange(0, 2 * np.pi, np.pi / 8)
]


class Line(NamedTuple):
    """A row of the table, as plots show it.

    Attributes
    ----------
    method, setting : its names.
    role : "bound" of real inputs and their fields; "probe" for what no training made; else
        "generator".
    """

    method: str
    setting: str
    role: str

    @property
    def label(self) -> str:
        """Its name, short."""
        return self.method if self.setting == "all" else f"{self.method} {self.setting}"


def looks(lines: list[Line]) -> dict[Line, dict]:
    """Colour, mark and fill of every row: rows of one method share them, bounds are hollow."""
    methods = list(dict.fromkeys(line.method for line in lines if line.role != "bound"))
    bounds = [line for line in lines if line.role == "bound"]
    found = {}
    for line in lines:
        if line.role == "bound":
            mark, color = "sdop*"[bounds.index(line) % 5], GREY
        else:
            place = methods.index(line.method)
            mark, color = MARKS[place % len(MARKS)], COLORS[place % len(COLORS)]
        found[line] = {"marker": mark, "color": color}
        found[line]["mfc"] = "white" if line.role == "bound" else color
    return found


def _of(intervals: pd.DataFrame, line: Line, metric: str) -> tuple[float, float, float] | None:
    """Value of one measure of a row, and how far it reaches below and above; None without one."""
    chosen = (intervals["method"] == line.method) & (intervals["setting"] == line.setting)
    part = intervals[chosen & (intervals["metric"] == metric)]
    if part.empty or not np.isfinite(part["value"].iloc[0]):
        return None
    value, low, high = part[["value", "low", "high"]].iloc[0]
    reach = [max(0.0, d) if np.isfinite(d) else 0.0 for d in (value - low, high - value)]
    return value, *reach


@styled
def ladder_chart(intervals: pd.DataFrame, lines: list[Line]) -> Figure:
    """Every row's measures with their intervals, a panel for each of `CHART`.

    Parameters
    ----------
    intervals : frame with `method`, `setting`, `metric`, `value`, `low`, `high`.
    """
    shown = [name for name in CHART if (intervals["metric"] == name).any()]
    style = looks(lines)
    fig, axes = grid(1, len(shown), 1.6 + 2.5 * len(shown), 0.8 + 0.28 * max(3, len(lines)))
    last = sum(line.role == "bound" for line in lines) - 0.5
    for place, (ax, name) in enumerate(zip(axes[0], shown, strict=True)):
        for y, line in enumerate(lines):
            found = _of(intervals, line, name)
            if found is None:
                ax.annotate("none", (0.02, y), xycoords=("axes fraction", "data"), fontsize=7,
                            va="center", color=GREY)  # fmt: skip
                continue
            value, below, above = found
            ax.errorbar(value, y, xerr=[[below], [above]], ms=6, lw=1.2, capsize=2.5, **style[line])
            ax.annotate(f"{value:.3g}", (value, y), xytext=(0, 4.5), textcoords="offset points",
                        ha="center", va="bottom", fontsize=6.5)  # fmt: skip
        column = COLUMNS[name]
        if isinstance(column.best, float):
            ax.axvline(column.best, color=GREY, lw=1, ls="--")
        if 0 < last < len(lines) - 1:
            ax.axhline(last, color=GREY, lw=0.8, ls=":")
        ax.margins(x=0.12)
        ax.set(title=column.heading, yticks=range(len(lines)), ylim=(len(lines) - 0.5, -0.8))
        ax.set_yticklabels([line.label for line in lines] if place == 0 else [])
    return fig


def _box(text, dpi: float) -> tuple[float, float, float, float, float]:
    """Where a text stands, in points, and how bad it is to hide it."""
    frame = text.get_window_extent()
    return (*(side * 72 / dpi for side in (frame.x0, frame.y0, frame.x1, frame.y1)), 0.7)


def _write(fig: Figure, ax, points: list[tuple], bars: list[tuple]) -> None:
    """Names of points (x, y, name), where they hide neither each other, nor points, nor bars.

    Parameters
    ----------
    bars : left, right, bottom and top end of each point's intervals.
    """
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # the places are measured in this layout
    at = [ax.transData.transform(point[:2]) * 72 / fig.dpi for point in points]
    frame = ax.get_window_extent()
    left, right, bottom, top = (
        side * 72 / fig.dpi for side in (frame.x0, frame.x1, frame.y0, frame.y1)
    )
    taken = [(x - 4, y - 4, x + 4, y + 4, 1.0) for x, y in at]
    for (x, y), (x0, x1, y0, y1) in zip(at, bars, strict=True):
        (x0, y0), (x1, y1) = ax.transData.transform([(x0, y0), (x1, y1)]) * 72 / fig.dpi
        taken += [(x0, y - 1, x1, y + 1, 0.5), (x - 1, y0, x + 1, y1, 0.5)]
    taken += [_box(text, fig.dpi) for text in ax.texts]
    for (x, y), (*place, text) in zip(at, points, strict=True):
        wide, high = 3.9 * len(text), 7.0
        best, least = None, np.inf
        for dx, dy in _AROUND:
            x0 = x + dx - (wide if dx < 0 else 0 if dx else wide / 2)
            box = (x0, y + dy - high / 2, x0 + wide, y + dy + high / 2)
            hidden = sum(
                other[4]
                * max(0, min(box[2], other[2]) - max(box[0], other[0]))
                * max(0, min(box[3], other[3]) - max(box[1], other[1]))
                for other in taken
            )
            hidden += 1e3 * (box[0] < left or box[2] > right or box[1] < bottom or box[3] > top)
            hidden += 0.3 * np.hypot(dx, dy)
            if hidden < least:
                best, least = (dx, dy, box), hidden
        dx, dy, box = best
        taken.append((*box, 1.0))
        ax.annotate(
            text, place, xytext=(dx, dy), textcoords="offset points", fontsize=6.5, va="center",
            ha="right" if dx < 0 else "left" if dx else "center",
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.3},  # over the lines
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": GREY, "shrinkA": 0, "shrinkB": 3}
            if np.hypot(dx, dy) > 15
            else None,
        )  # fmt: skip


@styled
def plane(intervals: pd.DataFrame, lines: list[Line], quality: str = "1-NNA %") -> Figure:
    """Quality of every row against its novelty: a row that only memorises stands at the left.

    Bounds are hollow; what no training made is joined to a curve, a model that stands on it or
    above has earned nothing.

    Parameters
    ----------
    intervals : see `ladder_chart`.
    quality : the measure of the ordinate.
    """
    style, points, bars, missing = looks(lines), [], [], []
    fig, axes = grid(1, 1, 7.2, 4.8)
    ax, column = axes[0, 0], COLUMNS[quality]
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        x, y = _of(intervals, line, "novelty"), _of(intervals, line, quality)
        if x is None or y is None:
            missing.append(line.label)
            continue
        ax.errorbar(
            x[0], y[0], xerr=[[x[1]], [x[2]]], yerr=[[y[1]], [y[2]]], ms=7, lw=0.8, mew=1.2,
            alpha=0.95, zorder=3, **style[line],
        )  # fmt: skip
        points.append((x[0], y[0], line.label))
        bars.append((x[0] - x[1], x[0] + x[2], y[0] - y[1], y[0] + y[2]))
        if line.role == "probe":
            curves.setdefault(line.method, []).append((x[0], y[0]))
    for method, found in curves.items():
        color = next(style[line]["color"] for line in lines if line.method == method)
        ax.plot(*zip(*sorted(found), strict=True), color=color, lw=1.4, ls="--", zorder=2)
    if isinstance(column.best, float):
        ax.axhline(column.best, color=GREY, lw=1, ls="--", zorder=1)
        ax.annotate("as good as training inputs", (1, column.best), xytext=(-3, 3), ha="right",
                    xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7,
                    color=GREY)  # fmt: skip
    ax.axvline(1, color=GREY, lw=0.8, ls=":", zorder=1)
    ax.annotate("as new as test inputs", (1, 0), xytext=(3, 3), rotation=90, va="bottom",
                xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7,
                color=GREY)  # fmt: skip
    # A row far from all training inputs would press all others together.
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    far = max((right for _, right, *_ in bars), default=1.0)
    ticks = [tick for tick in TICKS if tick <= max(1.5, far)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    ax.minorticks_off()
    ax.margins(0.1)
    ax.set(xlabel="novelty (logarithmic beyond 1)", ylabel=column.heading)
    ax.set_title("Quality against novelty")
    if missing:
        ax.set_title(f"Quality against novelty (without a number: {', '.join(missing)})")
    _write(fig, ax, points, bars)
    return fig
