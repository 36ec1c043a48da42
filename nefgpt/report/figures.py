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
from nefgpt.report import comparison, gallery, likelihood, page, pictures, plots, results, strips
from nefgpt.report.results import Run, Sample
from nefgpt.report.style import save

GALLERY_SIZE = 16


class Drawing(NamedTuple):
    """One figure.

    Attributes
    ----------
    file : its name below `figures/`, of the format that the page shows: .png of pictures, which
        no PDF is written of.
    caption : what the page says of it.
    draw : makes it.
    on_page : whether the page shows it; its gallery shows what galleries do.
    """

    file: str
    caption: str
    draw: Callable[[], Figure]
    on_page: bool = True


def figures_of(run: Run) -> list[Drawing]:
    """Every figure of a run, in the order of the page.

    Raises
    ------
    InputError
        naming a file that is missing or broken.
    """
    found = [*_of_rows(run), _ladder(run), *_of_fits(run), *_of_fields(run)]
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
            "likelihood.svg",
            "Bits that each density of the train fields needs for the codes of a field of the val "
            "split, fewer is better; bars are one standard error. Dotted: a kernel density, which "
            "is noise on train fields. Plain: as the generator draws; calibrated: with the setting "
            "that suits the split best, chosen for every field from all the others.",
            lambda: likelihood.bars(run.likelihood()),
        ),
        Drawing(
            "positions.svg",
            "What each place of the sequence costs the transformers on the val split, by the kept "
            "checkpoint at its temperature; bands are one standard error. Grey: what it costs to "
            "know only how often codes stand at that place in the train split"
            " (of sequences up to 256).",
            lambda: _positions(run),
        ),
        Drawing(
            "losses.svg",
            "Loss of the transformers. Dashed, grey: entropy of the codes' frequencies. Dotted: "
            "val at the temperature of the logits that suits each checkpoint; mark: its lowest "
            "point. The checkpoint that is kept is the last within one standard error of it.",
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


def _of_rows(run: Run) -> list[Drawing]:
    """The rows of the table as charts."""
    interval = f"Bars: {run.interval}."
    return [
        Drawing(
            "plane.svg",
            "Quality against novelty. Each row of the table stands where its samples are: down is "
            "nearer to what real inputs score, left of 1 are samples nearer to the training set "
            f"than unseen real inputs are. A model that only memorises stands at 0. {interval}",
            lambda: comparison.plane(run.intervals(), run.lines),
        ),
        Drawing(
            "metrics.svg",
            "The ladder of bounds: real training inputs, their fields and their quantised fields "
            "as samples show what each stage costs before any generator's row. "
            f"Dashed: the best value. {interval}",
            lambda: comparison.ladder_chart(run.intervals(), run.lines),
        ),
    ]


def _measured(run: Run) -> list[tuple[str, str, bool, dict[str, np.ndarray]]]:
    """Measures that are taken before and after quantisation: their names, titles and values."""
    fields, table = run.fields, run.token_table
    found = []
    for name in run.kind.KEPT:
        about = run.kind.QUALITY[name]
        values = {"field": fields.measures[name], "quantised": table.measures[f"{name}_quantised"]}
        values = {what: numbers.astype(float) for what, numbers in values.items()}
        found.append((name, about.title, about.worst < 0.5, values))
    return found


def _of_fits(run: Run) -> list[Drawing]:
    """How well fields keep their signals: by signal, and the worst of them."""
    if not run.kind.KEPT:
        return []
    title = run.kind.QUALITY[run.kind.KEPT[-1]].title
    return [
        Drawing(
            "fits.svg",
            "How well each field, and what quantisation leaves of it, keeps its signal, worst "
            "first; the worst of the train split are named.",
            lambda: _fits(run),
        ),
        Drawing(
            "worst.png",
            f"The worst of all fits by {title}: {run.config.signals}, their fields and their "
            f"quantised fields, with the {title} of the field → of the quantised field.",
            lambda: _worst(run),
        ),
    ]


def _fits(run: Run) -> Figure:
    """Train and val fields and, where `evaluation.fits` has made them, those of test signals."""
    tests, panels = run.test_fits(), []
    parts = {what: tests[tests["what"] == what] for what in ("field", "quantised")}
    for name, title, low_is_bad, values in _measured(run):
        both = {
            what: np.concatenate([numbers, parts[what][name]]) for what, numbers in values.items()
        }
        panels.append((title, low_is_bad, both))
    splits = [*run.fields.splits, *["test"] * len(parts["field"])]
    return plots.fits_by_shape(panels, run.fields.shape_ids, splits)


def _worst(run: Run) -> Figure:
    *_, (_, title, low_is_bad, values) = _measured(run)
    worth = values["field"] if low_is_bad else -values["field"]
    order = np.argsort(np.where(np.isfinite(worth), worth, -np.inf), kind="stable")
    order = order[: pictures.columns_of(run.kind)]
    numbers = [
        f"{run.fields.splits[i]}, {values['field'][i]:.3g} → {values['quantised'][i]:.3g}"
        for i in order
    ]
    ids = [run.fields.shape_ids[i] for i in order]
    return strips.worst(run, ids, numbers, f"The worst fits by {title}")


def _of_fields(run: Run) -> list[Drawing]:
    """What lies between two fields, and what a sample is while its tokens are written."""
    return [
        Drawing(
            "interpolation.png",
            "Between two fields of the train split, chosen by their place in it: decoded at equal "
            "steps of the straight line between their coefficients.",
            lambda: strips.between(run),
        ),
        Drawing(
            "written.png",
            "The first samples of the transformer's best row while their sequences are written: "
            "after so many tokens, the mean of the train fields standing in for every coefficient "
            "(with scalar codes the template for every weight) that is not written yet. Below: "
            f"{run.kind.DISTANCE} ×10² to the finished sample.",
            lambda: strips.written(run, results.best_setting(run, with_tokens=True)),
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
            on_page=False,
        )
    ]
    if classes:
        shown = {label: [sample.shown for sample in found] for label, found in classes.items()}
        drawn.append(
            Drawing(
                f"sheet-{name}.png",
                f"{title}: the first samples of each class.",
                lambda: pictures.sheet(run.kind, shown, f"{title}: samples by class"),
                on_page=False,
            )
        )
    return drawn


def _accuracy(run: Run) -> dict[int, float]:
    found = run.classifier()["accuracy % by class"]
    return {int(label): value for label, value in found.items()}


def _positions(run: Run) -> Figure:
    from nefgpt.report import positions  # loads PyTorch

    tokens = run.folder / "tokens.parquet"
    bits = {
        model: positions.held_out_bits(run.folder / "gpt" / model, tokens)
        for model in run.config.gpt
    }
    n_codes = len(run.tokenizer.codes)
    return positions.per_position(bits, positions.alone(tokens), n_codes)


def _train_tokens(run: Run) -> np.ndarray:
    table = run.token_table
    return table.tokens[table.of_split("train")]


def _losses(run: Run) -> Figure:
    counts = np.bincount(_train_tokens(run).ravel(), minlength=len(run.tokenizer.codes))
    unigram = float(plots.entropy_bits(counts))
    return plots.loss_curves({model: run.losses(model) for model in run.config.gpt}, unigram)


def _tokens(run: Run) -> Figure:
    return plots.token_statistics(_train_tokens(run), run.tokenizer.codes)


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


def page_of(run: Run, samples: int | None = None) -> page.Page:
    """The page of a run whose figures are drawn, with so many samples of all rows together."""
    folder, drawings = run.folder, figures_of(run)
    blocks = [
        ("Quality of the fits", results.fit_quality(run)),
        ("Tokenizer", results.tokenizer_quality(run)),
        ("Training", results.training(run)),
        ("Held-out likelihood", likelihood.rows_of(run.likelihood())),
    ]
    if run.labelled:
        blocks.append(("Classifier", results.classifier_quality(run)))
    if doubts := results.doubtful(run):
        blocks.append(("Doubtful inputs", doubts))
    if run.config.regression:
        blocks.append(("Regression transformer", run.regression()))
    if run.config.tuning:
        blocks.append(("Search of sampling settings", run.tuning()))
    return page.Page(
        name=run.config.name,
        gallery=gallery.gallery_of(run, samples),
        table2=folder / "tables" / "table2.csv",
        metrics=folder / "tables" / "metrics.csv",
        intervals=(run.interval_rows(), run.interval),
        blocks=blocks,
        figures=[(folder / "figures" / one.file, one.caption) for one in drawings if one.on_page],
        more_figures=[Path(one.file).stem for one in drawings if not one.on_page],
        rejected=folder / "rejected.tsv",
        config=yaml.safe_dump(asdict(run.config), sort_keys=False, allow_unicode=True),
    )


def make_figures(folder: str | Path) -> None:
    """Draw every figure of a results folder into its `figures/`."""
    run = Run(folder)
    for one in figures_of(run):
        kinds = (".svg", ".png") if one.file.endswith(".png") else (".svg", ".pdf", ".png")
        save(one.draw(), run.folder / "figures", one.file[:-4], kinds)


def make_report(folder: str | Path, out: str | Path, samples: int | None = None) -> None:
    """Write the page of a results folder whose figures are drawn."""
    page.build(page_of(Run(folder), samples), out)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `figures --results R`, or `report --results R --out report.html`."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("figures", help="draw R/figures/")
    written = commands.add_parser("report", help="write the page; needs the figures")
    for command in (drawn, written):
        command.add_argument("--results", required=True, help="folder of one run")
    written.add_argument("--out", required=True, help="HTML file")
    written.add_argument(
        "--samples",
        type=int,
        help=f"of all rows together, {gallery.SAMPLES} of shapes and {gallery.PICTURES} of images",
    )
    args = parser.parse_args(argv)
    if args.command == "figures":
        make_figures(args.results)
    else:
        make_report(args.results, args.out, args.samples)
