"""What the figures and the report of a run show, found in its results folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml

from nefgpt import cli, figures, report, tables
from nefgpt.config import validate
from nefgpt.errors import InputError
from nefgpt.io import read_json, read_table

# Rule to the rules whose output it takes, as in workflow/rules.
NEEDS = {
    "sdf": ("procedural",),
    "shapes": ("list_shapes", "sdf"),
    "template": ("sdf",),
    "fit": ("sdf", "template"),
    "weights": ("list_shapes", "shapes", "template", "fit"),
    "tokens": ("template", "weights"),
    "train_gpt": ("tokens",),
    "sample_gpt": ("weights", "tokens", "train_gpt"),
    "sample_gaussian": ("weights",),
    "sample_train": ("weights", "tokens"),
    "extract": ("sample_gpt", "sample_gaussian", "sample_train"),
    "clouds": ("list_shapes", "shapes", "sdf"),
    "choose_train_meshes": ("clouds",),
    "reference_distances": ("clouds",),
    "score": ("reference_distances", "clouds", "choose_train_meshes", "extract"),
    "tables": ("score",),
    "figures": ("tables", "config", "shapes", "tokens", "weights", "train_gpt", "extract", "score"),
    "report": ("figures", "shapes"),
}
EDGES = [(needed, rule) for rule, all_needed in NEEDS.items() for needed in all_needed]
GAUSSIAN = ("gaussian", "pca")
GALLERY_SIZE = 16
LADDER_SIZE = figures.LADDER_COLUMNS
VIEWER_SAMPLES = 12
VIEWER_NEAREST = 4


def generators(config: dict) -> list[tuple[str, str]]:
    """Model and setting of every generator: the GPTs', then the Gaussian."""
    settings = config["sampling"]["settings"]
    return [*((model, setting) for model in config["gpt"] for setting in settings), GAUSSIAN]


def _config(results: Path) -> dict:
    return validate(read_json(results / "config.json"))


def _parquet(path: Path) -> pd.DataFrame:
    """The plain columns of a Parquet file."""
    try:
        names = pq.read_schema(path).names
        return pq.read_table(path, columns=[n for n in names if n != "weights"]).to_pandas()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def _sources(results: Path) -> dict[str, str]:
    """Shape id to its input mesh's path."""
    path = results / "shapes.parquet"
    frame = _parquet(path)
    if not {"shape_id", "source_path"} <= set(frame.columns):
        raise InputError(f"{path} lacks shape_id or source_path; delete it and run again")
    return dict(zip(frame["shape_id"], frame["source_path"], strict=True))


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
    surfaces = read_table(folder / "surfaces.csv", ["sample", "shape_id", "valid"])
    nearest = read_table(
        folder / "nearest.csv", ["sample", "valid", "nearest_shape_id", "chamfer_x100"]
    )
    for column in ("sample", "valid"):
        if surfaces[column].tolist() != nearest[column].tolist():
            raise InputError(
                f"{folder / 'nearest.csv'} and {folder / 'surfaces.csv'} differ in {column!r}; "
                "delete them and run again"
            )
    frame = pd.DataFrame(
        {
            "sample": surfaces["sample"],
            "shape_id": surfaces["shape_id"],
            "valid": surfaces["valid"].str.lower() == "true",
            "path": [str(folder / "meshes" / f"{i}.ply") for i in surfaces["sample"]],
            "nearest": nearest["nearest_shape_id"],
            "distance": pd.to_numeric(nearest["chamfer_x100"], errors="coerce"),
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
    config, sources = _config(results), _sources(results)
    return {
        "extent": config["sdf"]["extent"],
        "tokens": str(results / "tokens.parquet"),
        "codebook": str(results / "codebook.safetensors"),
        "weights": str(results / "weights.parquet"),
        "losses": {model: str(results / "gpt" / model / "losses.csv") for model in config["gpt"]},
        "metrics": str(results / "tables" / "metrics.csv"),
        "galleries": [_gallery(results, *row, sources) for row in generators(config)],
        "ladder": _ladder(results, sources),
    }


def make_figures(results: str | Path) -> list[Path]:
    """Draw every figure of a results folder into its `figures/`."""
    return figures.make_all(figure_spec(results), Path(results) / "figures")


def _fit_quality(results: Path) -> list[dict]:
    """A column per split: how many fields, and how well they keep their shapes."""
    frame = _parquet(results / "weights.parquet")
    columns: dict[str, dict] = {}
    for split in ("train", "val"):
        part = frame[frame["split"] == split]
        row: dict = {"fields": len(part)}
        for name, title in (("iou", "IoU"), ("iou_near", "IoU near the surface")):
            values = part[name].dropna().to_numpy(float) if len(part) else np.array([])
            low, middle = np.quantile(values, [0.05, 0.5]) if len(values) else (np.nan, np.nan)
            row |= {f"{title}, median": f"{middle:.3f}", f"{title}, 5th percentile": f"{low:.3f}"}
        row["Chamfer ×10², median"] = f"{part['chamfer'].median():.3f}"
        if "seconds" in frame:
            row["seconds a field, median"] = f"{part['seconds'].median():.1f}"
        columns[split] = row
    return [
        {"quantity": name, **{split: column[name] for split, column in columns.items()}}
        for name in columns["train"]
    ]


def best_setting(results: str | Path, config: dict) -> tuple[str, str]:
    """Model and setting of the GPT row with the lowest 1-NNA; the first of equals."""
    metrics = tables.read_metrics(Path(results) / "tables" / "metrics.csv")
    metrics = metrics[metrics["metric"] == "1-NNA %"]
    values = pd.to_numeric(metrics["value"], errors="coerce")
    values = values.groupby([metrics["method"], metrics["setting"]])
    means = values.mean().dropna().to_dict()
    return min(
        (row for row in generators(config) if row != GAUSSIAN),
        key=lambda row: means.get(row, np.inf),
    )


def _viewer(results: Path, config: dict) -> list[dict]:
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
                    "extent": config["sdf"]["extent"],
                }
            )
    return entries


