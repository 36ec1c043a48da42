"""The classifier: learns what can be learned, and cannot be fooled by empty samples."""

import json
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json
from nefgpt.evaluation import classifier
from nefgpt.evaluation.classifier import class_scores
from nefgpt.evaluation.settings import ClassifierTraining

SETTINGS = ClassifierTraining(epochs=8, batch_size=16, learning_rate=3e-3)


def bars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with one bright column (class 0) or one bright row (class 1)."""
    rng = np.random.default_rng(seed)
    images, labels = rng.random((n, 8, 8)).astype(np.float32) * 0.2, np.arange(n) % 2
    for image, label, place in zip(images, labels, rng.integers(8, size=n), strict=True):
        image[(slice(None), place) if label == 0 else place] = 1
    return images, labels


@pytest.fixture(scope="module")
def model():
    return classifier.train(*bars(200, 0), SETTINGS, seed=0)


def test_learns_and_generalises(model):
    images, labels = bars(100, 1)
    right, entropy = classifier.scores(classifier.probabilities(model, images), labels)
    assert right.mean() > 0.95 and entropy.mean() < 0.3
    wrong, _ = classifier.scores(classifier.probabilities(model, images), 1 - labels)
    assert wrong.mean() == pytest.approx(1 - right.mean())


def test_same_seed_same_classifier(model):
    again = classifier.train(*bars(200, 0), SETTINGS, seed=0)
    images, _ = bars(10, 2)
    found = (classifier.probabilities(m, images) for m in (model, again))
    np.testing.assert_array_equal(*found)


def test_image_of_nan_is_never_right(model):
    images = np.full((2, 8, 8), np.nan, np.float32)
    found = classifier.probabilities(model, images)
    right, entropy = classifier.scores(found, np.array([0, 1]))
    assert not right.any() and entropy == pytest.approx(np.log(2))


def test_command_line_and_class_scores(tmp_path, monkeypatch):
    for name, seed in (("train", 0), ("test", 1)):
        images, labels = bars(120, seed)
        np.save(tmp_path / f"{name}.npy", images)
        pd.DataFrame({"shape_id": range(120), "label": labels}).to_csv(tmp_path / f"{name}.csv")
    words = ["classifier", "--train", str(tmp_path / "train.npy")]
    words += ["--test", str(tmp_path / "test.npy"), "--out", str(tmp_path / "c.safetensors")]
    words += ["--report", str(tmp_path / "c.json"), "--settings"]
    monkeypatch.setattr(sys, "argv", [*words, json.dumps(asdict(SETTINGS))])
    classifier.main()
    report = read_json(tmp_path / "c.json")
    assert report["accuracy %"] > 90 and set(report["accuracy % by class"]) == {"0", "1"}
    table = pd.DataFrame({"label": labels.astype(str)})
    of_all, of_classes = class_scores(images, table, tmp_path / "c.safetensors")
    assert of_all["accuracy %"] == pytest.approx(report["accuracy %"])
    assert [row["n"] for row in of_classes] == [60, 60]
    with pytest.raises(InputError, match="without a label"):
        class_scores(images, table.assign(label=""), tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(InputError, match=r"cannot read classifier .*c\.safetensors"):
        classifier.load_classifier(tmp_path / "c.safetensors")
