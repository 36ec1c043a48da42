"""The workflow as a user runs it: whole, stale, broken and killed."""

import copy
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import trimesh

import nefgpt
from nefgpt.fields.file import load_field
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.settings import Diffusion, DiffusionSetting
from nefgpt.inputs.airplanes.write import shape_id
from nefgpt.inputs.settings import Split
from nefgpt.inputs.splits import split_of
from nefgpt.stages import VERSIONS
from tests.workflow import test_image_workflow
from tests.workflow.running import ROOT, TINY, changed, command, snakemake, stale

RESULTS = Path("results/tiny")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    snakemake(folder, TINY, "all")
    return folder


def test_contracts(run):
    results = run / RESULTS
    shapes = pd.read_parquet(results / "shapes.parquet")
    assert {"shape_id", "split", "source_path", "sha256", "n_faces", "watertight"} <= set(shapes)
    fitted = shapes[shapes.split != "test"]
    weights = pd.read_parquet(results / "weights.parquet")
    assert sorted(weights.shape_id) == sorted(fitted.shape_id)
    assert {"label", "weights", "loss", "iou", "chamfer"} <= set(weights)
    about = json.loads(pq.read_schema(results / "weights.parquet").metadata[b"nefgpt"])
    assert about["field"]["hidden"] == TINY["field"]["hidden"]
    tokens = pd.read_parquet(results / "tokens.parquet")
    assert {"iou_quantised", "chamfer_quantised"} <= set(tokens)
    assert max(map(max, tokens.tokens)) < TINY["tokens"]["n_codes"]
    metrics = pd.read_csv(results / "tables/metrics.csv")
    columns = "method,setting,metric,value,seed,n_generated,n_reference,normalisation,extractor"
    assert ",".join(metrics.columns) == columns
    rows = ["train-meshes", "train-fields", "quantised-train-fields", "gaussian", "tiny"]
    assert list(dict.fromkeys(metrics.method)) == rows
    for name in shapes.shape_id:
        assert (results / f"sdf/{name}.npz").exists()
    for name in ("rejected.tsv", "codebook.safetensors", "tables/table2.tex", "figures/losses.svg"):
        assert (results / name).exists(), name
    samples = results / "samples/tiny/k3-t1"
    for name in ("tokens.parquet", "fields.parquet", "clouds.npy", "meshes/0.ply"):
        assert (samples / name).exists(), name
    page = (results / "report.html").read_text()
    assert len(page) > 100_000 and "http://" not in page


def test_fields_of_real_shapes_are_in_mesh_units(run):
    results = run / RESULTS
    shapes = pd.read_parquet(results / "shapes.parquet").set_index("shape_id")
    surfaces = pd.read_csv(results / "samples/train-fields/all/samples.csv")
    row = surfaces[surfaces.valid].iloc[0]
    source = trimesh.load(run / shapes.source_path[row.shape_id])
    made = trimesh.load(results / f"samples/train-fields/all/meshes/{row['sample']}.ply")
    assert made.extents.max() == pytest.approx(source.extents.max(), rel=0.3)


DRAWN = {"config", "figures", "report"}
PRESENT = DRAWN | {"tables"}
SCORED = {"extract", "score"} | PRESENT
JUDGED = {"score"} | PRESENT
NETWORK = str(ROOT / "pyproject.toml")  # nothing reads it in a dry run
GENERATED = {"sample"} | SCORED
SAMPLES = GENERATED | {"sample_untrained"}
TOKENS = SAMPLES | {"tokens", "train", "likelihood"}
FITTED = TOKENS | SAMPLES | {"fit", "weights"}
FIELDS = FITTED | {"template"}
REAL = {"clouds", "choose_real", "reference_distances"}
SDF = FIELDS | {"sdf", "signal", "shapes"} | REAL
PAPER = {"template.n_shapes": 1, "template.n_components": 0}

