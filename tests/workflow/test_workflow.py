"""The workflow as a user runs it: whole, stale, broken and killed."""

import copy
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import trimesh
import yaml

ROOT = Path(__file__).parents[2]
TINY = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
RESULTS = Path("results/tiny")

pytestmark = pytest.mark.slow


def command(folder: Path, config: dict, *words: str) -> list[str]:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    snakemake = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow/Snakefile")]
    return [*snakemake, "--configfile", "config.yaml", "--cores", "2", *words]


def snakemake(folder: Path, config: dict, *words: str, fails: bool = False) -> str:
    """Run Snakemake in a folder, as from a shell without the virtual environment."""
    done = subprocess.run(
        command(folder, config, *words),
        cwd=folder,
        env=os.environ | {"PATH": "/usr/bin:/bin"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
    )
    assert (done.returncode != 0) == fails, done.stdout[-5000:]
    return done.stdout


def stale(folder: Path, config: dict) -> dict[str, int]:
    """Jobs per rule that a run would execute."""
    text = snakemake(folder, config, "--dry-run", "all")
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[1].split("\n\n")[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    return {name: count for name, count in jobs.items() if name not in ("all", "total")}


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
    columns = "method,setting,metric,value,seed,n_generated,n_reference"
    assert ",".join(metrics.columns) == columns
    rows = ["train-meshes", "train-fields", "quantised-train-fields", "gaussian", "tiny"]
    assert list(dict.fromkeys(metrics.method)) == rows
    for shape_id in shapes.shape_id:
        assert (results / f"sdf/{shape_id}.npz").exists()
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
    surfaces = pd.read_csv(results / "samples/train-fields/all/surfaces.csv")
    row = surfaces[surfaces.valid].iloc[0]
    source = trimesh.load(run / shapes.source_path[row.shape_id])
    made = trimesh.load(results / f"samples/train-fields/all/meshes/{row['sample']}.ply")
    assert made.extents.max() == pytest.approx(source.extents.max(), rel=0.3)


PRESENT = {"config", "tables", "figures", "report"}
GENERATED = {"sample_gpt", "extract", "score"} | PRESENT
SAMPLES = GENERATED | {"sample_train", "sample_gaussian"}
TOKENS = GENERATED | {"tokens", "train_gpt", "sample_train"}
FIELDS = TOKENS | SAMPLES | {"template", "fit", "weights"}
REAL = {"clouds", "choose_train_meshes", "reference_distances"}
SDF = FIELDS | {"sdf", "shapes"} | REAL

STALE = {
    "sampling.settings.k3-t1.temperature": (0.7, GENERATED, {"sample_gpt": 1, "extract": 1}),
    "sampling.batch_size": (5, GENERATED, {"extract": 1}),
    "gpt.tiny.embedding": (32, GENERATED | {"train_gpt"}, {"train_gpt": 1}),
    "gpt.tiny.iterations": (21, GENERATED | {"train_gpt"}, {}),
    "extract.resolution": (25, {"extract", "score"} | PRESENT, {"extract": 4, "score": 4}),
    "extract.level": (0.001, {"extract", "score"} | PRESENT, {}),
    "gaussian.n_components": (2, {"sample_gaussian", "extract", "score"} | PRESENT, {"extract": 1}),
    "tokens.n_codes": (16, TOKENS, {"tokens": 1, "sample_train": 1, "extract": 2}),
    "tokens.kind": ("scalar", TOKENS, {}),
    "fit.steps": (41, FIELDS - {"template"}, {}),
    "fit.pull": (0.5, FIELDS - {"template"}, {}),
    "template.steps": (61, FIELDS, {"template": 1}),
    "field.hidden": ([8, 9], FIELDS, {}),
    "sdf.sigma": (0.02, SDF, {}),
    "evaluation.n_samples": (1, SAMPLES | {"choose_train_meshes"}, {"score": 5}),
    "dataset.max_rejected_fraction": (0.5, None, {"shapes": 1}),
}


def changed(path: str, value: object) -> dict:
    config = copy.deepcopy(TINY)
    *parents, last = path.split(".")
    block = config
    for name in parents:
        block = block.setdefault(name, {})
    block[last] = value
    return config


@pytest.mark.parametrize("key", STALE)
def test_change_reruns_exactly(key, run):
    value, rules, counts = STALE[key]
    found = stale(run, changed(key, value))
    if rules is not None:
        assert set(found) == rules
    assert counts.items() <= found.items()


def test_nothing_to_do(run):
    began = time.monotonic()
    assert stale(run, TINY) == {}
    reordered = {name: TINY[name] for name in reversed(TINY)}
    reordered["sdf"] = {name: TINY["sdf"][name] for name in reversed(TINY["sdf"])}
    reordered["seed"] = 0  # the default, said aloud
    assert stale(run, reordered) == {}
    assert time.monotonic() - began < 60


def test_new_setting_samples_only_itself(run):
    config = copy.deepcopy(TINY)
    config["sampling"]["settings"]["greedy"] = {"temperature": 0.0}
    found = stale(run, config)
    assert {"sample_gpt": 1, "extract": 1, "score": 1}.items() <= found.items()
    assert set(found) == GENERATED


def test_added_mesh_fits_that_mesh(run):
    found = stale(run, changed("dataset.n_shapes", 15))
    added = {"sdf": 1, "shapes": 1, "fit": 1, "weights": 1, "list_shapes": 1}
    assert added.items() <= found.items(), "the aggregates, and the one new shape"
    assert not {"template", "procedural"} & set(found)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gpt.tiny.embeding", 8, "gpt.tiny.embeding: unknown key"),
        ("fit.steps", "many", "fit.steps = 'many'"),
        ("dataset.split", {"train": 1, "val": 1, "test": 1}, "add up to 3"),
        ("dataset.root", None, None),
        ("gpt.gaussian", {}, "row of the ladder"),
    ],
)
def test_bad_config_is_refused_before_any_job(key, value, message, tmp_path):
    config = changed(key, value)
    if message is None:
        config = changed("dataset", {"kind": "folder", "root": "nowhere"})
        message = "dataset.root = nowhere: there is no such folder"
    text = snakemake(tmp_path, config, "all", fails=True)
    assert message in text and "Traceback" not in text
    assert not (tmp_path / "results").exists()


