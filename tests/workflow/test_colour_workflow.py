"""The workflow over colour images: a folder of PNG files that the test draws."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nefgpt.evaluation.clouds import read_clouds
from nefgpt.signals.similarity import psnr
from tests.workflow.running import changed, snakemake, stale

COLOUR = {
    "name": "tiny-colour",
    "dataset": {
        "kind": "images",
        "root": "pictures",
        "split": {"train": 0.6, "val": 0.15, "test": 0.25},
    },
    "field": {
        "in_dim": 2,
        "out_dim": 3,
        "octaves": 3,
        "include_input": False,
        "frequency": 1.0,
        "hidden": [12, 12],
        "activation": "relu",
        "output_bias": True,
        "output_activation": "sigmoid",
        "target": "brightness",
    },
    "template": {"n_shapes": 20, "n_components": 12, "steps": 300, "points_per_step": 144}
    | {"loss": "mse"},
    "fit": {"steps": 100, "points_per_step": 144, "fields_per_job": 70, "loss": "mse"}
    | {"learning_rate": 0.1},
    "tokens": {"kind": "basis", "n_codes": 15, "n_components": 12},
    "gpt": {
        "tiny": {"embedding": 16, "heads": 2, "layers": 1, "iterations": 20, "batch_size": 8}
        | {"eval_every": 10, "warmup": 2}
    },
    "sampling": {"settings": {"t1": {}}},
    "gaussian": {"n_components": 4},
    "evaluation": {"n_samples": 6},
    "classifier": {"epochs": 20, "batch_size": 8},
}
RESULTS = Path("results/tiny-colour")

pytestmark = pytest.mark.long


def draw(folder: Path, names: tuple[str, ...]) -> None:
    """Forty PNGs of 12 x 12 pixels: red to yellow discs, and blue to cyan bars, on dark ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12] + 0.5
    for i in range(40):
        picture = np.full((12, 12, 3), 30, np.uint8)
        if i % 2:
            across, down = rng.uniform(4, 8, 2)
            picture[np.hypot(x - across, y - down) < 3.5] = 230, rng.integers(20, 200), 30
        else:
            picture[np.abs(x - rng.uniform(3, 9)) < 1.6] = 30, rng.integers(20, 200), 230
        path = folder / names[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    draw(folder / "pictures", ("bar", "disc"))
    snakemake(folder, COLOUR, "all")
    return folder


def test_fields_keep_colours(run):
    results = run / RESULTS
    weights = pd.read_parquet(results / "weights.parquet")
    assert weights.psnr.median() > 24 and set(weights.label) == {0, 1}
    samples = results / "samples/train-fields/all"
    table, images = pd.read_csv(samples / "samples.csv"), read_clouds(samples / "clouds.npy")
    assert images.shape == (6, 12, 12, 3)
    for i, row in table.iterrows():
        name = row.shape_id.replace("__", "/")
        with Image.open(run / f"pictures/{name}.png") as truth:
            assert psnr(images[i], np.asarray(truth) / 255) > 18
        with Image.open(samples / f"images/{i}.png") as decoded:
            assert decoded.mode == "RGB" and decoded.size == (12, 12)
            np.testing.assert_allclose(np.asarray(decoded) / 255, images[i], atol=0.003)


def test_the_table_has_distances_and_classes(run):
    metrics = pd.read_csv(run / RESULTS / "tables/metrics.csv")
    found = metrics.set_index(["method", "metric"])["value"]
    for row in ("train-images", "train-fields", "quantised-train-fields", "gaussian", "tiny"):
        assert set(found[row].index) >= {"MMD x100", "COV %", "1-NNA %", "accuracy %"}
        assert np.isfinite(found[row]["MMD x100"])
    assert found["train-images", "accuracy %"] == found["train-fields", "accuracy %"] == 100
    assert (run / RESULTS / "report.html").stat().st_size > 100_000


def test_another_number_of_channels_and_an_edited_file_run_again(run):
    assert stale(run, COLOUR) == {}
    found = stale(run, changed("field.out_dim", 1, COLOUR))
    assert {"images", "shapes", "template", "fit_pack", "clouds", "classifier"} <= set(found)
    assert "images" in stale(run, changed("dataset.background", "black", COLOUR))
    draw(run / "pictures", ("bar", "disc"))
    assert stale(run, COLOUR) == {}, "written anew, with the same content"
    Image.new("RGB", (12, 12), "red").save(run / "pictures/disc/1.png")
    assert {"images", "fit_pack", "score"} <= set(stale(run, COLOUR))
