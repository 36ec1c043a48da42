"""Folders as people have them: hidden files, links, ShapeNet's and MNIST's in many layouts."""

import gzip
import logging
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nefgpt.base.errors import InputError
from nefgpt.config import load, validate
from nefgpt.inputs.images import read_image
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.settings import Dataset, Split

ROOT = Path(__file__).parents[2]
SHARES = Split(train=0.5, val=0.25, test=0.25)
NAMES = [f"s{i:02}" for i in range(24)]


def listed(root, kind="folder", **more):
    return list_shapes(Dataset(kind=kind, root=str(root), split=SHARES, **more), Path("r"), 0)


def ids(shapes) -> set[str]:
    return {shape.shape_id for shape in shapes}


def meshes(folder: Path, names=NAMES, end=".obj") -> Path:
    for name in names:
        path = folder / f"{name}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_hidden_files_are_skipped_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    meshes(tmp_path)
    meshes(tmp_path, [f"._{name}" for name in NAMES[:3]])
    meshes(tmp_path / ".git", ["old"])
    meshes(tmp_path, ["notes", "more"], ".fbx")
    (tmp_path / ".DS_Store").touch()
    assert ids(listed(tmp_path)) == set(NAMES)
    assert caplog.messages == [
        f"dataset: 24 meshes in {tmp_path}; 3 hidden files skipped; 1 hidden folders skipped; "
        "2 .fbx files are not read"
    ]
    synset = tmp_path / "shapenet" / "02691156"
    meshes(synset, [f"{name}/models/model_normalized" for name in NAMES])
    (synset / "._s00").mkdir()
    (synset.parent / ".cache").mkdir()
    assert ids(listed(synset.parent, "shapenet")) == set(NAMES)


def test_linked_folders_are_followed_once(tmp_path):
    root = meshes(tmp_path / "root" / "own", NAMES[:12]).parent
    elsewhere = meshes(tmp_path / "elsewhere", NAMES[12:])
    (root / "a link").symlink_to(elsewhere)
    (root / "a link to the same").symlink_to(elsewhere)
    (root / "a link to its own").symlink_to(root / "own")
    (root / "own" / "circle").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (elsewhere / "back").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    found = ids(listed(root))
    assert found == {f"own__{n}" for n in NAMES[:12]} | {f"a_link__{n}" for n in NAMES[12:]}
    (root / "s99.obj").symlink_to("nowhere")
    assert "s99" in ids(listed(root)), "a broken link is an input, which is rejected by name"


def test_roots_are_resolved_and_named_in_full(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    meshes(tmp_path / "mine")
    (found, *_) = listed("~/mine")
    assert Path(found.path) == tmp_path / "mine" / "s00.obj"
    (found, *_) = listed("mine")
    assert found.path == "mine/s00.obj", "paths stay as short as they are given"
    assert caplog.messages == [f"dataset: 24 meshes in {tmp_path}/mine"] * 2
    with pytest.raises(InputError, match=r"= ~nobody/x .*: there is no such folder"):
        listed("~nobody/x")
    for root in ("~/none", "none"):
        with pytest.raises(InputError, match=rf"= {root} \({tmp_path}/none\): there is no such"):
            listed(root)
    with pytest.raises(InputError, match=r"s00\.obj is a file: name the folder"):
        listed(tmp_path / "mine" / "s00.obj")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    meshes(tmp_path / "closed")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="closed: Permission denied"):
        listed(tmp_path)


def test_what_lies_there_instead_is_named(tmp_path):
    meshes(tmp_path, NAMES, ".fbx")
    with pytest.raises(InputError, match=r"no meshes found \(.*\.obj.*\) among 24 \.fbx"):
        listed(tmp_path)
    with pytest.raises(InputError, match=r"no images found \(.*\.png.*\) among 24 \.fbx"):
        listed(tmp_path, "images")


