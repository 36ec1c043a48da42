"""How every figure looks and is written: as SVG (images inside are bitmaps) and as PNG."""

import functools
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nefgpt.base.files import atomic_path

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
DPI = 160


def save(fig: Figure, out_dir: str | Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.png; the same figure gives the same bytes."""
    FigureCanvasAgg(fig)
    paths = [Path(out_dir) / f"{name}{suffix}" for suffix in (".svg", ".png")]
    with mpl.rc_context(STYLE):
        for path, metadata in zip(paths, ({"Date": None, "Creator": None}, {}), strict=True):
            with atomic_path(path) as temporary:
                fig.savefig(temporary, format=path.suffix[1:], dpi=DPI, metadata=metadata)
    return paths


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Build a figure in this style without a change of matplotlib's global settings."""

    @functools.wraps(function)
    def built(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return built


def grid(rows: int, columns: int, width: float, height: float):
    """A figure of `width` by `height` inches, and its plots [rows, columns]."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False)