# Every key of the configuration: a new value (with what it needs), and the rules that run again.
STALE = {
    "dataset.max_rejected_fraction": (0.5, DRAWN | {"shapes"}),
    "dataset.background": ("black", DRAWN),
    "dataset.frame.up": ("+x", SDF),
    "dataset.frame.forward": ("+x", SDF),
    "sdf.backend": ("mesh_to_sdf", SDF),
    "sdf.method": ("sample", DRAWN),
    "sdf.n_uniform": (4001, SDF),
    "sdf.n_near": (4001, SDF),
    "sdf.sigma": (0.02, SDF),
    "sdf.extent": (0.8, SDF),
    "sdf.shapes_per_job": (3, DRAWN),
    "field.octaves": (3, FIELDS),
    "field.include_input": (False, FIELDS),
    "field.frequency": (3.0, FIELDS),
    "field.mirror": (0, FIELDS | {"shapes"}),
    "field.hidden": ([8, 9], FIELDS),
    "field.activation": ("relu", FIELDS),
    "field.output_bias": (True, FIELDS),
    "field.output_activation": ("none", FIELDS),
    "field.target": ("occupancy", FIELDS),
    "field.sdf_scale": (0.03, FIELDS),
    "field.offset": (0.003, FIELDS),
    "template.kind": ("mean", FIELDS, {"template.n_components": 0}),
    "template.inner_steps": (3, DRAWN),
    "template.shape_id": ("TRAIN SHAPE", FIELDS, PAPER),
    "template.n_shapes": (5, FIELDS),
    "template.n_components": (3, FIELDS),
    "template.fields_per_step": (3, FIELDS),
    "template.coefficient_learning_rate": (0.03, FIELDS),
    "template.steps": (61, FIELDS),
    "template.points_per_step": (500, FIELDS),
    "template.learning_rate": (0.02, FIELDS),
    "template.loss": ("mse", FIELDS),
    "template.pull": (0.5, FIELDS),
    "template.schedule": ("plateau", DRAWN),
    "template.averaging": (0.5, DRAWN),
    "template.quality_resolution": (25, DRAWN),
    "fit.fields_per_job": (3, FITTED - {"fit"} | {"fit_pack"}),
    "fit.steps": (41, FITTED),
    "fit.points_per_step": (500, FITTED),
    "fit.learning_rate": (0.02, FITTED),
    "fit.loss": ("mse", FITTED),
    "fit.pull": (0.5, FITTED),
    "fit.schedule": ("plateau", FITTED),
    "fit.averaging": (0.5, FITTED),
    "fit.quality_resolution": (25, FITTED),
    "tokens.kind": ("scalar", TOKENS),
    "tokens.n_codes": (16, TOKENS),
    "tokens.n_components": (3, TOKENS),
    **{
        f"gpt.tiny.{key}": (value, GENERATED | {"train", "likelihood"})
        for key, value in {
            "embedding": 32,
            "heads": 4,
            "layers": 2,
            "dropout": 0.3,
            "iterations": 21,
            "batch_size": 5,
            "accumulate": 2,
            "learning_rate": 0.01,
            "min_learning_rate": 0.001,
            "warmup": 3,
            "weight_decay": 0.2,
            "eval_every": 11,
            "jitter": 0.1,
            "mix": 0.1,
            "label_smoothing_width": 0.5,
            "precision": "float32",
            "class_dropout": 0.1,
        }.items()
    },
    "sampling.settings.k3-t1.top_k": (4, GENERATED),
    "sampling.settings.k3-t1.top_p": (0.5, GENERATED),
    "sampling.settings.k3-t1.temperature": (0.7, GENERATED),
    "sampling.settings.k3-t1.guidance": (2.0, GENERATED),
    "sampling.batch_size": (5, GENERATED),
    "gaussian.n_components": (2, {"sample_untrained"} | SCORED),
    "mixture.m.components": (2, {"sample_untrained"} | SCORED),
    "mixture.m.n_components": (2, {"sample_untrained"} | SCORED),
    "noise.c.space": ("weights", {"sample_untrained"} | SCORED),
    "noise.c.scale": (0.2, {"sample_untrained"} | SCORED),
    "averages.near.neighbours": (2, {"sample_untrained"} | SCORED),
    "extract.resolution": (25, SCORED),
    "extract.level": (0.001, SCORED),
    "extract.min_component": (0.5, SCORED),
    "evaluation.n_samples": (1, SAMPLES | {"choose_real"}),
    "evaluation.draws": (3, SAMPLES | {"choose_real"}),
    "evaluation.normalisation": ("box", SCORED | REAL),
    "evaluation.emd_points": (9, JUDGED | {"reference_distances"}),
    "evaluation.fits": (True, {"fits"} | PRESENT),
    "evaluation.fpd.checkpoint": (NETWORK, JUDGED),
    "evaluation.fpd.extractor": ("pointnet2", JUDGED, {"evaluation.fpd.checkpoint": NETWORK}),
    "evaluation.fpd.axes": ([0, 2, 1], JUDGED, {"evaluation.fpd.checkpoint": NETWORK}),
}
ONE_OPTION = "an entry is one option of its job; one key has a test of its own"
OTHER_SHAPES = "the run has other shapes, or another folder"
NOT_COMPARED = {
    "name": OTHER_SHAPES,
    "seed": OTHER_SHAPES,
    "dataset.kind": OTHER_SHAPES,
    "dataset.root": OTHER_SHAPES,
    "dataset.synset": OTHER_SHAPES,
    "dataset.n_shapes": "has a test of its own",
    "dataset.split.train": OTHER_SHAPES,
    "dataset.split.val": OTHER_SHAPES,
    "dataset.split.test": OTHER_SHAPES,
    "dataset.split_files.train": OTHER_SHAPES,
    "dataset.split_files.val": OTHER_SHAPES,
    "dataset.split_files.test": OTHER_SHAPES,
    **{f"diffusion.small.{key}": ONE_OPTION for key in vars(Diffusion())},
    **{f"sampling.diffusion.small.{key}": ONE_OPTION for key in vars(DiffusionSetting())},
    "field.in_dim": "belongs to the kind of signal",
    "field.out_dim": "belongs to the kind of signal",
}


