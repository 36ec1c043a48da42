"""A trained run as a thing to use, in Python."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import nefgpt
from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.weights import read_fields
from nefgpt.runs.field import NeuralField

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def planes(toys) -> nefgpt.Run:
    return nefgpt.open(toys / "results/airplanes")


@pytest.fixture(scope="module")
def digits(toys) -> nefgpt.Run:
    return nefgpt.open(toys / "results/digits")


def weights(fields) -> np.ndarray:
    return np.stack([field.weights for field in fields])


@pytest.mark.parametrize(
    ("name", "model", "setting"),
    [
        ("airplanes", "tiny", "k3-t1"),
        ("airplanes", "tiny", "t1"),
        ("airplanes", "gaussian", "pca"),
        ("digits", "tiny", "t1"),
        ("digits", "gaussian", "pca"),
    ],
)
def test_samples_are_those_of_the_row_whatever_n(toys, name, model, setting):
    run = nefgpt.open(toys / "results" / name)
    row = read_fields(run.folder / f"samples/{model}/{setting}/fields.parquet")
    n, draws = run.block, run.config.evaluation.draws
    assert len(row.weights) == n * draws
    for draw in range(draws):
        expected = row.weights[draw * n : (draw + 1) * n]
        for count in (1, n, 2 * n + 1):
            made = run.sample(count, model=model, setting=setting, seed=draw)
            shared = min(n, count)
            np.testing.assert_array_equal(weights(made)[:shared], expected[:shared])
            assert [field.label for field in made[:n]] == row.labels[:shared]
        many = run.sample(3 * n, model=model, setting=setting, seed=draw)
        np.testing.assert_array_equal(weights(many)[: 2 * n + 1], weights(made))


def test_seed_temperature_and_class_matter(planes, digits):
    a, b, c = (
        planes.sample(6, **more) for more in ({}, {"seed": 1}, {"temperature": 5.0, "top_k": 9})
    )
    assert (weights(a) != weights(b)).any() and (weights(a) != weights(c)).any()
    for model in digits.models:
        made = digits.sample(5, label=3, model=model)
        assert [field.label for field in made] == [3] * 5
        assert len({field.weights.tobytes() for field in made}) == 5
    assert (weights(digits.sample(5, label=3)) != weights(digits.sample(5, label=4))).any()


def test_a_field_is_a_closed_mesh_and_a_function(planes):
    field = planes.sample(1)[0]
    mesh = field.mesh(resolution=40)
    assert mesh.is_watertight and mesh.volume > 0 and np.abs(mesh.vertices).max() <= 0.5 + 1e-6
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 7, 3))
    values = field(points)
    assert values.shape == (5, 7) and values.dtype == np.float32
    level = field.spec.surface_level()
    np.testing.assert_array_equal(values < level, field.distance(points) < 0)
    on_it = field.points(200, resolution=200)
    assert on_it.shape == (200, 3)
    assert np.abs(field.distance(on_it)).max() < 0.01
    grid = field.grid(9)
    assert grid[8, 0, 4] == field.distance(np.array([0.5, -0.5, 0.0]))
    wider = field.mesh(resolution=40, level=0.02)
    assert wider.volume > mesh.volume
    assert len(field.mesh().faces) == len(field.mesh(planes.config.extract.resolution).faces)
    with pytest.raises(InputError, match="3 coordinates"):
        field(points[..., :2])
    for use in (lambda: field.mesh(4), lambda: field.grid(5000), lambda: field.points(0)):
        with pytest.raises(InputError, match="must be in"):
            use()
    with pytest.raises(InputError, match="no image"):
        field.image()


def test_an_image_has_any_size(digits):
    field = digits.sample(1)[0]
    assert field.image().shape == (8, 8) and field.image((4, 6)).shape == (4, 6)
    assert (
        field.image(24).shape == (24, 24) and 0 <= field.image().min() <= field.image().max() <= 1
    )
    wide = dataclasses.replace(field, size=(8, 16))
    assert wide.image(32).shape == (16, 32)
    with pytest.raises(InputError, match="must be in"):
        field.image(0)
    with pytest.raises(InputError, match="give a size"):
        dataclasses.replace(field, size=None).image()
    with pytest.raises(InputError, match="no surface"):
        field.mesh()


def test_a_field_alone_needs_no_run(planes, tmp_path):
    field = next(iter(planes.fields.values()))
    field.save(tmp_path / "one.safetensors")
    alone = nefgpt.load_field(tmp_path / "one.safetensors")
    assert alone.name == "one" and alone.spec == field.spec and alone.quality == field.quality
    np.testing.assert_array_equal(alone.coefficients, field.coefficients)
    np.testing.assert_array_equal(alone.mesh(24).vertices, field.mesh(24).vertices)
    path = planes.folder / f"fields/{field.name}.safetensors"
    np.testing.assert_array_equal(nefgpt.load_field(path).weights, field.weights)


def test_encoding_is_what_the_run_does(planes, digits, tmp_path):
    for name, field in list(planes.fields.items())[:2]:
        mesh = planes.folder / f"dataset/02691156/{name}/models/model_normalized.obj"
        found = planes.encode(mesh, name=name)
        np.testing.assert_array_equal(found.weights, field.weights)
        np.testing.assert_array_equal(found.coefficients, field.coefficients)
        np.testing.assert_array_equal(found.tokens, field.tokens)
        assert {k: np.float32(v) for k, v in found.quality.items()} == pytest.approx(
            {k: np.float32(v) for k, v in field.quality.items()}
        )
    name, field = next(iter(digits.fields.items()))
    from sklearn.datasets import load_digits

    image = (load_digits().images[int(name[-4:])] / 16).astype(np.float32)
    found = digits.encode(image, name=name)
    np.testing.assert_array_equal(found.weights, field.weights)
    assert found.size == (8, 8) and found.quality["psnr"] == pytest.approx(field.quality["psnr"])
    (picture, pixels) = (Image.fromarray(np.uint8(255 * image)), np.uint8(255 * image))
    assert (digits.encode(picture).weights == digits.encode(pixels).weights).all()


def test_a_mesh_means_the_same_in_any_units(planes):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    found = planes.encode(mesh)
    mesh.apply_scale(2.0**10)
    assert np.array_equal(planes.encode(mesh).weights, found.weights)
    assert 0 < found.quality["iou"] <= 1 and found.tokens.shape == (4,)


def test_what_cannot_be_encoded_is_named(planes, digits, tmp_path):
    (tmp_path / "empty.obj").write_text("")
    for run, what, message in (
        (planes, tmp_path / "empty.obj", "empty"),
        (planes, tmp_path / "nowhere.obj", "no such file"),
        (planes, np.zeros((8, 8)), "is of shapes"),
        (planes, trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False), "no extent"),
        (digits, trimesh.creation.box(), "is of images"),
        (digits, np.zeros((8, 8, 3)), r"\[height, width\]"),
        (digits, np.full((8, 8), 255.0), "0, 1"),
    ):
        with pytest.raises(InputError, match=message):
            run.encode(what)


def test_completion_keeps_what_is_given(planes, digits):
    sampled = planes.sample(3, seed=5)
    for k in (0, 1, 3):
        made = planes.complete(sampled[0], k, n=3, seed=5)
        assert all((field.tokens[:k] == sampled[0].tokens[:k]).all() for field in made)
        # The first draws by the seed that made the codes: it goes on as it went.
        np.testing.assert_array_equal(made[0].weights, sampled[0].weights)
    assert (weights(planes.complete(sampled[0], 0, n=3, seed=5)) == weights(sampled)).all()
    field = next(field for field in digits.fields.values() if field.label == 4)
    made = digits.complete(field, 2, n=3, guidance=2.0)
    assert {one.label for one in made} == {4}
    for tokens, k, message in (
        (sampled[0], 4, "4 codes are given and a sequence has 4"),
        (sampled[0], 5, "5 cannot be kept"),
        ([99], None, r"0\.\.14"),
    ):
        with pytest.raises(InputError, match=message):
            planes.complete(tokens, k)
    with pytest.raises(InputError, match="gaussian knows no codes"):
        planes.complete(sampled[0], 2, model="gaussian")


def test_interpolation_ends_at_both(planes):
    a, b = list(planes.fields.values())[:2]
    steps = planes.interpolate(a, b, steps=5)
    assert len(steps) == 5
    for step, end in ((steps[0], a), (steps[-1], b)):
        np.testing.assert_array_equal(step.coefficients, end.coefficients)
        np.testing.assert_allclose(step.weights, end.weights, atol=1e-6)
    np.testing.assert_allclose(steps[2].weights, (a.weights + b.weights) / 2, atol=1e-6)
    sampled = planes.sample(1)[0]
    without = planes.interpolate(a.name, sampled, steps=3)
    assert without[1].coefficients is None
    np.testing.assert_allclose(without[1].weights, (a.weights + sampled.weights) / 2, atol=1e-6)
    with pytest.raises(InputError, match="at least 2"):
        planes.interpolate(a, b, steps=1)


def test_coefficients_of_another_basis_are_not_used(planes):
    a, b = list(planes.fields.values())[:2]
    other = dataclasses.replace(a, coefficients=b.coefficients, tokens=None)
    found = planes.interpolate(other, b, steps=2)[0]
    assert found.coefficients is None
    np.testing.assert_array_equal(found.weights, a.weights)
    np.testing.assert_array_equal(planes.tokens_of(other), a.tokens)


def test_decoding_undoes_tokens(planes):
    sampled = planes.sample(planes.block, setting="t1")
    made = planes.decode([field.tokens for field in sampled])
    np.testing.assert_allclose(weights(made), weights(sampled), atol=1e-6)
    with pytest.raises(InputError, match="4 codes of 0 to 14"):
        planes.decode([1, 2])


def test_names_that_there_are_not_are_answered_with_those_there_are(planes, digits):
    for use, message in (
        (lambda: planes.sample(1, model="huge"), "no model 'huge', but tiny, gaussian"),
        (lambda: planes.sample(1, setting="t9"), "no setting 't9', but k3-t1, t1"),
        (lambda: planes.sample(1, setting="t1", top_k=3), "'t1' or top_k, not both"),
        (lambda: planes.sample(1, model="gaussian", top_k=3), "gaussian has no top_k"),
        (lambda: planes.sample(1, label=0), "have no classes"),
        (lambda: planes.sample(1, model="gaussian", label=0), "have no classes"),
        (lambda: digits.sample(1, label=10), "no class 10, but 0 to 9"),
        (lambda: planes.sample(0), "at least 1"),
        (lambda: planes.field("nobody"), "no shape of the train or val split"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            use()
    other = FieldSpec(hidden=(4,))
    field = NeuralField(other, random_weights(other, 0), "stranger")
    with pytest.raises(InputError, match="stranger has another field specification"):
        planes.interpolate(field, field)


def test_an_unfinished_run_names_what_makes_the_rest(toys, tmp_path):
    folder = tmp_path / "airplanes"
    shutil.copytree(toys / "results/airplanes", folder)
    for name, use in (
        ("gpt/tiny/model.safetensors", lambda run: run.sample(1, model="tiny")),
        ("codebook.safetensors", lambda run: run.tokenizer),
        ("tables/metrics.csv", lambda run: run.table),
        ("fields/template.safetensors", lambda run: run.encode(trimesh.creation.box())),
    ):
        (folder / name).unlink()
        with pytest.raises(InputError, match=f"lacks {name}.*snakemake.*results/airplanes/{name}"):
            use(nefgpt.open(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"there is no config\.json in it"):
        nefgpt.open(folder)
    with pytest.raises(InputError, match="no such run"):
        nefgpt.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("no archive")
    with pytest.raises(InputError, match="no exported model"):
        nefgpt.open(tmp_path / "file")


def test_the_run_says_what_it_is(planes, digits):
    assert repr(planes) == "<run 'airplanes' of shapes: tiny, gaussian>"
    assert planes.table.loc[("train-meshes", "all"), "1-NNA %"] == 61
    assert list(planes.table.index) == [row[:2] for row in planes.config.rows]
    assert repr(digits.sample(4)[3]).endswith("images, 81 weights, class 3)")
    assert planes.config.tokens.n_codes == 15


PURE = """
import sys, time
began = time.perf_counter()
import nefgpt
assert time.perf_counter() - began < 0.1
heavy = {"numpy", "torch", "pandas", "trimesh", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
sys.modules["snakemake"] = None  # an import of it fails
run = nefgpt.open(sys.argv[1])
field = next(iter(run.fields.values()))
field.mesh(24), run.table, run.interpolate(field, field, 2)
heavy = {"torch", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
run.sample(1)
assert "torch" in sys.modules
"""


def test_nothing_is_loaded_before_it_is_needed(toys):
    command = [sys.executable, "-c", PURE, str(toys / "results/airplanes")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = nefgpt.opne
    for name in nefgpt.__all__:
        assert getattr(nefgpt, name).__doc__
