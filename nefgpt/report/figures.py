"""Figures and page of a run: `figures_of` lists what is drawn, and what is said of it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.kind import BOUNDS
from nefgpt.report import page, pictures, plots, results, viewer
from nefgpt.report.results import Run, Sample
from nefgpt.report.style import save

GALLERY_SIZE = 16
VIEWER_SAMPLES = 12
VIEWER_NEAREST = 4


class Drawing(NamedTuple):
    """One figure.

    Attributes
    ----------
    file : its name below `figures/`; the page shows it in the format of this suffix.
    caption : what the page says of it.
    draw : makes it.
    """

    file: str
    caption: str
    draw: Callable[[], Figure]


def figures_of(run: Run) -> list[Drawing]:
    """Every figure of a run, in the order of the page.

    Raises
    ------
    InputError
        naming a file that is missing or broken.
    """
    found = [
        Drawing(
            "metrics.svg",
            "The ladder of bounds: real training inputs, their fields and their quantised fields "
            "as samples show what each stage costs before any generator's row.",
            lambda: plots.metric_bars(run.metrics()),
        ),
        _ladder(run),
    ]
    for row in run.config.sampled:
        found += _of_samples(run, f"{row.method} {row.setting}", *row[:2])
    if run.labelled:
        found.append(
            Drawing(
                "accuracy.svg",
                "Share of the samples made for each class that a classifier trained on real "
                "inputs takes for it.",
                lambda: plots.class_accuracy(run.classes(), _accuracy(run)),
            )
        )
    if run.config.tuning:
        found.append(
            Drawing(
                "tuning.svg",
                f"Sampling settings of {run.config.tuning.model}, compared on the val split.",
                lambda: plots.tuning(run.tuning().apply(pd.to_numeric)),
            )
        )
    if run.config.regression:
        found += _of_regression(run)
    return [
        *found,
        Drawing(
            "losses.svg",
            "Loss of the transformers. Dashed: entropy of the codes' frequencies. Dotted: val at "
            "the temperature of the logits that suits each checkpoint; dot: its lowest point. The "
            "checkpoint that is kept is the last within one standard error of it.",
            lambda: _losses(run),
        ),
        Drawing(
            "tokens.svg",
            "Tokens of the train split, and the codebook.",
            lambda: _tokens(run),
        ),
        Drawing(
            "weights.svg",
            "Weights of all fields by layer, and their difference to the template.",
            lambda: _weights(run),
        ),
    ]


def _ladder(run: Run) -> Drawing:
    rows = {name: run.samples(name, "all") for name in BOUNDS}
    first, *others = rows.values()
    ids = [sample.shape_id for sample in first]
    if any([sample.shape_id for sample in row] != ids for row in others):
        raise InputError(
            f"{run.folder / 'samples'}: {' and '.join(rows)} hold different signals; delete them "
            "and run again"
        )
    distinct = [ids.index(name) for name in dict.fromkeys(ids)]
    count = min(pictures.columns_of(run.kind), len(distinct))
    chosen = [distinct[i] for i in np.linspace(0, len(distinct) - 1, count).astype(int)]
    shown = [(run.files.real, [run.real(ids[i]) for i in chosen])]
    shown += [(name, [row[i].shown for i in chosen]) for name, row in rows.items()]
    # Rows are called as in the tables, but all are of the train split.
    shown = [(name.replace("train-", "").replace("-", " "), row) for name, row in shown]
    title = f"Training {run.config.signals} and their fields"
    return Drawing(
        "ladder.png",
        f"Training {run.config.signals} as they are, as fields and as quantised fields.",
        lambda: pictures.ladder(run.kind, shown, [ids[i] for i in chosen], title),
    )


def _of_samples(run: Run, title: str, row: str, setting: str) -> list[Drawing]:
    """A gallery of one row of the table and, where there are classes, a sheet of them."""
    samples, signals = run.samples(row, setting), run.config.signals
    name = f"{row}@{setting}"  # no name may contain '@', so that no two figures share one
    classes: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.label is not None:
            classes.setdefault(sample.label, []).append(sample)
    classes = dict(sorted(classes.items()))
    if classes:
        some, neighbours = [found[0] for found in classes.values()][:GALLERY_SIZE], None
        which = f"of {len(samples)} samples the first of each class"
    else:
        some, neighbours = samples[:GALLERY_SIZE], 1
        which = f"the first {len(some)} of {len(samples)} samples"
    near = [[run.real(i) for i in sample.nearest[:neighbours]] for sample in some]
    distances = [sample.distance for sample in some]
    empty = sum(not sample.valid for sample in samples)
    drawn = [
        Drawing(
            f"gallery-{name}.png",
            f"{title}: {which} (not selected; empty, marked by a cross: {empty} of all) over their "
            f"nearest training {signals}, with the {run.kind.DISTANCE} ×10² to the nearest.",
            lambda: pictures.gallery(
                run.kind,
                [sample.shown for sample in some],
                near,
                distances,
                f"{title}: samples over their nearest training {signals}, {run.kind.DISTANCE} ×10²",
            ),
        )
    ]
    if classes:
        shown = {label: [sample.shown for sample in found] for label, found in classes.items()}
        drawn.append(
            Drawing(
                f"sheet-{name}.png",
                f"{title}: the first samples of each class.",
                lambda: pictures.sheet(run.kind, shown, f"{title}: samples by class"),
            )
        )
    return drawn


def _accuracy(run: Run) -> dict[int, float]:
    found = run.classifier()["accuracy % by class"]
    return {int(label): value for label, value in found.items()}


def _losses(run: Run) -> Figure:
    tokens, codes = run.tokens
    unigram = float(plots.entropy_bits(np.bincount(tokens.ravel(), minlength=len(codes))))
    return plots.loss_curves({model: run.losses(model) for model in run.config.gpt}, unigram)


def _tokens(run: Run) -> Figure:
    tokens, codes = run.tokens
    return plots.token_statistics(tokens, codes)


def _weights(run: Run) -> Figure:
    fields = run.fields
    layers = {name: (start, stop) for name, start, stop in fields.spec.slices}
    return plots.weight_histograms(fields.weights, layers, fields.template)


def _of_regression(run: Run) -> list[Drawing]:
    """Errors of the written fields, their images, and one signal fitted from two starts."""
    folder = run.folder / "regression"

    def errors() -> Figure:
        from nefgpt.report.regression import regression_figure  # loads PyTorch

        table = run.regression()
        numbers = table.columns.difference(["start", "loss"])
        table[numbers] = table[numbers].apply(pd.to_numeric)
        return regression_figure(table)

    def rollouts() -> Figure:
        from nefgpt.generators.regression import read_rollouts
        from nefgpt.report.regression import rollout_images

        return rollout_images(*read_rollouts(folder / "rollouts.npz"))

    def symmetry() -> Figure:
        from nefgpt.generators.regression import STARTS
        from nefgpt.report.regression import symmetry_figure

        near, far = (read_fields(folder / f"{start}.parquet") for start in STARTS)
        return symmetry_figure(near.spec, near.template, near.weights[0], far.weights[0])

    images = [
        Drawing("rollouts.png", "Fields above what the transformer wrote for them.", rollouts)
    ]
    return [
        Drawing(
            "regression.svg",
            "Fields written by the regression transformer from their first weight on, against how "
            "many it was trained on: fitted from one template (conditioned) or each from its own "
            "random start (unconditioned).",
            errors,
        ),
        *(images if run.config.field.in_dim == 2 else []),
        Drawing(
            "symmetry.png",
            "One signal fitted from the template and from a random start. Hidden units can be "
            "permuted without changing the function, so the second shares no weight with the "
            "template although it shows the same.",
            symmetry,
        ),
    ]


def _turned(run: Run) -> list[viewer.Mesh]:
    """Samples of the best setting, the first ones each before its nearest training signal."""
    row = results.best_setting(run)
    found, near = [], set()
    for sample in run.samples(*row)[:VIEWER_SAMPLES]:
        found.append(viewer.Mesh(f"{' '.join(row)}: sample {sample.number}", sample.shown))
        if sample.valid and sample.nearest[0] not in near and len(near) < VIEWER_NEAREST:
            name = sample.nearest[0]
            near.add(name)
            label = f"nearest training signal of sample {sample.number}: {name} "
            label += f"({run.kind.DISTANCE} ×10² {sample.distance:.2f})"
            found.append(viewer.Mesh(label, run.real(name)))
    return found


def page_of(run: Run) -> page.Page:
    """The page of a run whose figures are drawn."""
    folder = run.folder
    blocks = [
        ("Quality of the fits", results.fit_quality(run)),
        ("Tokenizer", results.tokenizer_quality(run)),
        ("Training", results.training(run)),
    ]
    if run.labelled:
        blocks.append(("Classifier", results.classifier_quality(run)))
    if run.config.regression:
        blocks.append(("Regression transformer", run.regression()))
    if run.config.tuning:
        blocks.append(("Search of sampling settings", run.tuning()))
    return page.Page(
        name=run.config.name,
        meshes=_turned(run) if run.files.suffix == ".ply" else [],
        table2=folder / "tables" / "table2.csv",
        metrics=folder / "tables" / "metrics.csv",
        blocks=blocks,
        figures=[(folder / "figures" / one.file, one.caption) for one in figures_of(run)],
        rejected=folder / "rejected.tsv",
        config=yaml.safe_dump(asdict(run.config), sort_keys=False, allow_unicode=True),
    )


def make_figures(folder: str | Path) -> None:
    """Draw every figure of a results folder into its `figures/`."""
    run = Run(folder)
    for one in figures_of(run):
        save(one.draw(), run.folder / "figures", Path(one.file).stem)


def make_report(folder: str | Path, out: str | Path) -> None:
    """Write the page of a results folder whose figures are drawn."""
    page.build(page_of(Run(folder)), out)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `figures --results R`, or `report --results R --out report.html`."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("figures", help="draw R/figures/")
    written = commands.add_parser("report", help="write the page; needs the figures")
    for command in (drawn, written):
        command.add_argument("--results", required=True, help="folder of one run")
    written.add_argument("--out", required=True, help="HTML file")
    args = parser.parse_args(argv)
    if args.command == "figures":
        make_figures(args.results)
    else:
        make_report(args.results, args.out)
