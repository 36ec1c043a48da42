"""How every figure looks and is written: as SVG and PDF with text as text, and as PNG.

The colours are told apart with every colour blindness (Okabe & Ito
2008); marks and kinds of line tell the same apart in grey.
"""

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nefgpt.base.files import atomic_path

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
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
    "image.cmap": "cividis",
    "svg.hashsalt": "nefgpt",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
MARKS = ["o", "s", "^", "D", "v", "P", "X"]
LINES = ["-", (0, (5, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (2, 1)), (0, (8, 2))]
GREY = "#5f6c7b"
DPI = 160
_PLAIN = {
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {},
}


def save(fig: Figure, out_dir: str | Path, name: str, kinds: Iterable[str] = _PLAIN) -> list[Path]:
    """Write `name`.svg, .pdf and .png, or some of them; the same figure gives the same bytes."""
    FigureCanvasAgg(fig)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # else it tells of every glyph
    paths = [Path(out_dir) / f"{name}{kind}" for kind in kinds]
    with mpl.rc_context(STYLE):
        if fig.get_layout_engine() is not None:
            fig.draw_without_rendering()
            fig.set_layout_engine("none")  # else each format finds the same layout anew
        for path in paths:
            metadata = _PLAIN[path.suffix]
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
