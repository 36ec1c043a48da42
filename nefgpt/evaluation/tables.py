"""Tables of a run: the long `metrics.csv`, and Table 2 as CSV, Markdown and LaTeX."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_table, write_text
from nefgpt.evaluation import intervals, protocol
from nefgpt.evaluation import metric as measures
from nefgpt.evaluation.columns import Column
from nefgpt.signals.kind import KINDS

KEYS = ("method", "setting", "metric", "value", "seed", "n_generated", "n_reference")
_PUBLISHED_METRICS = ("MMD x100", "COV %", "1-NNA %", "FPD")
_FPD = Column("FPD", "FPD", best="low")  # published only
# In the table's order.
COLUMNS = {
    shown.name: shown
    for column in measures.COLUMNS.values()
    for shown in ((column, _FPD) if column.name == "1-NNA %" else (column,))
}
HEADINGS = {name: column.heading for name, column in COLUMNS.items()}
# As printed in the NeF-GPT report, Table 2; a setting is (top-k, temperature), or whose figures
# they are: other methods' are HyperDiffusion's own evaluation, not those of their papers.
_AGAIN = "re-evaluated by HyperDiffusion"
PUBLISHED = (
    ("Voxel baseline", "by HyperDiffusion", "6.0", "28", "94.1", "38.9"),
    ("PVD", _AGAIN, "3.4", "39", "76.3", "5.8"),
    ("DPC", _AGAIN, "3.1", "46", "74.7", "18.7"),
    ("HyperDiffusion", "its own", "3.4", "49", "69.3", "3.5"),
    ("NeF-GPT", "(3, 0.8)", "10.0", "38.77", "90.77", "31.34"),
    ("NeF-GPT", "(3, 1)", "9.7", "34.57", "91.31", "36.78"),
    ("NeF-GPT", "(5, 0.8)", "10.5", "37.50", "90.43", "35.21"),
    ("NeF-GPT", "(5, 1)", "11.1", "35.64", "91.36", "31.87"),
)
PUBLISHED_HEADING = "Published (ShapeNet airplanes; other data and budgets, not comparable)"
PUBLISHED_NOTE = (
    "From Table 2 of the NeF-GPT report, by HyperDiffusion's protocol: 2,048 points, each cloud "
    "about its mean over its deviation, Chamfer; FPD by PointNet++. PVD's and DPC's are "
    "HyperDiffusion's re-evaluations. NeF-GPT settings are (top-k, temperature)."
)
_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×10²": r"$\times 10^2$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "–": "--",
}


def read_metrics(path: str | Path) -> pd.DataFrame:
    """Rows of one long table of metrics, every cell as the file's text.

    Raises
    ------
    InputError
        naming the file, when it is missing, empty or broken.
    """
    frame = read_table(path, KEYS)
    if frame.empty:
        raise InputError(f"{path} has no rows; delete it and run again")
    # A value may be NaN (an empty cell: a distance without any valid sample), but not text.
    numbers = pd.to_numeric(frame["value"], errors="coerce")
    wrong = numbers.isna() & ~frame["value"].str.lower().isin(["", "nan"])
    if wrong.any():
        text = frame["value"][wrong].iloc[0]
        raise InputError(f"{path}: value {text!r} is no number; delete it and run again")
    return frame[[*KEYS, *(name for name in protocol.COLUMNS if name in frame)]]


def check_extractors(metrics: pd.DataFrame) -> None:
    """Refuse values of one measure by different networks.

    Raises
    ------
    InputError
        naming the measure and the networks.
    """
    if "extractor" not in metrics:
        return
    for name, part in metrics.groupby("metric", sort=False):
        if len(found := sorted(set(part["extractor"]))) > 1:
            raise InputError(
                f"{name} is by {', '.join(map(repr, found))}: values of different networks are "
                "not comparable; score all rows by one"
            )


def _number(metric: str, value: float) -> str:
    if not np.isfinite(value):
        return "" if np.isnan(value) else "inf"
    return f"{value:.{COLUMNS[metric].digits}f}" if metric in COLUMNS else f"{value:.4g}"


def printed(metric: str, values: np.ndarray) -> str:
    """Mean of several seeds' values, ± their standard deviation where they differ."""
    text = _number(metric, float(values.mean()))
    if np.isfinite(values).all() and np.ptp(values) > 0:
        text += f" ± {_number(metric, float(values.std(ddof=1)))}"
    return text