# Blocks of entries, and the one that is looked into.
NAMED = {
    "gpt": "tiny",
    "diffusion": "small",
    "mixture": "m",
    "settings": "k3-t1",
    "noise": "c",
    "averages": "near",
}


def keys_of(schema: dict, block: dict, prefix: str = "") -> set[str]:
    """All keys of the configuration that hold a value, from the schema."""
    found = set()
    for name, about in block["properties"].items():
        kinds = [about, *about.get("anyOf", [])]
        named = NAMED.get(name)
        if named and "patternProperties" in about:
            kinds, name = list(about["patternProperties"].values()), f"{name}.{named}"
        inner = [kind["$ref"].split("/")[-1] for kind in kinds if "$ref" in kind]
        for reference in inner:
            found |= keys_of(schema, schema["$defs"][reference], f"{prefix}{name}.")
        if not inner:
            found.add(prefix + name)
    return found


def test_every_key_is_in_the_table():
    schema = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    compared = set(STALE) | {key.replace(".t1.", ".k3-t1.") for key in test_image_workflow.STALE}
    given = compared | set(NOT_COMPARED) | set(test_image_workflow.NOT_COMPARED)
    assert keys_of(schema, schema) == given


@pytest.mark.parametrize("key", STALE)
def test_change_reruns_exactly(key, run):
    value, rules, *needed = STALE[key]
    if value == "TRAIN SHAPE":
        shapes = pd.read_parquet(run / RESULTS / "shapes.parquet")
        value = shapes[shapes.split == "train"].shape_id.iloc[0]
    config = changed(key, value)
    for other, its_value in (needed[0] if needed else {}).items():
        config = changed(other, its_value, config)
    assert set(stale(run, config)) == rules