@pytest.mark.parametrize("model", ["model", "models/model_normalized"])
def test_shapenet_may_be_named_one_level_off(tmp_path, model):
    home = tmp_path / "data" / "ShapeNetCore"
    for synset in ("02691156", "03001627"):
        meshes(home / synset, [f"{synset}-{name}/{model}" for name in NAMES])
    right = listed(home, "shapenet", synset="02691156")
    assert len(right) == 24
    for root, synset in ((home / "02691156", None), (home / "02691156", "02691156")):
        assert listed(root, "shapenet", synset=synset) == right
    assert listed(home.parent, "shapenet", synset="02691156") == right
    assert len(listed(home.parent, "shapenet")) == 48
    with pytest.raises(InputError, match=f"not '03001627': set dataset.root: {home}"):
        listed(home / "02691156", "shapenet", synset="03001627")
    one = home / "02691156" / "02691156-s00"
    with pytest.raises(InputError, match=f"is one model: set dataset.root: {home}"):
        listed(one, "shapenet")
    if model.startswith("models"):
        with pytest.raises(InputError, match=f"is one model: set dataset.root: {home}"):
            listed(one / "models", "shapenet")
    with pytest.raises(InputError, match=r"no folder \S+/02818832; there are 02691156, 03001627"):
        listed(home, "shapenet", synset="02818832")
    (home / "02818832.zip").touch()
    with pytest.raises(InputError, match=r"but 02818832\.zip: unpack it"):
        listed(home, "shapenet", synset="02818832")
    meshes(tmp_path / "plain" / "airplane" / "train", NAMES, ".off")
    with pytest.raises(InputError, match=r"24 meshes lie elsewhere .* dataset\.kind: folder"):
        listed(tmp_path / "plain", "shapenet")
    meshes(tmp_path / "data" / "v2" / "02691156", ["a/model"])
    with pytest.raises(InputError, match=rf"set dataset\.root: {home} or {tmp_path}/data/v2"):
        listed(home.parent, "shapenet", synset="02691156")


@pytest.mark.parametrize(
    ("value", "meant"),
    [("03001627", "03001627"), ("2691156", "02691156"), ("04256520", "04256520")],
)
def test_a_synset_without_quotes_says_what_to_write(value, meant, tmp_path):
    text = (ROOT / "config/paper-airplanes.yaml").read_text()
    path = tmp_path / "c.yaml"
    path.write_text(text.replace('"02691156"', value))
    with pytest.raises(InputError, match=f'quote it, synset: "{meant}"'):
        load(path)
    path.write_text(text.replace('"02691156"', f'"{meant}"'))
    assert load(path).dataset.synset == meant


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


IMAGES = np.random.default_rng(0).integers(256, size=(24, 5, 6), dtype=np.uint8)
LABELS = np.arange(24, dtype=np.uint8) % 10
PARTS = {"images": ("idx3", IMAGES), "labels": ("idx1", LABELS)}


def mnist(root: Path, layout: str, end: str = "", **parts) -> Path:
    """MNIST's four files; `layout` has {0} for train-images and so on, {1} for idx3 or idx1."""
    for part in ("train", "t10k"):
        for what, (kind, values) in PARTS.items():
            path = root / (layout.format(f"{part}-{what}", kind) + end)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = idx(parts.get(what, values))
            path.write_bytes(gzip.compress(content) if end == ".gz" else content)
    return root


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    "layout",
    ["{0}-{1}-ubyte", "{0}.{1}-ubyte", "MNIST/raw/{0}-{1}-ubyte", "{0}-{1}-ubyte/{0}-{1}-ubyte"],
)
def test_mnist_is_found_in_every_layout(tmp_path, layout, end):
    shapes = listed(mnist(tmp_path, layout, end), "mnist")
    assert len(shapes) == 48 and {s.shape_id for s in shapes if s.split == "test"} == {
        f"test-{i:05}" for i in range(24)
    }
    one = next(shape for shape in shapes if shape.shape_id == "train-00007")
    assert one.label == 7
    np.testing.assert_array_equal(read_image(one.path), IMAGES[7] / np.float32(255))


def test_kaggle_and_torchvision_have_files_twice(tmp_path):
    mnist(tmp_path / "kaggle", "{0}-{1}-ubyte/{0}-{1}-ubyte")
    mnist(tmp_path / "kaggle", "{0}.{1}-ubyte")
    (shape, *_) = listed(tmp_path / "kaggle", "mnist")
    assert shape.path == f"{tmp_path}/kaggle/t10k-images.idx3-ubyte#0"
    mnist(tmp_path / "torch" / "MNIST" / "raw", "{0}-{1}-ubyte")
    mnist(tmp_path / "torch" / "MNIST" / "raw", "{0}-{1}-ubyte", ".gz")
    (shape, *_) = listed(tmp_path / "torch", "mnist")
    assert shape.path.endswith("raw/t10k-images-idx3-ubyte#0")
    mnist(tmp_path / "torch" / "FashionMNIST" / "raw", "{0}-{1}-ubyte")
    with pytest.raises(InputError, match=r"FashionMNIST/raw and \S+/MNIST/raw hold .*set dataset"):
        listed(tmp_path / "torch", "mnist")


