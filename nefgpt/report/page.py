"""The page of a finished run: gathers what it shows and puts it into `page.html`."""

import base64
import importlib.metadata
import io
import platform
import re
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_table, write_text
from nefgpt.evaluation import tables
from nefgpt.evaluation.tables import HEADINGS
from nefgpt.report.gallery import Gallery

FOLDER = Path(__file__).parent
PACKAGES = (
    "nefgpt torch numpy numba scipy pandas pyarrow safetensors scikit-learn trimesh PyMCubes "
    "libigl manifold3d matplotlib jinja2 snakemake"
).split()
_SCRIPTS = "viewer", "page"
_IMAGE_TYPES = {".png": "image/webp", ".svg": "image/svg+xml"}
_CAUTION = (
    f"{tables.PUBLISHED_NOTE} Published values come from other data, budgets and feature "
    "extractors; they are not to be ranked against the measured rows."
)


class Column(NamedTuple):
    """One column of a table, as the page shows it."""

    heading: str
    cells: list[str]
    numeric: bool
    # What each number lacks of the longest one from the decimal point on; it takes up the room.
    padding: list[str]


class Block(NamedTuple):
    """A table with its title and what is to be said of it."""

    title: str
    columns: list[Column]
    note: str = ""


class Page(NamedTuple):
    """What the page of a run shows.

    Attributes
    ----------
    name : of the run.
    gallery : its samples.
    table2, metrics : CSV files of `nefgpt.evaluation.tables.build`.
    intervals : rows of the table of intervals, and what they are; none where none were measured.
    blocks : title and rows of each further table.
    figures : image file and caption of each figure.
    more_figures : names of files that the page does not show.
    rejected : TSV file of inputs left out.
    config : the configuration, YAML.
    """

    name: str
    gallery: Gallery
    table2: Path
    metrics: Path
    intervals: tuple[list[dict], str]
    blocks: list[tuple[str, pd.DataFrame | list[dict]]]
    figures: list[tuple[Path, str]]
    more_figures: list[str]
    rejected: Path
    config: str


class Picture(NamedTuple):
    """A figure: the image as a data URL, its caption, and what stands for it where none shows."""

    source: str
    caption: str
    alternative: str


def _shown(value: object) -> str:
    """Text of a cell, long decimals shortened."""
    text = "" if value is None else str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    if np.isnan(number):
        return "–"
    if np.isinf(number):
        return "∞" if number > 0 else "-∞"
    return f"{number:.4g}" if re.search(r"\.\d{4}|e", text) else text


def _column(name: str, values: list) -> Column:
    cells = [_shown(value) for value in values]
    numbers = [re.fullmatch(r"(?:[+-]?(?:\d+|∞)|–)((?:[.e ].*)?)", cell) for cell in cells]
    numeric = any(numbers) and not any(c and not n for c, n in zip(cells, numbers, strict=True))
    tails = [found[1] if found and numeric else "" for found in numbers]
    longest = max(tails, key=len, default="")
    heading = HEADINGS.get(name, name.replace("_", " "))
    return Column(heading, cells, numeric, [longest[len(tail) :] for tail in tails])


def columns_of(rows: pd.DataFrame | list[dict]) -> list[Column]:
    """Columns of a table, in their order, without those that are empty."""
    frame = pd.DataFrame(rows, dtype=object)
    frame = frame.loc[:, (frame != "").any()]
    return [_column(str(name), frame[name].tolist()) for name in frame]


def sample_metrics(
    table: str | Path, metrics: str | Path, intervals: tuple[list[dict], str] = ([], "")
) -> list[Block]:
    """Table 2, measured and published rows apart, how many samples it compares, and intervals.

    Parameters
    ----------
    table, metrics : table2.csv and metrics.csv of `nefgpt.evaluation.tables.build`.
    intervals : rows, and what they are.
    """
    frame = read_table(table, ["method", "setting", "source"])
    compared = tables.about(tables.read_metrics(metrics))
    blocks = []
    for title, source, note in (
        ("Measured here", "measured", compared),
        ("Published", "published", _CAUTION),
    ):
        part = frame[frame["source"] == source].drop(columns="source")
        if len(part):
            blocks.append(Block(title, columns_of(part), note))
    rows, about = intervals
    if rows:
        about += ". ≈: chance alone may make the difference to the row above."
        blocks.insert(1, Block("Measured here, with intervals", columns_of(rows), about))
    return blocks


def _rejected(path: str | Path) -> list[Column]:
    """Inputs left out; their ids may look like numbers."""
    frame = read_table(path, ["shape_id", "reason"], separator="\t")
    padding = [""] * len(frame)
    return [Column(name.replace("_", " "), [*frame[name]], False, padding) for name in frame]


def _picture(path: str | Path, caption: str) -> Picture:
    """A figure; bitmaps are made a quarter of their size, which nobody sees."""
    path = Path(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".png":
            target = io.BytesIO()
            Image.open(io.BytesIO(data)).convert("RGB").save(target, "WEBP", quality=85, method=1)
            data = target.getvalue()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; run the figures' stage again") from error
    source = f"data:{_IMAGE_TYPES[path.suffix]};base64,{base64.b64encode(data).decode()}"
    return Picture(source, caption, caption.split(". ")[0].rstrip("."))


def _versions() -> list[Column]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of the rules' environment, which has neither Snakemake nor an installation
    versions = [*found.values()]
    return [
        Column("package", [*found], False, [""] * len(found)),
        Column("version", versions, False, [""] * len(found)),
    ]


def build(page: Page, out: str | Path) -> None:
    """Write the page, an HTML file.

    Raises
    ------
    InputError
        naming a file that is missing or broken.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("page.html").render(
        name=page.name,
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        scripts=[(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS],
        gallery=page.gallery,
        turning=any(sample["mesh"] for sample in page.gallery.data["samples"]),
        labels=sorted({sample["label"] for sample in page.gallery.data["samples"]} - {None}),
        sample_metrics=sample_metrics(page.table2, page.metrics, page.intervals),
        blocks=[Block(title, columns_of(rows)) for title, rows in page.blocks],
        pictures=[_picture(*entry) for entry in page.figures],
        more_figures=page.more_figures,
        rejected=_rejected(page.rejected),
        config=page.config,
        versions=_versions(),
    )
    write_text(out, text)
