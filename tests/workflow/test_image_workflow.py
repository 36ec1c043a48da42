"""The workflow over images: digits with class tokens, and what their keys re-run."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nefgpt.evaluation.clouds import read_clouds
from tests.workflow.running import changed, snakemake, stale

DIGITS = {
    "name": "tiny-digits",
    "dataset": {
        "kind": "digits",
        "n_shapes": 200,
        "split": {"train": 0.6, "val": 0.2, "test": 0.2},
    },
    "field": {
        "in_dim": 2,
        "octaves": 2,
        "include_input": False,
        "frequency": 1.0,
        "hidden": [8],
        "activation": "relu",
        "output_bias": True,
        "output_activation": "sigmoid",
        "target": "brightness",
    },
    "template": {"n_shapes": 60, "n_components": 6, "steps": 100, "points_per_step": 64}
    | {"loss": "mse"},
    "fit": {"steps": 40, "points_per_step": 64, "fields_per_job": 70, "loss": "mse"}
    | {"learning_rate": 0.1},
    "tokens": {"kind": "basis", "n_codes": 15, "n_components": 6},
    "gpt": {
        "tiny": {"embedding": 16, "heads": 2, "layers": 1, "iterations": 20, "batch_size": 8}
        | {"eval_every": 10, "warmup": 2, "class_dropout": 0.1}
    },
    "sampling": {"settings": {"t1": {"temperature": 1.0}}},
    "gaussian": {"n_components": 4},
    "noise": {"c0.4": {}, "w0.1": {"space": "weights", "scale": 0.1}},
    "averages": {"near": {}},
    "evaluation": {"n_samples": 20, "fits": True},
    "classifier": {"epochs": 5},
    "regression": {
        "n_fields": [1, 2],
        "n_shapes": 4,
        "fit": {"steps": 30},
        "embedding": 8,
        "layers": 1,
        "iterations": 10,
        "warmup": 2,
    },
    "tuning": {"model": "tiny", "n_samples": 10, "top_k": [None, 3], "temperature": [0.8, 1.0]},
}
RESULTS = Path("results/tiny-digits")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    snakemake(folder, DIGITS, "all")
    return folder


def test_contracts(run):
    results = run / RESULTS
    shapes = pd.read_parquet(results / "shapes.parquet")
    assert len(shapes) == 200 and shapes.label.notna().all() and shapes.n_faces.isna().all()
    weights = pd.read_parquet(results / "weights.parquet")
    assert {"psnr", "ssim", "label"} <= set(weights) and weights.psnr.min() > 5
    tokens = pd.read_parquet(results / "tokens.parquet")
    assert {"psnr", "psnr_quantised"} <= set(tokens) and tokens.label.notna().all()
    about = json.loads((results / "gpt/tiny/config.json").read_text())
    assert about["n_classes"] == 10 and about["gpt"]["vocab_size"] == 15 + 11
    samples = results / "samples/tiny/t1"
    table = pd.read_csv(samples / "samples.csv")
    assert sorted(table.label) == sorted(list(range(10)) * 2), "all classes in turn"
    images = read_clouds(samples / "clouds.npy")
    stored = np.asarray(Image.open(samples / "images/3.png")) / 255
    np.testing.assert_allclose(stored, images[3], atol=0.003)
    assert images.shape == (20, 8, 8)
    classes = pd.read_csv(samples / "classes.csv")
    assert classes.label.tolist() == list(range(10)) and (classes.n == 2).all()
    metrics = pd.read_csv(results / "tables/metrics.csv")
    rows = ["train-images", "test-halves", "test-fields", "train-fields"]
    rows += ["quantised-train-fields", "gaussian", "noise", "averages", "tiny"]
    assert list(dict.fromkeys(metrics.method)) == rows
    assert {"MMD x100", "COV %", "1-NNA %", "accuracy %"} <= set(metrics.metric)
    assert {"Fréchet (classifier)", "novelty in weights", "density"} <= set(metrics.metric)
    named = metrics[metrics.extractor.notna()]
    assert set(named.metric) == {"Fréchet (classifier)"} and named.extractor.nunique() == 1
    fits = pd.read_csv(results / "tables/fits.csv")
    counts = fits[fits.what == "quantised"].split.value_counts()
    assert counts.to_dict() == shapes.split.value_counts().to_dict()
    assert fits.ssim.is_monotonic_increasing, "the worst first"
    intervals = pd.read_csv(results / "tables/intervals.csv")
    assert list(dict.fromkeys(intervals.method)) == rows
    assert set(intervals.tie.dropna()) == {"yes", "no"}
    assert "HyperDiffusion" not in (results / "tables/table2.md").read_text()
    tuning = pd.read_csv(results / "tables/tuning.csv")
    assert len(tuning) == 4 and {"top_k", "temperature", "accuracy %"} <= set(tuning)
    for name in (
        "gallery-tiny@t1",
        "sheet-tiny@t1",
        "ladder",
        "tuning",
        "accuracy",
        "losses",
        "rollouts",
        "symmetry",
    ):
        assert (results / f"figures/{name}.png").stat().st_size > 5000, name
    page = (results / "report.html").read_text()
    assert "Classifier" in page and "http://" not in page


def test_nearest_are_train_images_by_ssim(run):
    results = run / RESULTS
    nearest = pd.read_csv(results / "samples/train-images/all/nearest.csv")
    shown = pd.read_csv(results / "samples/train-images/all/samples.csv")
    assert nearest.nearest_1.tolist() == shown.shape_id.tolist(), "each is its own nearest"
    assert (nearest.distance_x100 == 0).all()
    assert (nearest.nearest_1 != nearest.nearest_2).all()


DRAWN = {"config", "figures", "report"}
GENERATED = {"sample", "extract", "score", "tables", "tune"} | DRAWN
JUDGED = {"classifier", "score", "score_halves", "tables", "tune"}
# Keys that only runs of images have a rule for: a new value, and the rules that run again.
STALE = {
    "gpt.tiny.class_dropout": (0.2, GENERATED | {"train"}),
    "sampling.settings.t1.guidance": (2.0, GENERATED - {"tune"}),
    "sampling.settings.t1.temperature": (0.7, GENERATED - {"tune"}),
    "sampling.batch_size": (5, GENERATED),
    "classifier.epochs": (6, DRAWN | JUDGED),
    "classifier.batch_size": (32, DRAWN | JUDGED),
    "classifier.learning_rate": (0.01, DRAWN | JUDGED),
    "tuning.n_samples": (11, DRAWN | {"tune"}),
    "tuning.top_k": ([3], DRAWN | {"tune"}),
    "tuning.top_p": ([0.9], DRAWN | {"tune"}),
    "tuning.temperature": ([0.7], DRAWN | {"tune"}),
    "tuning.guidance": ([1.5], DRAWN | {"tune"}),
    "sdf.n_near": (5000, DRAWN),
    "regression.n_fields": ([2], DRAWN | {"regression"}),
    "regression.n_shapes": (5, DRAWN | {"regression", "fit_starts"}),
    **{
        f"regression.{key}": (value, DRAWN | {"regression"})
        for key, value in {
            "embedding": 16,
            "heads": 1,
            "layers": 2,
            "loss": "mse",
            "iterations": 11,
            "batch_size": 3,
            "learning_rate": 0.01,
            "min_learning_rate": 0.001,
            "warmup": 3,
            "noise": 0.1,
        }.items()
    },
    **{
        f"regression.fit.{key}": (value, DRAWN | {"regression", "fit_starts"})
        for key, value in {
            "steps": 31,
            "points_per_step": 60,
            "learning_rate": 0.02,
            "loss": "l1",
            "schedule": "plateau",
            "quality_resolution": 25,
        }.items()
    },
    "extract.resolution": (25, DRAWN),
}
NOT_COMPARED = {"tuning.model": "there is one model"}


@pytest.mark.parametrize("key", STALE)
def test_change_reruns_exactly(key, run):
    value, rules = STALE[key]
    assert set(stale(run, changed(key, value, DIGITS))) == rules


def test_nothing_to_do(run):
    text = snakemake(run, DIGITS, "--dry-run", "all")
    assert "Nothing to be done" in text and "Exception" not in text


def test_a_lost_image_is_made_again(run):
    image = sorted((run / RESULTS / "images").glob("*.npz"))[0]
    content, kept = image.read_bytes(), image.stat()
    image.unlink()
    assert stale(run, DIGITS)["images"] == 1
    image.write_bytes(content)
    os.utime(image, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def test_images_of_two_sizes_are_refused(tmp_path):
    for name, size in (("zero", 8), ("one", 8), ("two", 9)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(8):
            picture = np.random.default_rng(i).integers(255, size=(size, size), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "pictures" / name / f"{i}.png")
    config = copy.deepcopy(DIGITS)
    config["dataset"] |= {"kind": "mnist", "root": "pictures", "n_shapes": None}
    text = snakemake(tmp_path, config, "results/tiny-digits/clouds/train.npy", fails=True)
    assert "all inputs must have one size, but:" in text and "(9, 9)" in text


def test_a_field_for_shapes_is_refused_for_images(tmp_path):
    text = snakemake(tmp_path, changed("field.in_dim", 3, DIGITS), "all", fails=True)
    assert "dataset.kind digits needs field: {in_dim: 2, target: brightness}" in text
