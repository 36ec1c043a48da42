"""Exported models: the same samples without the run, and nothing that should not be there."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

import nefgpt
from nefgpt.base.errors import InputError
from nefgpt.base.files import sha256_of
from nefgpt.runs.card import card
from nefgpt.runs.export import export
from nefgpt.runs.package import is_safe
from tests.toys import AIRPLANES


@pytest.fixture(scope="module")
def exported(toys, tmp_path_factory) -> Path:
    """A folder with airplanes.nefgpt, and the folder airplanes of the same content."""
    run, folder = nefgpt.open(toys / "results/airplanes"), tmp_path_factory.mktemp("exported")
    for name in ("airplanes.nefgpt", "airplanes"):
        export(run, folder / name, licence="cc-by-4.0")
    export(nefgpt.open(toys / "results/digits"), folder / "digits.zip")
    return folder


@pytest.mark.parametrize("name", ["airplanes", "airplanes.nefgpt", "digits.zip"])
def test_an_exported_model_is_the_run(toys, exported, name):
    model = nefgpt.open(exported / name)
    run = nefgpt.open(toys / "results" / name.partition(".")[0])
    assert model.models == {k: v for k, v in run.models.items() if run.portable(k)}
    assert model.size == run.size and model.block == run.block
    assert model.table.equals(run.table)
    for name in model.models:
        for setting in run.settings(name):
            ours, theirs = (r.sample(5, model=name, setting=setting) for r in (model, run))
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one.weights, other.weights)
                assert one.label == other.label
    first = next(iter(run.fields.values()))
    first.save(exported / "first.safetensors")
    one, other = (r.complete(r.field(exported / "first.safetensors"), 2) for r in (model, run))
    np.testing.assert_array_equal(one[0].weights, other[0].weights)
    for use in (lambda: model.fields, lambda: model.field(first.name)):
        with pytest.raises(InputError, match=r"open the run|is no file"):
            use()
    if run.size is None:
        path = run.folder / f"dataset/02691156/{first.name}/models/model_normalized.obj"
        found = model.encode(path, name=first.name)
    else:
        found = model.encode(run.fields[first.name].image())
    assert len(found.tokens) == len(first.tokens) and found.quality
    if run.size is None:
        np.testing.assert_array_equal(found.weights, first.weights)


def test_it_is_small_and_holds_no_training_field(toys, exported):
    run = nefgpt.open(toys / "results/airplanes")
    files = [path for path in (exported / "airplanes").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    assert {path.suffix for path in files} == {".json", ".safetensors", ".csv", ".md"}
    for field in run.fields.values():
        for path in files:
            assert field.weights.tobytes() not in path.read_bytes()
            assert field.coefficients.tobytes() not in path.read_bytes()


def test_the_same_run_gives_the_same_archive(toys, exported, tmp_path):
    again = export(
        nefgpt.open(toys / "results/airplanes"), tmp_path / "airplanes.nefgpt", None, "cc-by-4.0"
    )
    assert again.read_bytes() == (exported / "airplanes.nefgpt").read_bytes()


def test_folders_of_inputs_stay_private(toys, tmp_path):
    folder = tmp_path / "airplanes"
    shutil.copytree(toys / "results/airplanes", folder)
    values = json.loads((folder / "config.json").read_text())
    values["dataset"] |= {"kind": "folder", "root": "/home/somebody/secret/planes"}
    values["dataset"]["split_files"] = {s: f"/home/{s}.txt" for s in ("train", "val", "test")}
    (folder / "config.json").write_text(json.dumps(values))
    export(nefgpt.open(folder), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"/home" not in path.read_bytes(), path
    dataset = nefgpt.open(tmp_path / "out").config.dataset
    assert dataset.root == "planes" and dataset.split_files.val == "val.txt"


def test_the_card_has_what_the_hub_reads(toys, exported):
    text = (exported / "airplanes/README.md").read_text()
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "nefgpt"
    assert all(isinstance(tag, str) for tag in front["tags"])
    assert [entry["name"] for entry in front["model-index"]] == [
        "airplanes-tiny",
        "airplanes-gaussian",
    ]
    for entry in front["model-index"]:
        for result in entry["results"]:
            assert result["task"]["type"] and result["dataset"].keys() >= {"type", "name"}
            for metric in result["metrics"]:
                assert metric["type"] == "1-nna" and isinstance(metric["value"], float)
    assert {r["task"]["name"] for r in front["model-index"][0]["results"]} == {
        f"samples at {name}" for name in AIRPLANES["sampling"]["settings"]
    }
    assert "nefgpt sample airplanes --n 10" in body and "| train-meshes | all | 61 |" in body
    run = nefgpt.open(toys / "results/digits")
    other = yaml.safe_load(card(run, ["tiny"], "Ours", Path("d.zip")).split("---\n")[1])
    assert (other["license"], other["license_name"]) == ("other", "Ours")
    assert other["pipeline_tag"] == "unconditional-image-generation"
    assert len(other["model-index"]) == 1


def test_what_cannot_be_exported_is_said(toys, exported, tmp_path):
    run = nefgpt.open(toys / "results/airplanes")
    for use, message in (
        (lambda: export(nefgpt.open(exported / "airplanes"), tmp_path / "a"), "itself: copy it"),
        (lambda: export(run, exported / "airplanes.nefgpt"), "is there"),
        (lambda: export(run, exported / "airplanes"), "is not empty"),
        (lambda: export(run, tmp_path / "a", ["huge"]), "no model 'huge'"),
    ):
        with pytest.raises(InputError, match=message):
            use()
    one = nefgpt.open(export(run, tmp_path / "one.zip", ["gaussian"]))
    assert list(one.models) == ["gaussian"] and len(one.sample(2)) == 2
    with pytest.raises(InputError, match="no model 'tiny', but gaussian"):
        one.sample(1, model="tiny")


def test_a_changed_or_missing_file_is_named(exported, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported / "airplanes", folder)
    path = folder / "gpt/tiny/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors was changed"):
        nefgpt.open(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"lacks gpt/tiny/model\.safetensors"):
        nefgpt.open(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format 2, and this release reads format 1"),
        ("format", "x" * 10_000, "format 'xxx.*install"),
        ("models", ["tiny"], "broken at 'models'"),
        ("block", "many", "broken at 'block'"),
        ("models", {"tiny": "dreams"}, "a model of the kind 'dreams'"),
        ("models", {"../tiny": "gpt"}, "no file of its model '../tiny'"),
        ("files", {"../../x.json": "0"}, "broken at '../../x.json'"),
        ("files", {"/etc/x.json": "0"}, "broken at '/etc/x.json'"),
    ],
)
def test_what_it_says_of_itself_is_checked(exported, tmp_path, key, value, message):
    folder = tmp_path / "model"
    shutil.copytree(exported / "airplanes", folder)
    about = json.loads((folder / "nefgpt.json").read_text())
    (folder / "nefgpt.json").write_text(json.dumps(about | {key: value}))
    with pytest.raises(InputError, match=message):
        nefgpt.open(folder)


@pytest.mark.parametrize(
    "name",
    ["../out.json", "/tmp/out.json", "a/../../out.json", "model.pkl", "run.sh", "a\\..\\b.json"],
)
def test_names_that_lead_out_of_an_archive_are_refused(exported, tmp_path, name):
    assert not is_safe(name)
    shutil.copy(exported / "airplanes.nefgpt", tmp_path / "bad.nefgpt")
    with zipfile.ZipFile(tmp_path / "bad.nefgpt", "a") as stored:
        stored.writestr(zipfile.ZipInfo(name), "{}")
    with pytest.raises(InputError, match="which no exported model does"):
        nefgpt.open(tmp_path / "bad.nefgpt")
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.nefgpt"]


def test_broken_archives_are_refused(exported, tmp_path, monkeypatch):
    content = (exported / "airplanes.nefgpt").read_bytes()
    path = tmp_path / "cut.nefgpt"
    for broken in (content[:-100], content[: len(content) // 2], b"PK\x05\x06" + bytes(18)):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="no exported model"):
            nefgpt.open(path)
    places, refused = range(200, len(content), 499), 0
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        try:
            about = nefgpt.open(path).exported
        except InputError:
            refused += 1
        else:  # the time of a file, say
            assert about == nefgpt.open(exported / "airplanes.nefgpt").exported
    assert refused > 0.9 * len(places)
    path.write_bytes(content)
    monkeypatch.setattr("nefgpt.runs.package.LARGEST", 1000)
    with pytest.raises(InputError, match="would unpack to more"):
        nefgpt.open(path)


def test_an_archive_leaves_nothing_behind(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = nefgpt.open(exported / "airplanes.nefgpt")
    assert run.folder.parent == tmp_path and len(list(tmp_path.iterdir())) == 1
    assert sha256_of(run.file("config.json")) == run.exported["files"]["config.json"]
    run.sample(1)
    del run
    assert not list(tmp_path.iterdir())