def test_images_and_labels_are_counted(tmp_path):
    mnist(tmp_path / "few", "{0}-{1}-ubyte", labels=LABELS[:-1])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte has 24 images, .* 23 labels"):
        listed(tmp_path / "few", "mnist")
    mnist(tmp_path / "turned", "{0}-{1}-ubyte", images=LABELS, labels=IMAGES)
    with pytest.raises(InputError, match=r"not images \[n, height, width\] and labels"):
        listed(tmp_path / "turned", "mnist")


@pytest.mark.parametrize(
    "name", ["train.csv", "mnist.npz", "emnist-letters-train-images-idx3-ubyte"]
)
def test_other_forms_of_mnist_are_refused_by_name(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{re.escape(name)} cannot be read: take MNIST's four"):
        listed(tmp_path, "mnist")


def pictures(root: Path, names) -> Path:
    for name in names:
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    return root


def test_folders_of_splits_are_no_classes(tmp_path):
    names = [
        f"{part}/{label}/{n}" for part in ("training", "testing") for label in "35" for n in NAMES
    ]
    for kind in ("images", "mnist"):
        shapes = listed(pictures(tmp_path / "a" / "mnist_png", names).parent, kind)
        assert {shape.label for shape in shapes} == {0, 1}
        for shape in shapes:
            assert ("testing" in shape.path) == (shape.split == "test")
            assert shape.label == int("/5/" in shape.path)
        assert {shape.split for shape in shapes} == {"train", "val", "test"}
    pictures(tmp_path / "a" / "mnist_png", [f"validation/{label}/0" for label in "35"])
    shapes = listed(tmp_path / "a", "images")
    assert {s.split for s in shapes if "training" in s.path} == {"train"}
    assert {s.split for s in shapes if "validation" in s.path} == {"val"}
    pictures(tmp_path / "a" / "mnist_png", ["extra/3/0"])
    with pytest.raises(InputError, match="has extra beside testing and training and validation"):
        listed(tmp_path / "a", "images")
    two = [f"{part}/{label}/{n}" for part in ("train", "val") for label in "35" for n in NAMES]
    shapes = listed(pictures(tmp_path / "two", two), "images")
    assert {s.split for s in shapes if "/train/" in s.path} == {"train", "test"}
    assert {s.split for s in shapes if "/val/" in s.path} == {"val"}
    loose = pictures(
        tmp_path / "loose", [f"{part}/{n}" for part in ("train", "test") for n in NAMES]
    )
    shapes = listed(loose, "images")
    assert {shape.label for shape in shapes} == {None}
    assert {s.split for s in shapes if "/test/" in s.path} == {"test"}
    with pytest.raises(InputError, match="is in no subfolder"):
        listed(loose, "mnist")


def test_an_empty_split_says_what_is_there_and_what_to_change(tmp_path):
    meshes(tmp_path, NAMES)
    empty = Split(train=0.5, val=0.5, test=0.0)
    dataset = Dataset(kind="folder", root=str(tmp_path), split=empty)
    message = (
        rf"the test split is empty: of the 24 shapes found in {tmp_path}, \d+ are train, \d+ are "
        r"val; add shapes, or raise dataset\.split\.test"
    )
    with pytest.raises(InputError, match=message):
        list_shapes(dataset, Path("r"), 0)
    with pytest.raises(InputError, match=r"of the 2 shapes .* raise dataset\.n_shapes or"):
        listed(tmp_path, n_shapes=2)


def test_real_folders_are_listed_as_before():
    data = ROOT.parent / "shared" / "data" / "airplanes"
    if not data.is_dir():
        pytest.skip("the shared data are not here")
    found = {shape.path for shape in listed(data)}
    assert found == {str(path) for path in data.glob("*.ply")} and len(found) == 227


def test_the_configuration_takes_one_file_of_all_splits():
    values = vars(load(ROOT / "config/config.yaml"))
    dataset = {"kind": "folder", "root": "x", "split_files": "all.csv"}
    assert validate(values | {"dataset": dataset}).dataset.split_files == "all.csv"
    dataset["split_files"] = {"train": "a", "test": "b"}
    assert validate(values | {"dataset": dataset}).dataset.split_files.val is None