# What a change of a stage's code re-runs, once its number in nefgpt/stages.py is raised.
CHANGED_CODE = {
    "procedural": SDF | {"procedural"},
    "sdf": SDF,
    "inputs": {"shapes"} | DRAWN - {"config"},
    "template": FIELDS,
    "fit": FITTED,
    "weights": FITTED - {"fit"},
    "tokens": TOKENS,
    "gpt": GENERATED | {"train", "likelihood"},
    "diffusion": set(),
    "sample": SAMPLES,
    "extract": SCORED,
    "evaluate": REAL | SCORED - {"extract"},
    "likelihood": {"likelihood", "figures", "report"},
    "present": {"figures", "report"},
    "images": set(),
    "classifier": set(),
    "regression": set(),
}


def test_every_version_is_in_the_table():
    assert set(CHANGED_CODE) == set(VERSIONS)


@pytest.mark.parametrize("stage", CHANGED_CODE)
def test_changed_code_reruns_exactly(stage, run):
    """A field of changed code is never mixed with old ones: all of its stage run again."""
    found = stale(run, TINY, versions={stage: VERSIONS[stage] + 1})
    assert set(found) == CHANGED_CODE[stage] - {"config"}
    if stage == "fit":
        assert found["fit"] == len(pd.read_parquet(run / RESULTS / "weights.parquet"))


def test_another_generator_joins_a_finished_run(run, tmp_path):
    """It is trained, sampled and scored; nothing of the others runs again."""
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    small = {"width": 16, "layers": 1, "iterations": 6, "eval_every": 3, "noise_steps": 20}
    config = changed("diffusion", {"small": small})
    config["sampling"]["diffusion"] = {"d4": {"steps": 4}}
    own = {"train": 1, "sample": 1, "extract": 1, "score": 1}
    assert own.items() <= stale(tmp_path, config).items()
    assert set(stale(tmp_path, config)) == {"train"} | GENERATED
    snakemake(tmp_path, config, "all")
    metrics = pd.read_csv(tmp_path / RESULTS / "tables/metrics.csv")
    assert "d4" in set(metrics.setting[metrics.method == "small"])
    assert "small" in (tmp_path / RESULTS / "report.html").read_text()
    other = copy.deepcopy(config)
    other["sampling"]["diffusion"]["d4"]["eta"] = 0.5
    assert set(stale(tmp_path, other)) == GENERATED
    other["diffusion"]["small"]["width"] = 24
    assert set(stale(tmp_path, other)) == {"train"} | GENERATED


def test_how_many_run_again(run):
    one = {"sample": 1, "extract": 1, "score": 1, "report": 1}
    assert one.items() <= stale(run, changed("sampling.settings.k3-t1.temperature", 0.7)).items()
    all_rows = {"extract": 4, "score": 4}
    assert all_rows.items() <= stale(run, changed("extract.resolution", 25)).items()


def test_nothing_to_do(run):
    began = time.monotonic()
    assert stale(run, TINY) == {}
    reordered = {name: TINY[name] for name in reversed(TINY)}
    reordered["sdf"] = {name: TINY["sdf"][name] for name in reversed(TINY["sdf"])}
    reordered["seed"] = 0  # the default, said aloud
    assert stale(run, reordered) == {}
    assert time.monotonic() - began < 60


def test_a_renamed_command_reruns_nothing(run, tmp_path):
    """What a change of the code re-runs is decided by the numbers in nefgpt/stages.py alone."""
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    (tmp_path / "nefgpt").symlink_to(ROOT / "nefgpt")
    for path in (tmp_path / "workflow/rules").glob("*.smk"):
        path.write_text(path.read_text().replace("python -m nefgpt ", "python -m nefgpt renamed "))
    words = command(run, TINY, "--dry-run", "all")
    words[words.index("-s") + 1] = str(tmp_path / "workflow/Snakefile")
    done = subprocess.run(words, cwd=run, capture_output=True, text=True, timeout=300)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_samples_of_every_row_come_back(run):
    opened = nefgpt.open(run / RESULTS)
    for row in opened.config.sampled:
        expected = read_fields(run / RESULTS / f"samples/{row.method}/{row.setting}/fields.parquet")
        for draw, fields in enumerate(np.split(expected.weights, 2)):
            chosen = {"model": row.method, "setting": row.setting, "seed": draw}
            for made in (opened.sample(1, **chosen), opened.sample(5, **chosen)):
                for field, weights in zip(made, fields, strict=False):
                    np.testing.assert_array_equal(field.weights, weights)
    assert stale(run, TINY) == {}, "the run is as it was"


