"""Finished runs of toy size, made by the stages' own functions, without Snakemake."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from nefgpt.base.files import write_json
from nefgpt.config import Config, validate
from nefgpt.evaluation import clouds, tables
from nefgpt.fields.settings import Optimiser
from nefgpt.fitting.fit import fit_shapes
from nefgpt.fitting.template import make
from nefgpt.fitting.weights import collect, read_fields
from nefgpt.generators.gpt.tokenizer import tokenize
from nefgpt.generators.gpt.train import train
from nefgpt.generators.kind import KINDS, Given
from nefgpt.generators.sample import draw, write_samples
from nefgpt.inputs.airplanes.write import write_pack
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.splits import template_shapes
from nefgpt.signals import images, sdf
from nefgpt.signals.kind import KINDS as SIGNALS
from nefgpt.signals.kind import kind_of
from tests.workflow.test_image_workflow import DIGITS as DIGITS_RUN

ROOT = Path(__file__).parents[1]
AIRPLANES = yaml.safe_load((ROOT / "config/tiny.yaml").read_text()) | {"name": "airplanes"}
AIRPLANES["sampling"] = {"settings": {"k3-t1": {"top_k": 3}, "t1": {}}}
DIGITS = copy.deepcopy(DIGITS_RUN) | {"name": "digits"}
for name in ("regression", "tuning"):
    del DIGITS[name]


def _signals(config: Config, shapes: list, results: Path) -> None:
    """Write `<id>.npz` of every input."""
    sources = {shape.shape_id: shape.path for shape in shapes}
    if config.signals == "images":
        images.prepare(sources, results / "images", results / "images/packs/0.json")
    else:
        write_pack(results / "dataset", config.seed, 0, len(shapes))
        sdf.prepare_pack(sources, results / "sdf", config.sdf, config.seed, "")


def _fields(config: Config, shapes: list, results: Path) -> None:
    """Template, fits, their table, and tokens."""
    files = SIGNALS[config.signals].folder
    fitted = [shape.shape_id for shape in shapes if shape.split != "test"]
    n, template = config.template.n_shapes, results / "fields/template.safetensors"
    of_train = template_shapes(shapes, n, config.seed, template)
    signals = {name: results / files / f"{name}.npz" for name in fitted}
    some = {name: signals[name] for name in of_train}
    make(config.field, some, template, config.template, config.seed)
    optimiser = {f.name: getattr(config.fit, f.name) for f in dataclasses.fields(Optimiser)}
    paths = {name: (signals[name], results / f"fields/{name}.safetensors") for name in fitted}
    fit_shapes(config.field, paths, Optimiser(**optimiser), config.seed, template)
    entries = [[shape.shape_id, shape.split, shape.label] for shape in shapes]
    collect(entries, results / "fields", template, results / "weights.parquet")
    resolution = config.fit.quality_resolution
    tokenize(results / "weights.parquet", results / files, results, config.tokens, resolution)


def _samples(config: Config, results: Path) -> None:
    """Samples of every row that has a generator, and a table that says some of them."""
    fields, measured = read_fields(results / "weights.parquet"), []
    codebook = results / "codebook.safetensors"
    for name, settings in config.gpt.items():
        folder = results / "gpt" / name
        train(results / "tokens.parquet", folder, settings, config.seed, None)
    for row in config.sampled:
        model = results / row.kind / row.method if KINDS[row.kind].learns else None
        given = Given(fields, codebook, model=model, batch_size=config.sampling.batch_size)
        seeds = range(config.seed, config.seed + config.evaluation.draws)
        n, setting = config.evaluation.n_samples, config.sampling_of(row)
        out = results / "samples" / row.method / row.setting
        write_samples(out, given, draw(row.kind, given, setting, n, seeds))
    for i, (method, setting, _) in enumerate(config.rows):
        for seed, value in enumerate((60.0 + i, 62.0 + i)):
            measured.append([method, setting, "1-NNA %", value, seed, n, n])
    (results / "tables").mkdir()
    frame = pd.DataFrame(measured, columns=tables.KEYS)
    frame.to_csv(results / "tables/metrics.csv", index=False)


def finished(folder: Path, values: dict) -> Path:
    """Make a run in folder/results/NAME; returns its results.

    The metrics are made up.
    """
    config = validate(values)
    results = folder / "results" / config.name
    shapes = list_shapes(config.dataset, results, config.seed)
    write_json(results / "config.json", dataclasses.asdict(config))
    write_json(results / "shapes.json", [[s.shape_id, s.split, s.label] for s in shapes])
    _signals(config, shapes, results)
    _fields(config, shapes, results)
    _samples(config, results)
    signals, kind = results / SIGNALS[config.signals].folder, kind_of(config.field)
    test = [[s.shape_id, s.split, s.label] for s in shapes if s.split == "test"]
    (results / "clouds").mkdir()
    np.save(results / "clouds/test.npy", clouds.gather(test, signals, kind)[1])
    return results