def ellipsoids(folder: Path, n: int) -> None:
    folder.mkdir()
    for i in range(n):
        mesh = trimesh.creation.icosphere(subdivisions=2)
        mesh.apply_scale([1, 0.3 + 0.04 * i, 0.8 - 0.03 * i])
        mesh.export(folder / f"shape {i}.{('obj', 'off', 'ply', 'stl', 'glb')[i % 5]}")


def test_folder_in_packs_with_unusable_meshes(tmp_path):
    ellipsoids(tmp_path / "meshes", 14)
    (tmp_path / "meshes/broken.obj").write_text("")
    (tmp_path / "meshes/no faces.off").write_text("OFF\n1 0 0\n0 0 0\n")
    config = copy.deepcopy(TINY)
    config["dataset"] = {"kind": "folder", "root": "meshes", "max_rejected_fraction": 0.2}
    config["dataset"]["split"] = {"train": 0.6, "val": 0.2, "test": 0.2}
    config["fit"]["fields_per_job"] = 5
    config["evaluation"]["n_samples"] = 1
    snakemake(tmp_path, config, "all")
    rejected = (tmp_path / RESULTS / "rejected.tsv").read_text()
    assert "broken" in rejected and "no_faces" in rejected and rejected.count("\n") == 3
    weights = pd.read_parquet(tmp_path / RESULTS / "weights.parquet")
    assert not set(weights.shape_id) & {"broken", "no_faces"}
    config["dataset"]["max_rejected_fraction"] = 0.05
    text = snakemake(tmp_path, config, "all", fails=True)
    assert "2 of 16 inputs cannot be used" in text and "max_rejected_fraction" in text


def test_killed_at_any_moment_ends_the_same(run, tmp_path):
    draw = random.Random(0)
    for attempt in range(12):
        limit = draw.uniform(4, 12) if attempt < 4 else 400
        process = subprocess.Popen(
            command(tmp_path, TINY, "all"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            snakemake(tmp_path, TINY, "--unlock")
            continue
        assert process.returncode == 0, text[-5000:]
        break
    expected = (run / RESULTS / "tables/metrics.csv").read_text()
    assert (tmp_path / RESULTS / "tables/metrics.csv").read_text() == expected
    assert not list((tmp_path / RESULTS / "fields").glob(".*"))
