"""The page's gallery: samples of every row beside their nearest training signals, in numbers.

Pictures are small, and meshes reduced and packed; a page holds no more of them than `GEOMETRY`.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from nefgpt.base.files import read_table
from nefgpt.report import pictures, results, viewer
from nefgpt.report.results import Run, Sample
from nefgpt.signals import render
from nefgpt.signals.kind import Shown
from nefgpt.signals.shapes import mesh_of

SAMPLES = 64  # of all rows together, half of them of the best, where each has a mesh
PICTURES = 256  # where none has
FIRST = 8  # samples, and training signals, that head the page
SIDE = 160  # pixels across of a picture of a mesh
GEOMETRY = 4_000_000  # characters of packed meshes on one page


class Signal(NamedTuple):
    """A signal of the page.

    Attributes
    ----------
    picture : a data URL; None where there is nothing to see.
    mesh : what `viewer.embed_mesh` gives; None where there is none, or no room for it.
    """

    picture: str | None
    mesh: dict | None


class Gallery(NamedTuple):
    """What the page shows of samples.

    Attributes
    ----------
    title : of the row whose samples head the page.
    first, train : samples of that row, by their number in `data`, and training signals, by id.
    notes : what is to be said of the row.
    aspect : width of a picture over its height.
    data : see `viewer.js`.
    """

    title: str
    first: list[int]
    train: list[str]
    notes: list[str]
    aspect: float
    data: dict


def _url(image: np.ndarray) -> str:
    """A picture, RGBA uint8, as a data URL."""
    target = io.BytesIO()
    few = image.shape[1] < 100  # pixels drawn as squares stay squares
    Image.fromarray(image).save(target, "WEBP", lossless=few, quality=80, method=2)
    return f"data:image/webp;base64,{base64.b64encode(target.getvalue()).decode()}"


def _of_meshes(wanted: Sequence[Shown]) -> tuple[list[np.ndarray | None], list[dict | None]]:
    """Pictures of reduced meshes, in one scale, and these, packed."""
    meshes = [viewer.reduced(*mesh_of(one)) for one in wanted]
    # Stray parts of samples would make all others small; they are cut off.
    inputs = [mesh for one, mesh in zip(wanted, meshes, strict=True) if one.decoded is None]
    half, room, packed = 1.1 * render.common_half_extent(inputs), GEOMETRY, []
    for mesh in meshes:
        packed.append(viewer.embed_mesh(*mesh))
        room -= len(packed[-1]["data"]) if packed[-1] else 0
        packed[-1] = packed[-1] if room >= 0 else None
    images = [
        # Input meshes may be open.
        render.render(*mesh, SIDE, half_extent=half, tint_back=one.decoded is not None)
        for one, mesh in zip(wanted, meshes, strict=True)
    ]
    return images, packed


def _signals(run: Run, wanted: Sequence[Shown]) -> tuple[dict[Shown, Signal], float]:
    """What the page shows of signals, and width over height of their pictures."""
    if run.files.suffix == ".ply":
        images, meshes = _of_meshes(wanted)
    else:
        images, meshes = run.kind.pictures(wanted, run.kind.SIDE), [None] * len(wanted)
    down, across = pictures.trimmed([image for image in images if image is not None])
    urls = [image if image is None else _url(image[down, across]) for image in images]
    found = {one: Signal(*both) for one, *both in zip(wanted, urls, meshes, strict=True)}
    height, width = next(i[down, across].shape[:2] for i in images if i is not None)
    return found, round(width / height, 3)


def shares(rows: Sequence[tuple[str, str]], best: tuple[str, str], total: int) -> dict:
    """How many samples of each row are listed: half of all are of the best, listed first."""
    others = [row for row in rows if row != best]
    first = total - total // 2 if others else total
    return {best: first} | {row: max(1, total // 2 // len(others)) for row in others}


def _facts(run: Run, row: tuple[str, str], shown: Sequence[Sample]) -> list[list[tuple]]:
    """What numbers of samples are called, and the numbers."""
    columns = read_table(run.folder / "samples" / row[0] / row[1] / "samples.csv", ["sample"])
    more = [name for name in columns if name not in ("sample", "shape_id", "label", "valid")]
    tokens = run.sample_tokens(*row) if run.has_tokens(*row) else None
    near, median = run.unseen
    found = []
    for sample in shown:
        facts: dict = {}
        if sample.valid:
            facts[f"{run.kind.DISTANCE} ×10² to the nearest"] = f"{sample.distance:.2f}"
            facts["novelty (1: as unseen inputs)"] = f"{sample.distance / median:.2f}"
            facts["a copy (nearer than any unseen input)"] = (
                "yes" if sample.distance < near else "no"
            )
        for name in more:
            facts[name.removeprefix("n_").replace("_", " ")] = columns[name][sample.number]
        if tokens is not None:
            facts["tokens"] = " ".join(map(str, tokens[sample.number][:64]))
            facts["tokens"] += " …" if tokens.shape[1] > 64 else ""
        found.append([(name, value) for name, value in facts.items() if value != ""])
    return found


def _notes(run: Run, best: tuple[str, str], samples: Sequence[Sample]) -> list[str]:
    """Numbers of the row that heads the page, and which row has a better 1-NNA."""
    values = {tuple(found[:3]): found[3] for found in run.intervals().itertuples(index=False)}
    row = {name: value for (*key, name), value in values.items() if tuple(key) == best}
    shown = [f"{name.replace(' %', '')} {row[name]:.3g}{' %' * name.endswith('%')}"
             for name in ("1-NNA %", "COV %", "novelty", "copies %") if name in row]  # fmt: skip
    empty = sum(not sample.valid for sample in samples)
    notes = [", ".join(shown) + f"; {empty} of {len(samples)} samples are empty."]
    for line in run.lines:
        key = (line.method, line.setting, "1-NNA %")
        if line.role == "bound" or key not in values:
            continue
        if abs(values[key] - 50) < abs(row["1-NNA %"] - 50):
            how = "train fields with noise" if line.method == "noise" else "without a transformer"
            how = "means of two train fields" if line.method == "averages" else how
            notes.append(f"But {line.label} ({how}) scores {values[key]:.3g} %.")
    return notes


def gallery_of(run: Run, total: int | None = None) -> Gallery:
    """What the page shows of the samples of a run.

    Parameters
    ----------
    total : how many samples, of all rows together; None: `SAMPLES`, or `PICTURES`.
    """
    if total is None:
        total = SAMPLES if run.files.suffix == ".ply" else PICTURES
    best = results.best_setting(run)
    rows = shares([row[:2] for row in run.config.sampled], best, total)
    listed = {row: run.samples(*row) for row in rows}
    notes = _notes(run, best, listed[best])
    listed = {row: found[: rows[row]] for row, found in listed.items()}
    ids = [run.fields.shape_ids[i] for i in run.fields.of_split("train")]
    train = [ids[i] for i in np.linspace(0, len(ids) - 1, min(FIRST, len(ids))).astype(int)]
    real = {name: run.real(name) for name in train}
    wanted: dict[Shown, None] = dict.fromkeys(real.values())
    for found in listed.values():
        for sample in found:
            for name in sample.nearest[:1]:
                real[name] = run.real(name)
            wanted |= dict.fromkeys([sample.shown, *(real[n] for n in sample.nearest[:1])])
    signals, aspect = _signals(run, list(wanted))
    samples = [
        {
            "row": place,
            "number": sample.number,
            "label": sample.label,
            "distance": round(sample.distance, 4) if sample.valid else None,
            "copy": bool(sample.valid and sample.distance < run.unseen[0]),
            "near": sample.nearest[0] if sample.nearest else None,
            "facts": facts,
            **signals[sample.shown]._asdict(),
        }
        for place, (row, found) in enumerate(listed.items())
        for sample, facts in zip(found, _facts(run, row, found), strict=True)
    ]
    data = {
        "rows": [" ".join(row) for row in listed],
        "distance": f"{run.kind.DISTANCE} ×10²",
        "signals": run.config.signals,
        "train": {name: signals[one]._asdict() for name, one in real.items()},
        "samples": samples,
    }
    first = list(range(min(FIRST, len(listed[best]))))
    return Gallery(" ".join(best), first, train, notes, aspect, data)
