"""What the figures and the report of a run show, found in its results folder."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, read_table
from nefgpt.config import Config, validate
from nefgpt.evaluation import tables
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.kind import TRAINED
from nefgpt.report import figures, page, present_images, sheets
from nefgpt.signals.table import read_shapes

GALLERY_SIZE = 16
LADDER_SIZE = figures.LADDER_COLUMNS
VIEWER_SAMPLES = 12
VIEWER_NEAREST = 4
TUNING = "tables/tuning.csv"


def _config(results: Path) -> Config:
    return validate(read_json(results / "config.json"))


def _sources(results: Path) -> dict[str, str]:
    """Shape id to its input mesh's path.

    The table's are relative to where Snakemake ran, which has the results in results/NAME.
    """
    ran = results.absolute().parent.parent
    rows = read_shapes(results / "shapes.parquet")
    return {row["shape_id"]: str(ran / row["source_path"]) for row in rows}


def _source(sources: dict[str, str], shape_id: str, results: Path) -> str:
    if shape_id not in sources:
        raise InputError(f"{results / 'shapes.parquet'} has no shape {shape_id!r}; run again")
    if not Path(sources[shape_id]).is_file():
        raise InputError(f"{sources[shape_id]}, the mesh of {shape_id}: there is no such file")
    return sources[shape_id]


def samples_of(results: Path, row: str, setting: str) -> pd.DataFrame:
    """Samples of one row of the ladder, in order.

    Returns
    -------
    pandas.DataFrame
        `shape_id`, `valid`, `path` of the mesh (of no file when invalid), `nearest` (a train
        shape's id, empty when invalid) and `distance` (Chamfer × 100, NaN when invalid).
    """
    folder = results / "samples" / row / setting
    surfaces = read_table(folder / "samples.csv", ["sample", "shape_id", "valid"])
    nearest = read_table(folder / "nearest.csv", ["sample", "valid", "nearest_1", "distance_x100"])
    for column in ("sample", "valid"):
        if surfaces[column].tolist() != nearest[column].tolist():
            raise InputError(
                f"{folder / 'nearest.csv'} and {folder / 'samples.csv'} differ in {column!r}; "
                "delete them and run again"
            )
    frame = pd.DataFrame(
        {
            "sample": surfaces["sample"],
            "shape_id": surfaces["shape_id"],
            "valid": surfaces["valid"].str.lower() == "true",
            "path": [str(folder / "meshes" / f"{i}.ply") for i in surfaces["sample"]],
            "nearest": nearest["nearest_1"],
            "distance": pd.to_numeric(nearest["distance_x100"], errors="coerce"),
        }
    )
    # Only a sample known to have no surface may lack its mesh.
    for path in frame["path"][frame["valid"]]:
        if not Path(path).is_file():
            raise InputError(f"{path}: there is no such file; delete {folder} and run again")
    return frame


def _gallery(results: Path, row: str, setting: str, sources: dict[str, str]) -> dict:
    samples = samples_of(results, row, setting)[:GALLERY_SIZE]
    return {
        "name": _gallery_name(row, setting),
        "title": f"{row} {setting}: samples",
        "samples": samples["path"].tolist(),
        "nearest": [
            _source(sources, entry.nearest, results) if entry.valid else None
            for entry in samples.itertuples()
        ],
        "distances": (samples["distance"].where(samples["valid"]) / 100).tolist(),
    }


def _gallery_name(row: str, setting: str) -> str:
    return f"{row}@{setting}"  # no name may contain '@', so that no two galleries share one


def _ladder(results: Path, sources: dict[str, str]) -> list[dict]:
    fields = samples_of(results, "train-fields", "all")
    quantised = samples_of(results, "quantised-train-fields", "all")
    if fields["shape_id"].tolist() != quantised["shape_id"].tolist():
        raise InputError(
            f"{results / 'samples'}: train-fields and quantised-train-fields hold different "
            "shapes; delete both and run again"
        )
    distinct = np.flatnonzero(~fields["shape_id"].duplicated())
    chosen = distinct[
        np.linspace(0, len(distinct) - 1, min(LADDER_SIZE, len(distinct))).astype(int)
    ]
    return [
        {
            "shape_id": fields["shape_id"][i],
            "mesh": _source(sources, fields["shape_id"][i], results),
            "field": fields["path"][i],
            "quantised": quantised["path"][i],
        }
        for i in chosen
    ]


def figure_spec(results: str | Path) -> dict:
    """What `figures.make_all` draws for a results folder."""
    results = Path(results)
    config = _config(results)
    common = {
        "tokens": str(results / "tokens.parquet"),
        "codebook": str(results / "codebook.safetensors"),
        "weights": str(results / "weights.parquet"),
        "losses": {model: str(results / "gpt" / model / "losses.csv") for model in config.gpt},
        "metrics": str(results / "tables" / "metrics.csv"),
    }
    if config.dataset.images:
        return common
    sources = _sources(results)
    return common | {
        "extent": config.sdf.extent,
        "galleries": [_gallery(results, *row[:2], sources) for row in config.sampled],
        "ladder": _ladder(results, sources),
    }


def make_figures(results: str | Path) -> None:
    """Draw every figure of a results folder into its `figures/`."""
    results, out_dir = Path(results), Path(results) / "figures"
    config = _config(results)
    figures.make_all(figure_spec(results), out_dir)
    if config.dataset.images:
        rows, sampled = ([row[:2] for row in some] for some in (config.rows, config.sampled))
        present_images.make_figures(results, rows, sampled, out_dir)
    if config.tuning:
        figures.save(sheets.tuning(_tuning(results)), out_dir, "tuning")
    if config.regression:
        _draw_regression(results / "regression", out_dir)


def _draw_regression(folder: Path, out_dir: Path) -> None:
    """Errors of the written fields, their images, and one signal fitted from two starts."""
    from nefgpt.generators.regression import STARTS, read_rollouts
    from nefgpt.report import regression  # loads PyTorch, which no other figure needs

    table = read_table(folder / "regression.csv", ["n_fields", "start", "psnr"])
    numbers = table.columns.difference(["start", "loss"])
    table[numbers] = table[numbers].apply(pd.to_numeric)
    figures.save(regression.regression_figure(table), out_dir, "regression")
    spec, rollouts = read_rollouts(folder / "rollouts.npz")
    if spec.in_dim == 2:
        drawn = regression.rollout_images(spec, rollouts)
        figures.save(drawn, out_dir, "rollouts")
    near, far = (read_fields(folder / f"{start}.parquet") for start in STARTS)
    figure = regression.symmetry_figure(spec, near.template, near.weights[0], far.weights[0])
    figures.save(figure, out_dir, "symmetry")


def _tuning(results: Path) -> pd.DataFrame:
    frame = read_table(results / TUNING, ["top_k", "top_p", "temperature", "guidance"])
    return frame.apply(pd.to_numeric)


# Column of weights.parquet to its title and the quantile where bad fits are.
_MEASURES = {
    "iou": ("IoU", 0.05),
    "iou_near": ("IoU near the surface", 0.05),
    "chamfer": ("Chamfer ×10²", 0.95),
    "f_score": ("F-score at 1 %", 0.05),
    "psnr": ("PSNR (dB)", 0.05),
    "ssim": ("SSIM", 0.05),
}


def _fit_quality(results: Path) -> list[dict]:
    """A column per split: how many fields, and how well they keep their shapes."""
    fields = read_fields(results / "weights.parquet")
    columns: dict[str, dict] = {}
    for split in ("train", "val"):
        rows = fields.of_split(split)
        row: dict = {"fields": len(rows)}
        for name, (title, worst) in _MEASURES.items():
            if name in fields.measures:
                values = fields.measures[name][rows].astype(float)
                values = values[~np.isnan(values)]
                tail, middle = np.quantile(values, [worst, 0.5]) if len(values) else [np.nan] * 2
                row[f"{title}, median"] = f"{middle:.3f}"
                row[f"{title}, {100 * worst:.0f}th percentile"] = f"{tail:.3f}"
        if "seconds" in fields.measures:
            seconds = pd.Series(fields.measures["seconds"][rows])
            row["seconds a field, median"] = f"{seconds.median():.2g}"
        columns[split] = row
    return [
        {"quantity": name, **{split: column[name] for split, column in columns.items()}}
        for name in columns["train"]
    ]


def _training(results: Path, config: Config) -> list[dict]:
    """A row per transformer: its size, what its training took and what it reached."""
    rows = []
    for model in config.gpt:
        about = read_json(results / "gpt" / model / "config.json")
        losses = read_table(
            results / "gpt" / model / "losses.csv",
            ["iteration", "tokens_per_second", "calibrated_val_loss", "temperature"],
        ).apply(pd.to_numeric)
        kept = losses.set_index("iteration").loc[about["iteration"]]
        settings = about["settings"]
        tokens = settings["batch_size"] * settings["accumulate"] * about["sequence_length"]
        done, speed = losses["iteration"].diff()[1:], losses["tokens_per_second"][1:]
        rows.append(
            {
                "model": model,
                "parameters": about["n_parameters"],
                "iterations": settings["iterations"],
                "seconds": round(float((done * tokens / speed).sum())),
                "kept iteration": about["iteration"],
                "val loss, bits per code": f"{kept['calibrated_val_loss'] / np.log(2):.3f}",
                "at temperature": f"{kept['temperature']:g}",
            }
        )
    return rows


def best_setting(results: str | Path, config: Config) -> tuple[str, str]:
    """Model and setting of the GPT row whose 1-NNA is best; the first of equals."""
    column = COLUMNS["1-NNA %"]
    metrics = tables.read_metrics(Path(results) / "tables" / "metrics.csv")
    metrics = metrics[metrics["metric"] == column.name]
    values = pd.to_numeric(metrics["value"], errors="coerce")
    values = values.groupby([metrics["method"], metrics["setting"]])
    means = values.mean().dropna().to_dict()
    models = [row[:2] for row in config.rows if row.kind in TRAINED]
    return min(models, key=lambda row: column.worse(means[row]) if row in means else np.inf)


def _viewer(results: Path, config: Config) -> list[dict]:
    """Samples of the best setting, the first ones each before its nearest training shape."""
    row, sources = best_setting(results, config), _sources(results)
    entries, shown = [], set()
    for entry in samples_of(results, *row)[:VIEWER_SAMPLES].itertuples():
        label = f"{' '.join(row)}: sample {entry.sample}"
        entries.append({"label": label, "path": entry.path})
        if entry.valid and entry.nearest not in shown and len(shown) < VIEWER_NEAREST:
            shown.add(entry.nearest)
            entries.append(
                {
                    "label": f"nearest train shape of sample {entry.sample}: {entry.nearest} "
                    f"(Chamfer ×10² {entry.distance:.2f})",
                    "path": _source(sources, entry.nearest, results),
                    "extent": config.sdf.extent,
                }
            )
    return entries


def _captions(results: Path, config: Config) -> list[tuple[str, str]]:
    """File name and caption of every figure, in the order of the report."""
    images = config.dataset.images
    captions = [
        (
            "metrics.svg",
            "The ladder of bounds: real training inputs, their fields and their quantised fields "
            "as samples show what each stage costs before any generator's row.",
        ),
    ]
    if images:
        captions += present_images.captions(results, [row[:2] for row in config.sampled])
    else:
        captions.append(
            ("ladder.png", "Training shapes as input mesh, as field and as quantised field.")
        )
    for row, setting, _ in [] if images else config.sampled:
        samples = samples_of(results, row, setting)
        shown = min(GALLERY_SIZE, len(samples))
        captions.append(
            (
                f"gallery-{_gallery_name(row, setting)}.png",
                f"{row} {setting}: the first {shown} of {len(samples)} samples (not selected; "
                f"{int(samples['valid'].sum())} of all have a surface, a cross marks one that "
                "has none) over the training shape nearest to each, with their Chamfer "
                "distance ×10².",
            )
        )
    if config.tuning:
        captions.append(
            (
                "tuning.svg",
                f"Sampling settings of {config.tuning.model}, compared on the val split.",
            )
        )
    if config.regression:
        captions.append(
            (
                "regression.svg",
                "Fields written by the regression transformer from their first weight on, against "
                "how many it was trained on: fitted from one template (conditioned) or each from "
                "its own random start (unconditioned).",
            )
        )
        if images:
            captions.append(("rollouts.png", "Fields above what the transformer wrote for them."))
        captions.append(
            (
                "symmetry.png",
                "One signal fitted from the template and from a random start. Hidden units can "
                "be permuted without changing the function, so the second shares no weight with "
                "the template although it shows the same.",
            )
        )
    return [
        *captions,
        (
            "losses.svg",
            "Loss of the transformers. Dashed: entropy of the codes' frequencies. Dotted: val at "
            "the temperature of the logits that suits each checkpoint; dot: its lowest point. The "
            "checkpoint that is kept is the last within one standard error of it.",
        ),
        ("tokens.svg", "Tokens of the train split, and the codebook."),
        ("weights.svg", "Weights of all fields by layer, and their difference to the template."),
    ]


def report_spec(results: str | Path) -> dict:
    """What `page.build` shows of a results folder whose figures are drawn."""
    results = Path(results)
    config = _config(results)
    quality = read_json(results / "tokens.json")
    if not isinstance(quality, dict):
        raise InputError(f"{results / 'tokens.json'} must hold a JSON object; delete it")
    tokens = [{"quantity": k.replace("_", " "), "value": v} for k, v in quality.items()]
    images = config.dataset.images
    more = []
    if images and present_images.has_classes(results):
        more.append(["Classifier", present_images.classifier_table(results)])
    if config.regression:
        more.append(["Regression transformer", str(results / "regression/regression.csv")])
    more += [["Search of sampling settings", str(results / TUNING)]] if config.tuning else []
    return {
        "name": config.name,
        "meshes": [] if images else _viewer(results, config),
        "table2": str(results / "tables" / "table2.csv"),
        "metrics": str(results / "tables" / "metrics.csv"),
        "tables": [
            ["Quality of the fits", _fit_quality(results)],
            ["Tokenizer", tokens],
            ["Training", _training(results, config)],
            *more,
        ],
        "figures": [
            [str(results / "figures" / name), caption]
            for name, caption in _captions(results, config)
        ],
        "rejected": str(results / "rejected.tsv"),
        "config_text": yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True),
    }


def make_report(results: str | Path, out: str | Path) -> None:
    """Write the page of a results folder whose figures are drawn."""
    page.build(report_spec(results), out)


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