def table2(metrics: pd.DataFrame, published: Sequence[tuple] = PUBLISHED) -> pd.DataFrame:
    """One row per (method, setting), measured rows first in their order, then published ones.

    Parameters
    ----------
    metrics
        Long table with `KEYS`; several seeds of a row become mean ± standard deviation.
    """
    found = list(dict.fromkeys(metrics["metric"]))
    known = _PUBLISHED_METRICS if published else ()
    names = [name for name in COLUMNS if name in found or name in known]
    names += [name for name in found if name not in COLUMNS]
    rows: dict[tuple, dict] = {}
    for (method, setting, metric), part in metrics.groupby(
        ["method", "setting", "metric"], sort=False
    ):
        row = rows.setdefault(
            (method, setting), {"method": method, "setting": setting, "source": "measured"}
        )
        row[metric] = printed(metric, pd.to_numeric(part["value"], errors="coerce").to_numpy(float))
    others = (
        {"method": method, "setting": setting, "source": "published"}
        | dict(zip(_PUBLISHED_METRICS, values, strict=True))
        for method, setting, *values in published
    )
    table = pd.DataFrame([*rows.values(), *others])
    return table.reindex(columns=["method", "setting", "source", *names]).fillna("")


def about(metrics: pd.DataFrame) -> str:
    """How many samples and references a long table compares, and by which seeds.

    Rows of other sizes than most, as halves of the test split, are named with theirs.
    """
    seeds = ", ".join(dict.fromkeys(metrics["seed"]))
    of = "mean and standard deviation over seeds" if "," in seeds else "seed"
    sizes = metrics.groupby(["method", "setting"], sort=False)[["n_generated", "n_reference"]]
    pairs = list(sizes.first().itertuples(name=None))
    (generated, reference), _ = Counter(pair[1:] for pair in pairs).most_common(1)[0]
    others = {key[0]: f"{a} against {b}" for key, a, b in pairs if (a, b) != (generated, reference)}
    told = "".join(f"; {method}: {size}" for method, size in others.items())
    return f"{generated} samples per row against {reference} of the test split, {of} {seeds}{told}."