def test_threads_and_resources_rerun_nothing(run):
    words = ["--set-threads", "train=1", "--set-resources", "sdf:mem_mb=999", "fit:runtime=9"]
    assert stale(run, TINY, *words, "--") == {}


def test_new_setting_samples_only_itself(run):
    config = copy.deepcopy(TINY)
    config["sampling"]["settings"]["greedy"] = {"temperature": 0.0}
    found = stale(run, config)
    assert {"sample": 1, "extract": 1, "score": 1}.items() <= found.items()
    assert set(found) == GENERATED


def test_added_mesh_fits_that_mesh(run):
    config = changed("dataset.n_shapes", 16)
    splits = [split_of(shape_id(0, i), Split(**TINY["dataset"]["split"]), seed=0) for i in (14, 15)]
    fits = sum(split != "test" for split in splits)
    assert fits > 0
    found = stale(run, config)
    added = {"sdf": 1, "signal": 2, "shapes": 1, "fit": fits, "weights": 1, "list_shapes": 1}
    assert added.items() <= found.items(), "the new shapes, and the aggregates"
    assert not {"template", "procedural"} & set(found)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gpt.tiny.embeding", 8, "gpt.tiny.embeding: unknown key"),
        ("fit.steps", "many", "fit.steps = 'many'"),
        ("dataset.split", {"train": 1, "val": 1, "test": 1}, "add up to 3"),
        ("dataset.root", None, None),
        ("gpt.gaussian", {}, "a row of the table is called so"),
    ],
)
def test_bad_config_is_refused_before_any_job(key, value, message, tmp_path):
    config = changed(key, value)
    if message is None:
        config = changed("dataset", {"kind": "folder", "root": "nowhere"})
        message = f"dataset.root = nowhere ({tmp_path}/nowhere): there is no such folder"
    text = snakemake(tmp_path, config, "all", fails=True)
    assert message in text and "Traceback" not in text
    assert not (tmp_path / "results").exists()


def ellipsoids(folder: Path, n: int) -> None:
    folder.mkdir()
    for i in range(n):
        mesh = trimesh.creation.icosphere(subdivisions=2)
        mesh.apply_scale([1, 0.3 + 0.04 * i, 0.8 - 0.03 * i])
        mesh.export(folder / f"shape {i}.{('obj', 'off', 'ply', 'stl', 'glb')[i % 5]}")


