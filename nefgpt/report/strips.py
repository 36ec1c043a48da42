"""Fields that no stage decodes: the worst fits, between two fields, while one is being written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from nefgpt.generators.gpt.tokenizer import Tokenizer
from nefgpt.report import pictures
from nefgpt.report.results import Run
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import Shown

RESOLUTION = 96  # of surfaces: a picture shows no more
STEPS = 7  # from one field to the other
PAIRS = 2
WRITTEN = 2  # samples


class Opened(NamedTuple):
    """Fields, decoded for a figure.

    Attributes
    ----------
    shown : a file of each, which an empty field lacks.
    compared : what the metrics compare of each [n, ...]; NaN of an empty one.
    """

    shown: list[Shown]
    compared: np.ndarray


def opened(run: Run, weights: np.ndarray, folder: Path) -> Opened:
    """Decode fields [n, W] into a folder."""
    settings = run.config.extract
    settings = dataclasses.replace(settings, resolution=min(RESOLUTION, settings.resolution))
    size = run.kind.COMPARED
    if size is None:
        size = run.kind.real(load_signal(run.real(run.fields.shape_ids[0]).signal)).shape
    shown, compared = [], np.full((len(weights), *size), np.nan, np.float32)
    for i, field in enumerate(weights):
        path = folder / f"{i}{run.files.suffix}"
        found = run.kind.decode(run.fields.spec, field, settings, 0, size)
        if found.save is not None:
            found.save(path)
            compared[i] = found.compared
        shown.append(Shown(path))
    return Opened(shown, compared)


def between(run: Run) -> Figure:
    """Fields on the straight line from one field of the train split to another, row by row."""
    fields = run.fields
    train = fields.of_split("train")
    count = min(2 * PAIRS, len(train) // 2 * 2)
    ends = train[np.linspace(0, len(train) - 1, count).astype(int)].reshape(-1, 2)
    share = np.linspace(0, 1, STEPS)[:, None]
    # Weights are linear in the coefficients, so the line is the same in both.
    weights = [fields.weights[a] * (1 - share) + fields.weights[b] * share for a, b in ends]
    with TemporaryDirectory() as folder:
        found = opened(run, np.concatenate(weights).astype(np.float32), Path(folder)).shown
        rows: list[tuple[str, list]] = []
        for i in range(len(ends)):
            rows.append((f"pair {i + 1}", found[i * STEPS : (i + 1) * STEPS]))
        heads = ["one field", *(f"{100 * s:.0f} %" for s in share[1:-1, 0]), "another"]
        return pictures.strips(run.kind, rows, {}, heads, "Between two fields of the train split")


def lengths(total: int, most: int) -> list[int]:
    """How many tokens are written in each picture: 0, 1, 2, 4, ..., both 7 and 8, and all."""
    found = {0, total} | {min(2**i, total) for i in range(total.bit_length())}
    if total > 8:
        found.add(7)
    ordered = sorted(found)
    if len(ordered) > most:  # the ends, and as many of the others as fit
        ordered = [ordered[i] for i in np.linspace(0, len(ordered) - 1, most).astype(int)]
    return ordered


def prefixes(tokenizer: Tokenizer, tokens: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Fields [len(counts), W] of the first tokens of one sequence [L].

    The mean of the train fields stands in for coefficients that are not written yet (of scalar
    codes the template for weights).
    """
    scores = np.repeat(tokenizer.codes[tokens][None], len(counts), axis=0)
    for row, count in zip(scores, counts, strict=True):
        row[count:] = 0
    return tokenizer.from_scores(scores)


def written(run: Run, row: tuple[str, str]) -> Figure:
    """Samples of one row after ever more of their tokens, each with its distance to the last."""
    tokenizer, tokens = run.tokenizer, run.sample_tokens(*row)
    some = range(min(WRITTEN, len(tokens)))
    counts = lengths(tokenizer.sequence_length, pictures.columns_of(run.kind))
    weights = [prefixes(tokenizer, tokens[i], counts) for i in some]
    with TemporaryDirectory() as folder:
        found = opened(run, np.concatenate(weights), Path(folder))
        rows, notes = [], {}
        for r, number in enumerate(some):
            part = slice(r * len(counts), (r + 1) * len(counts))
            rows.append((f"sample {number}", found.shown[part]))
            compared = found.compared[part]
            apart = 100 * run.kind.distances(compared, compared[-1:])[:, 0]
            for c, distance in enumerate(apart[:-1]):
                notes[r, c] = f"{distance:.2f}" if np.isfinite(distance) else "empty"
        heads = [f"{count} token{'' if count == 1 else 's'}" for count in counts]
        title = f"While the sequence is written: {' '.join(row)}"
        return pictures.strips(run.kind, rows, notes, heads, title)


def worst(run: Run, ids: Sequence[str], values: Sequence[str], title: str) -> Figure:
    """Signals above their fields and their quantised fields, with a number below each."""
    rows = [run.fields.shape_ids.index(name) for name in ids]
    weights = run.fields.weights[rows]
    quantised = run.tokenizer.decode(run.token_table.tokens[rows])
    with TemporaryDirectory() as folder:
        found = opened(run, np.concatenate([weights, quantised]), Path(folder)).shown
        shown = [(run.files.real.replace("train-", ""), [run.real(name) for name in ids])]
        shown += [("fields", found[: len(ids)]), ("quantised fields", found[len(ids) :])]
        notes = {(2, c): value for c, value in enumerate(values)}
        return pictures.strips(run.kind, shown, notes, ids, title)
