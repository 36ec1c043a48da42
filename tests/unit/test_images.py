"""Images as signals: reading, rendering, SSIM, and the fit of a real digit."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from nefgpt.base.errors import InputError
from nefgpt.fields import file, fused
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import fit, template
from nefgpt.fitting.settings import Template
from nefgpt.inputs.idx import read_idx
from nefgpt.inputs.images import read_image
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.settings import Dataset, Split
from nefgpt.signals import images, similarity
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import Shown, kind_of
from nefgpt.signals.settings import Extract

SPEC = FieldSpec(
    in_dim=2,
    octaves=4,
    include_input=False,
    frequency=1.0,
    hidden=(16, 16),
    activation="relu",
    output_bias=True,
    output_activation="sigmoid",
    target="brightness",
)


def test_papers_field_has_561_weights():
    assert SPEC.n_inputs == 16 and SPEC.n_weights == 561
    assert kind_of(SPEC) is images


def idx_bytes(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_round_trip(suffix, tmp_path):
    values = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(values)) if suffix else idx_bytes(values))
    np.testing.assert_array_equal(read_idx(path), values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        idx_bytes(np.zeros((3, 4, 4), np.uint8))[:-1],
        idx_bytes(np.zeros(4, np.uint8)) + b"x",
        b"\0\0\x0d\x01" + bytes(8),
        b"\0\0\x08\x03" + b"\xff" * 12,
        b"\x89PNG" + bytes(30),
    ],
)
def test_broken_idx_is_named(data, tmp_path):
    (tmp_path / "images").write_bytes(data)
    (tmp_path / "images.gz").write_bytes(gzip.compress(data)[:-3])
    for path in (tmp_path / "images", tmp_path / "images.gz", tmp_path / "none"):
        with pytest.raises(InputError, match=path.name):
            read_idx(path)


def dataset(kind, root=None, **changes) -> Dataset:
    shares = Split(train=0.6, val=0.2, test=0.2)
    return Dataset(kind=kind, root=root and str(root), split=shares, **changes)


def test_digits_are_listed_with_their_labels(tmp_path):
    shapes = list_shapes(dataset("digits"), tmp_path, 0)
    assert len(shapes) == 1797 and {shape.label for shape in shapes} == set(range(10))
    assert {shape.pack for shape in shapes} == set(range(8))
    few = list_shapes(dataset("digits", n_shapes=100), tmp_path, 0)
    by_id = {shape.shape_id: shape for shape in shapes}
    assert len(few) == 100
    assert all(by_id[s.shape_id].split == s.split for s in few), "a cap moves no other"


def test_mnist_keeps_its_test_split(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 40), ("t10k", 10)):
        values = rng.integers(256, size=(n, 5, 6), dtype=np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(values))
        labels = np.arange(n, dtype=np.uint8) % 10
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    shapes = list_shapes(dataset("mnist", tmp_path), tmp_path, 0)
    assert {s.shape_id[:5] for s in shapes if s.split == "test"} == {"test-"}
    assert sum(s.split == "test" for s in shapes) == 10
    assert {"train", "val"} == {s.split for s in shapes if s.shape_id.startswith("train")}
    image = read_image(next(s.path for s in shapes if s.shape_id == "test-00009"))
    np.testing.assert_allclose(image, values[9] / 255, atol=1e-7)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte"):
        list_shapes(dataset("mnist", tmp_path), tmp_path, 0)


def test_png_folders_name_classes(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(12):
            picture = np.full((4, 6), 100 * label + i, np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    shapes = list_shapes(dataset("mnist", tmp_path), tmp_path, 0)
    assert {s.shape_id: s.label for s in shapes}["dog__3"] == 1
    path = next(s.path for s in shapes if s.shape_id == "dog__3")
    np.testing.assert_allclose(read_image(path), np.full((4, 6), 103 / 255), atol=1e-6)
    (tmp_path / "loose.png").write_bytes((tmp_path / "cat/0.png").read_bytes())
    with pytest.raises(InputError, match=r"loose\.png is in no subfolder"):
        list_shapes(dataset("mnist", tmp_path), tmp_path, 0)


def test_pixels_are_where_the_field_sees_them(tmp_path):
    image = np.zeros((3, 5), np.uint8)
    image[0, 4] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    images.prepare({"a": str(tmp_path / "a.png")}, tmp_path, tmp_path / "p.json")
    signal = load_signal(tmp_path / "a.npz")
    assert signal["points"][signal["values"].argmax()] == pytest.approx([0.8, -2 / 3])
    np.testing.assert_array_equal(images.real(signal), image / 255)
    weights = random_weights(SPEC, 0)
    rendered = images.render(SPEC, weights[None], 3, 5)[0]
    values = fused.values(SPEC, weights, signal["points"])
    np.testing.assert_allclose(rendered.ravel(), values, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "side"),
    [((8, 8), 98, 12), ((2, 4), 98, 24), ((3, 2, 3), 20, 6), ((28, 28), 98, 3)],
)
def test_pixels_of_a_picture_are_squares(shape, size, side):
    """Grey in black on white, colours as they are, in a frame in the middle."""
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    picture = images.picture(image, size)
    assert picture.shape == (size, size, 4) and picture.dtype == np.uint8
    rows, columns = np.nonzero(picture[..., 3])
    shown = picture[rows.min() + 1 : rows.max(), columns.min() + 1 : columns.max(), :3]
    assert shown.shape[:2] == (side * shape[0], side * shape[1])
    assert abs(rows.min() - (size - 1 - rows.max())) <= 1
    assert (picture[rows.min(), columns.min() : columns.max() + 1, :3] == 0xDA).all()
    pixels = shown.reshape(shape[0], side, shape[1], side, 3)
    assert (pixels == pixels[:, :1, :, :1]).all()
    truth = image if len(shape) == 3 else np.repeat(1 - image[..., None], 3, axis=2)
    np.testing.assert_allclose(pixels[:, 0, :, 0], 255 * truth, atol=0.51)


def test_a_large_image_is_made_small():
    image = np.zeros((300, 100), np.float32)
    image[:, 50:] = 1
    picture = images.picture(image, 62)
    assert picture[31, 31 - 9, :3].tolist() == [255] * 3
    assert picture[31, 31 + 8, :3].tolist() == [0] * 3
    assert np.flatnonzero(picture[31, :, 3]).size == 22 and picture[..., 3].any(axis=1).all()


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_a_decoded_image_is_read_back(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    found, gone = images.pictures([Shown(tmp_path / "0.png"), Shown(tmp_path / "1.png")], 20)
    assert gone is None
    np.testing.assert_array_equal(found, images.picture(image / 255, 20))


def test_a_broken_decoded_image_is_named(tmp_path):
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match=r"0\.png"):
        images.pictures([Shown(tmp_path / "0.png")], 20)


def test_unreadable_image_is_rejected_with_its_name(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    images.prepare({"bad": str(tmp_path / "bad.png")}, tmp_path, tmp_path / "p.json")
    assert "bad.png" in load_signal(tmp_path / "bad.npz")["rejected"]


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 12)])
def test_ssim_is_that_of_scikit_image(size):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(0)
    a = rng.random((4, *size), dtype=np.float32)
    b = np.clip(a[:3] + rng.normal(0, 0.2, (3, *size)), 0, 1).astype(np.float32)
    found = similarity.ssim_matrix(a, b)
    for i in range(4):
        for j in range(3):
            expected = metrics.structural_similarity(a[i], b[j], data_range=1.0)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


@given(arrays(np.float32, (3, 8, 8), elements=st.floats(0, 1, width=32)))
def test_ssim_distance_is_a_distance_to_oneself(values):
    found = images.distances(values)
    assert (np.diag(found) == 0).all() and (found >= 0).all() and (found <= 1.01).all()
    np.testing.assert_allclose(found, found.T, atol=1e-9)
    np.testing.assert_allclose(images.distances(values, values.copy()), found, atol=1e-9)


def test_image_of_nan_is_far_from_all():
    values = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    values[1] = np.nan
    found = images.distances(values, values[[0, 2]])
    assert np.isinf(found[1]).all() and np.isfinite(found[[0, 2]]).all()


def test_psnr():
    assert similarity.psnr(np.zeros((2, 2)), np.full((2, 2), 0.1)) == pytest.approx(20)
    assert similarity.psnr(np.ones((2, 2)), np.ones((2, 2))) == 100


def test_digit_is_fitted_from_a_template(tmp_path):
    sources = {f"d{i}": f"scikit-learn digits#{i}" for i in range(12)}
    images.prepare(sources, tmp_path, tmp_path / "p.json")
    paths = {name: tmp_path / f"{name}.npz" for name in sources}
    chosen = Template(n_shapes=10, n_components=6, steps=150, points_per_step=64, loss="mse")
    out = tmp_path / "template.safetensors"
    template.make(SPEC, {n: paths[n] for n in list(paths)[:10]}, out, chosen, 0)
    settings = Optimiser(steps=100, points_per_step=64, learning_rate=0.1, loss="mse")
    field = tmp_path / "f.safetensors"
    fit.fit_shapes(SPEC, {"d3": (paths["d3"], field)}, settings, 0, out)
    weights, record = file.load_field(field)[1:3]
    assert record["psnr"] > 12 and set(images.QUALITY) <= set(record)
    truth = images.real(load_signal(paths["d3"]))
    again = similarity.psnr(images.render(SPEC, weights[None], 8, 8)[0], truth)
    assert again == pytest.approx(record["psnr"], abs=1e-3)
    found = images.decode(SPEC, weights, Extract(), 0, (16, 24))
    assert found.compared.shape == (16, 24)
    found.save(tmp_path / "d3.png")
    stored = np.asarray(Image.open(tmp_path / "d3.png"))
    np.testing.assert_allclose(stored / 255, found.compared, atol=0.003)
    assert images.decode(SPEC, weights * np.nan, Extract(), 0, (8, 8)).compared is None


@pytest.mark.parametrize("name", ["a#1.png", "x.png#2.png", "b#/c.png"])
def test_a_file_may_have_a_number_sign_in_its_name(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((4, 6), 103, np.uint8)).save(path)
    np.testing.assert_allclose(read_image(str(path)), np.full((4, 6), 103 / 255), atol=1e-6)
