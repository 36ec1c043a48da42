"""Colour images: read, compared, classified, and kept in a field of three outputs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from nefgpt.base.errors import InputError
from nefgpt.config import load, validate
from nefgpt.evaluation import classifier, clouds
from nefgpt.evaluation.settings import ClassifierTraining
from nefgpt.fields import fused
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import optimise
from nefgpt.generators.regression import frame_points, signal_psnr
from nefgpt.inputs.images import read_image
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.settings import Dataset
from nefgpt.signals import images, similarity, table
from nefgpt.signals.file import load_signal
from nefgpt.signals.settings import Extract

SPEC = FieldSpec(
    in_dim=2,
    out_dim=3,
    octaves=3,
    include_input=False,
    frequency=1.0,
    hidden=(16, 16),
    activation="relu",
    output_bias=True,
    output_activation="sigmoid",
    target="brightness",
)
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
RGB = RNG.integers(256, size=(5, 4, 3), dtype=np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])


def stored(tmp_path, array: np.ndarray, **about) -> str:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"  # a file is read once
    Image.fromarray(array).save(path, **about)
    return str(path)


def test_colour_is_kept_or_made_grey(tmp_path):
    path = stored(tmp_path, RGB)
    np.testing.assert_array_equal(read_image(path, 3), (RGB / 255).astype(np.float32))
    np.testing.assert_allclose(read_image(path, 1), RGB @ LUMA / 255, atol=0.003)


def test_grey_files_are_of_any_depth_and_of_equal_channels(tmp_path):
    grey = RGB[..., 0]
    deep = RNG.integers(65536, size=(5, 4), dtype=np.uint16)
    for array, expected in ((grey, grey / 255), (deep, deep / 65535), (grey > 99, grey > 99)):
        path = stored(tmp_path, array)
        np.testing.assert_allclose(read_image(path, 1), expected, atol=1e-6)
        colour = read_image(path, 3)
        assert colour.shape == (5, 4, 3) and colour.dtype == np.float32
        np.testing.assert_allclose(colour, np.dstack([expected] * 3), atol=1e-6)


def test_what_is_transparent_is_white(tmp_path):
    alpha = np.array([0, 128, 255, 255], np.uint8) * np.ones((5, 1), np.uint8)
    path = stored(tmp_path, np.dstack([RGB, alpha]))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(read_image(path, 3), share * RGB / 255 + 1 - share, atol=0.005)
    assert (read_image(path, 1)[:, 0] == 1).all()
    palette = Image.fromarray(np.zeros((5, 4), np.uint8), mode="P")
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert (read_image(str(tmp_path / "p.png"), 3) == 1).all()


def folder(root, names, size=(6, 6)) -> None:
    for i, name in enumerate(names):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), i, np.uint8)).save(path)


def test_subfolders_name_classes_where_there_are_any(tmp_path):
    loose, sorted_ = tmp_path / "loose", tmp_path / "sorted"
    folder(loose, [f"{i}" for i in range(20)])
    folder(sorted_, [f"{('disc', 'bar')[i % 2]}/{i}" for i in range(20)])
    found = list_shapes(Dataset(kind="images", root=str(loose)), tmp_path, 0)
    assert len(found) == 20 and {shape.label for shape in found} == {None}
    found = list_shapes(Dataset(kind="images", root=str(sorted_)), tmp_path, 0)
    labels = {shape.shape_id: shape.label for shape in found}
    assert labels["bar__3"] == 0 and labels["disc__4"] == 1 and len(labels) == 20
    folder(sorted_, ["7"])
    with pytest.raises(InputError, match=r"7\.png is in no subfolder"):
        list_shapes(Dataset(kind="images", root=str(sorted_)), tmp_path, 0)
    with pytest.raises(InputError, match="there is no such folder"):
        list_shapes(Dataset(kind="images", root="nowhere"), tmp_path, 0)


def test_mixed_sizes_are_refused_before_any_fit(tmp_path):
    folder(tmp_path, ["a", "b"])
    folder(tmp_path, ["c"], size=(6, 7))
    sources = {name: str(tmp_path / f"{name}.png") for name in "abc"}
    images.prepare(sources, tmp_path, tmp_path / "p.json", channels=3)
    entries = [[name, "train", None] for name in "abc"]
    outs = tmp_path / "shapes.parquet", tmp_path / "rejected.tsv"
    with pytest.raises(
        InputError, match=r"but: \S+/a\.png has \(6, 6, 3\), \S+/c\.png has \(6, 7, 3\)"
    ):
        table.collect(entries, tmp_path, *outs, 0.1)
    table.collect(entries[:2], tmp_path, *outs, 0.1)


def test_colour_needs_files_that_have_it():
    config = dataclasses.asdict(load(ROOT / "config/digits.yaml"))
    config["field"]["out_dim"] = 3
    with pytest.raises(InputError, match=r"dataset\.kind digits needs field\.out_dim 1"):
        validate(config)
    config["dataset"] |= {"kind": "images", "root": "pictures"}
    assert validate(config).signals == "images"
    config["field"]["out_dim"] = 2
    with pytest.raises(InputError, match=r"dataset\.kind images needs field\.out_dim 1 or 3"):
        validate(config)


def test_similarity_is_the_mean_of_the_channels():
    a, b = RNG.random((2, 3, 11, 9, 3)).astype(np.float32)
    found = similarity.ssim_matrix(a, b)
    for (i, j), value in np.ndenumerate(found):
        expected = structural_similarity(a[i], b[j], data_range=1.0, channel_axis=2)
        assert value == pytest.approx(expected, abs=1e-6)
    a[1, 0, 0, 2] = np.nan
    assert np.isinf(images.distances(a, b)[1]).all()
    rows, apart = images.nearest(a[[0, 2]], np.concatenate([b, a[[0, 2]]]), 2)
    assert rows[:, 0].tolist() == [3, 4] and (apart[:, 0] == 0).all()


def test_a_field_keeps_a_colour_image(tmp_path):
    picture = np.zeros((12, 10, 3), np.uint8)
    picture[2:7, 1:8] = 250, 60, 20
    images.prepare({"a": stored(tmp_path, picture)}, tmp_path, tmp_path / "p.json", channels=3)
    signal = load_signal(tmp_path / "a.npz")
    assert signal["values"].shape == (120, 3)
    np.testing.assert_array_equal(images.real(signal), (picture / 255).astype(np.float32))
    start = random_weights(SPEC, 0)
    settings = Optimiser(steps=400, points_per_step=120, loss="mse")
    data = optimise.training_points(SPEC, [signal])
    fitted = optimise.fit_fields(SPEC, *data, start[None], Space(start), settings, 0, False)
    weights = fitted.weights[0]
    quality = images.quality(SPEC, weights, signal, 0)
    assert quality["psnr"] > 25 and quality["ssim"] > 0.9
    found = images.decode(SPEC, weights, Extract(), 0, (12, 10, 3))
    found.save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "RGB" and image.size == (10, 12)
        np.testing.assert_allclose(np.asarray(image) / 255, found.compared, atol=0.003)
    values = fused.values(SPEC, weights, signal["points"])
    np.testing.assert_allclose(values.reshape(12, 10, 3), found.compared, atol=1e-6)
    grey = dataclasses.replace(SPEC, out_dim=1)
    with pytest.raises(InputError, match=r"another number of values a point than field\.out_dim"):
        optimise.training_points(grey, [signal])


def test_a_classifier_sees_colour(tmp_path):
    labels = np.arange(120) % 2
    pictures = RNG.random((120, 8, 8, 3)).astype(np.float32) * 0.4
    pictures[np.arange(120), ..., 2 * labels] += 0.5  # red or blue, equally bright
    settings = ClassifierTraining(epochs=6, batch_size=16, learning_rate=3e-3)
    model = classifier.train(pictures[:80], labels[:80], settings, 0)
    classifier.save_classifier(tmp_path / "c.safetensors", model, {"n_classes": 2})
    loaded = classifier.load_classifier(tmp_path / "c.safetensors")
    pictures[119, 0, 0, 0] = np.nan
    found = classifier.probabilities(loaded, pictures[80:])
    right, _ = classifier.scores(found, labels[80:])
    assert right[:-1].mean() > 0.95 and not right[-1]


@pytest.mark.parametrize("shape", [(4, 7), (4, 5, 3, 2)])
def test_what_is_compared_has_any_shape(shape, tmp_path):
    np.save(tmp_path / "c.npy", np.zeros(shape, np.float32))
    assert clouds.read_clouds(tmp_path / "c.npy").shape == shape
    np.save(tmp_path / "c.npy", np.zeros((0, *shape[1:]), np.float32))
    with pytest.raises(InputError, match="holds no clouds"):
        clouds.read_clouds(tmp_path / "c.npy")


def test_written_fields_are_measured_over_all_outputs():
    fields = np.stack([random_weights(SPEC, i) for i in range(2)])
    found = signal_psnr(SPEC, fields, fields[::-1].copy(), frame_points(2, 8))
    assert found.shape == (2, 2) and found[0, 1] == found[1, 0] == 100 and found[0, 0] < 100


def test_a_picture_shows_colour_as_it_is_and_grey_in_black_on_white():
    red = np.zeros((6, 4, 3), np.float32)
    red[..., 0] = 1
    painted = images.picture(red, 96)
    assert painted.shape == (96, 96, 4)
    assert painted[48, 48].tolist() == [255, 0, 0, 255]
    assert painted[48, 0, 3] == 0, "beside a narrow image there is nothing"
    assert images.picture(red[..., 1], 96)[48, 48].tolist() == [255, 255, 255, 255]