def _parts(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measured and published rows with headings, values as they are printed."""
    printed = table.drop(columns="source").replace({"inf": "∞"}).rename(columns=HEADINGS)
    measured = table["source"] == "measured"
    return printed[measured], printed[~measured]


def _markdown(frame: pd.DataFrame) -> str:
    # A column without values (FPD before it is measured) says nothing.
    frame = frame.loc[:, [i < 2 or (frame[name] != "").any() for i, name in enumerate(frame)]]
    lines = [list(frame.columns), ["---", "---"] + ["---:"] * (frame.shape[1] - 2)]
    lines += frame.to_numpy().tolist()
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def tex_escape(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    text = text.replace("×10²", "\0")  # the only key longer than one character
    return "".join(_TEX["×10²"] if c == "\0" else _TEX.get(c, c) for c in text)


def _latex(measured: pd.DataFrame, published: pd.DataFrame, about: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(tex_escape(str(cell)) for cell in cells) + r" \\"

    width = measured.shape[1]
    lines = [
        r"% needs \usepackage{booktabs}",
        f"% {about}",
        rf"\begin{{tabular}}{{ll{'r' * (width - 2)}}}",
        r"\toprule",
        line(measured.columns),
        r"\midrule",
        *map(line, measured.to_numpy()),
        *(
            [
                r"\midrule",
                rf"\multicolumn{{{width}}}{{l}}{{\emph{{{tex_escape(PUBLISHED_HEADING)}}}}} \\",
                *map(line, published.to_numpy()),
            ]
            if len(published)
            else []
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def intervals_text(found: pd.DataFrame) -> str:
    """Intervals as Markdown: a row per method and setting, ≈ where the row above may be as good."""
    rows: dict[tuple, dict] = {}
    for line in found.itertuples():
        row = rows.setdefault((line.method, line.setting), {})
        name = HEADINGS.get(line.metric, line.metric)
        low, high = (_number(line.metric, end) for end in (line.low, line.high))
        mark = " ≈" if line.tie == "yes" else ""
        row[name] = f"{_number(line.metric, line.value)} [{low}, {high}]{mark}"
    table = pd.DataFrame(
        [{"method": key[0], "setting": key[1], **row} for key, row in rows.items()]
    ).fillna("")
    if table.empty:
        return f"Fewer than {intervals.FEWEST} samples say nothing about chance.\n"
    return (
        f"{intervals.LEVEL} % intervals from {intervals.N_HALVES} halves of samples and "
        "references; other seeds of a training are not in them. ≈: chance alone may make the "
        "difference to the row above.\n\n" + _markdown(table)
    )


def build(
    paths: Sequence[str | Path],
    out_dir: str | Path,
    kind: str = "shapes",
    halves: Sequence[str | Path] = (),
) -> None:
    """Write `metrics.csv`, `table2.csv`, `.md` and `.tex`, and `intervals.csv` and `.md`.

    Parameters
    ----------
    paths
        Long tables of metrics, in the order of the rows.
    out_dir
        Folder of the tables.
    kind
        Of the signals; the published rows are of shapes.
    halves
        What `nefgpt.evaluation.intervals.halves` found of each of them, for the intervals.
    """
    if not paths:
        raise InputError("no metrics are given")
    frames, seen = [], {}
    for path in paths:
        frame = read_metrics(path)
        for key in zip(*(frame[c] for c in ("method", "setting", "metric", "seed")), strict=True):
            if key in seen:
                raise InputError(f"{path}: {', '.join(key)} was already given by {seen[key]}")
            seen[key] = path
        frames.append(frame)
    metrics = pd.concat(frames, ignore_index=True).fillna("")
    check_extractors(metrics)
    table = table2(metrics, PUBLISHED if kind == "shapes" else ())
    summary = about(metrics)
    measured, published = _parts(table)
    out_dir = Path(out_dir)
    write_text(out_dir / "metrics.csv", metrics.to_csv(index=False))
    write_text(out_dir / "table2.csv", table.to_csv(index=False))
    text = f"## Measured\n\nMeasured here: {summary}\n\n{_markdown(measured)}\n"
    if len(published):
        text += f"## {PUBLISHED_HEADING}\n\n{PUBLISHED_NOTE}\n\n"
        text += _markdown(published)
    write_text(out_dir / "table2.md", text)
    if halves:
        found = [intervals.read_halves(Path(path)) for path in halves]
        spread = intervals.table(list(zip(frames, found, strict=True)))
        write_text(out_dir / "intervals.csv", spread.to_csv(index=False))
        write_text(out_dir / "intervals.md", intervals_text(spread))
    write_text(out_dir / "table2.tex", _latex(measured, published, summary))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `--metrics a.csv b.csv ... --out-dir D`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", nargs="+", required=True, help="in the order of the rows")
    parser.add_argument("--halves", nargs="+", default=(), help="of the same rows, for intervals")
    parser.add_argument("--out-dir", required=True)
    parser.add_argument("--kind", choices=list(KINDS), default="shapes")
    args = parser.parse_args(argv)
    build(args.metrics, args.out_dir, args.kind, args.halves)