def test_every_mesh_is_stale_by_itself(tmp_path):
    meshes, results = tmp_path / "meshes", tmp_path / RESULTS
    ellipsoids(meshes, 7)
    config = changed("dataset", {"kind": "folder", "root": "meshes"})
    config["dataset"]["split"] = {"train": 0.6, "val": 0.2, "test": 0.2}
    config = changed("sdf.shapes_per_job", 4, config)
    config = changed("template.n_shapes", 2, changed("template.n_components", 1, config))
    snakemake(tmp_path, config, "fields")
    clouds = {path.stem: path.read_bytes() for path in (results / "sdf").glob("*.npz")}
    assert len(clouds) == 7 and not list((results / "sdf/packs").glob("*"))
    assert stale(tmp_path, config, target="fields") == {}

    template = load_field(results / "fields/template.safetensors")[2]["shape_ids"]
    fields = sorted(path.stem for path in (results / "fields").glob("shape*"))
    edited = next(name for name in fields if name not in template)
    (mesh,) = meshes.glob(edited.replace("_", " ") + ".*")
    content = mesh.read_bytes()
    mesh.write_bytes(content)
    assert stale(tmp_path, config, target="fields") == {}, "written anew, with the same content"
    trimesh.creation.icosphere(subdivisions=1).export(mesh)
    one = {"sdf": 1, "signal": 1, "shapes": 1, "fit": 1, "weights": 1}
    assert stale(tmp_path, config, target="fields") == one
    os.utime(mesh, (0, 0))
    assert stale(tmp_path, config, target="fields") == one, "replaced by an older file"
    more = changed("fit.steps", 41, config)
    assert stale(tmp_path, more, target="fields") == one | {"fit": len(fields)}

    snakemake(tmp_path, config, "fields")
    now = {path.stem: path.read_bytes() for path in (results / "sdf").glob("*.npz")}
    assert {name for name in clouds if now[name] != clouds[name]} == {edited}
    assert stale(tmp_path, config, target="fields") == {}
    named = f"{RESULTS}/sdf/{edited}.npz"
    snakemake(tmp_path, config, named)
    assert (tmp_path / named).read_bytes() == now[edited], "named, and finished"
    assert stale(tmp_path, config, target="fields") == {}
    assert {"sdf": 2, "signal": 7}.items() <= stale(tmp_path, config, "-F", target="fields").items()
    began = time.time()
    snakemake(tmp_path, config, "-F", named)
    anew = [path.stem for path in (results / "sdf").glob("*.npz") if path.stat().st_mtime > began]
    assert anew == [edited]
    (tmp_path / named).unlink()
    assert stale(tmp_path, more, target="fields")["sdf"] == 1
    assert stale(tmp_path, more, target="fields")["signal"] == 1


@pytest.mark.parametrize("steps", [5, 500_000])
def test_only_long_fits_wait_for_the_gpu(steps, tmp_path):
    """Where there is one, by the command that NVIDIA's driver brings."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    config = changed("fit.steps", steps)
    planned = snakemake(tmp_path, config, "--dry-run", "all", path=f"{tmp_path}:/usr/bin:/bin")
    asked = dict(re.findall(r"^rule (\w+):(?:\n .*)*?\n    resources:.* gpu=(\d)", planned, re.M))
    assert asked == {
        "template": "1",
        "fit": str(int(steps > 5)),
        "train": "1",
        "likelihood": "1",
        "sample": "1",
    }


@pytest.mark.long
def test_folder_in_packs_with_unusable_meshes(tmp_path):
    ellipsoids(tmp_path / "meshes", 14)
    (tmp_path / "meshes/broken.obj").write_text("")
    (tmp_path / "meshes/no faces.off").write_text("OFF\n1 0 0\n0 0 0\n")
    config = copy.deepcopy(TINY)
    config["dataset"] = {"kind": "folder", "root": "meshes", "max_rejected_fraction": 0.2}
    config["dataset"]["split"] = {"train": 0.6, "val": 0.2, "test": 0.2}
    config["fit"]["fields_per_job"] = 5
    config["evaluation"]["n_samples"] = 1
    text = snakemake(tmp_path, config, "all")
    assert f"dataset: 16 meshes in {tmp_path}/meshes\n" in text
    assert f"2 inputs are left out ({RESULTS}/rejected.tsv):\n" in text
    assert "broken.obj: the file is empty" in text
    rejected = (tmp_path / RESULTS / "rejected.tsv").read_text()
    assert "broken" in rejected and "no_faces" in rejected and rejected.count("\n") == 3
    weights = pd.read_parquet(tmp_path / RESULTS / "weights.parquet")
    assert not set(weights.shape_id) & {"broken", "no_faces"}
    config["dataset"]["max_rejected_fraction"] = 0.05
    text = snakemake(tmp_path, config, "all", fails=True)
    assert "2 of 16 inputs cannot be used" in text and "max_rejected_fraction" in text