def _captions(results: Path, config: dict) -> list[tuple[str, str]]:
    """File name and caption of every figure, in the order of the report."""
    captions = [
        (
            "metrics.svg",
            "The ladder of bounds: training meshes, their fields and their quantised fields as "
            "samples show what each stage costs before any generator's row.",
        ),
        ("ladder.png", "Training shapes as input mesh, as field and as quantised field."),
    ]
    for row, setting in generators(config):
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
    return [
        *captions,
        ("losses.svg", "Loss of the transformers; dashed: entropy of the codes' frequencies."),
        ("tokens.svg", "Tokens of the train split, and the codebook."),
        ("weights.svg", "Weights of all fields by layer, and their difference to the template."),
    ]


def report_spec(results: str | Path) -> dict:
    """What `report.build` shows of a results folder whose figures are drawn."""
    results = Path(results)
    config = _config(results)
    quality = read_json(results / "tokens.json")
    if not isinstance(quality, dict):
        raise InputError(f"{results / 'tokens.json'} must hold a JSON object; delete it")
    tokens = [{"quantity": k.replace("_", " "), "value": v} for k, v in quality.items()]
    return {
        "name": config["name"],
        "meshes": _viewer(results, config),
        "table2": str(results / "tables" / "table2.csv"),
        "metrics": str(results / "tables" / "metrics.csv"),
        "tables": [["Quality of the fits", _fit_quality(results)], ["Tokenizer", tokens]],
        "figures": [
            [str(results / "figures" / name), caption]
            for name, caption in _captions(results, config)
        ],
        "rules": EDGES,
        "rejected": str(results / "rejected.tsv"),
        "config_text": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }


def make_report(results: str | Path, out: str | Path) -> None:
    """Write the page of a results folder whose figures are drawn."""
    report.build(report_spec(results), out)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `figures --results R`, or `report --results R --out report.html`."""
    parser = argparse.ArgumentParser(prog="python -m nefgpt.present", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("figures", help="draw R/figures/")
    page = commands.add_parser("report", help="write the page; needs the figures")
    for command in (drawn, page):
        command.add_argument("--results", required=True, help="folder of one run")
    page.add_argument("--out", required=True, help="HTML file")
    args = parser.parse_args(argv)
    if args.command == "figures":
        make_figures(args.results)
    else:
        make_report(args.results, args.out)


if __name__ == "__main__":
    cli.run(main)
