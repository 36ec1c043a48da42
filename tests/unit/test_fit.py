"""Fits: a sphere is recovered, packs equal single fits, failures stay where they are."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
import trimesh

from nefgpt.base.adam import Adam
from nefgpt.base.errors import InputError
from nefgpt.fields.file import checksum, how_to_refit, load_field, save_field
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import basis, fit, optimise, template
from nefgpt.fitting.settings import Template
from nefgpt.signals import sdf, shapes
from nefgpt.signals.file import load_signal
from nefgpt.signals.settings import Sampling

SPEC = FieldSpec(hidden=(16, 16))
ZERO = Space(np.zeros(SPEC.n_weights, np.float32))
SDF = Sampling(n_uniform=3000, n_near=3000, sigma=0.01, extent=0.9)


def settings(block=Optimiser, **changes) -> Optimiser:
    return block(**{"steps": 60, "points_per_step": 512, "quality_resolution": 32} | changes)


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """Point clouds of six ellipsoids and one rejected shape."""
    folder = tmp_path_factory.mktemp("clouds")
    paths = {}
    for i in range(6):
        mesh = trimesh.creation.icosphere(subdivisions=3)
        mesh.apply_scale([1, 0.4 + 0.1 * i, 0.9 - 0.1 * i])
        mesh.export(folder / f"e{i}.obj")
        paths[f"e{i}"] = folder / f"e{i}.npz"
        sdf.prepare(folder / f"e{i}.obj", f"e{i}", paths[f"e{i}"], SDF, 0)
    (folder / "bad.obj").write_text("v 0 0 0\n")
    sdf.prepare(folder / "bad.obj", "bad", folder / "bad.npz", SDF, 0)
    return paths


@pytest.fixture(scope="module")
def templates(clouds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    one = settings(Template, learning_rate=0.01, steps=300)
    template.make(SPEC, {"e0": clouds["e0"]}, folder / "one.safetensors", one, 0)
    many = settings(Template, n_shapes=5, n_components=3, learning_rate=0.01, steps=400)
    shapes = {name: clouds[name] for name in list(clouds)[:5]}
    template.make(SPEC, shapes, folder / "many.safetensors", many, 0)
    return {kind: folder / f"{kind}.safetensors" for kind in ("one", "many")}


def test_template_keeps_its_shape(templates):
    found = load_field(templates["one"])
    assert found.record["iou"] > 0.9 and found.record["chamfer"] < 2
    assert found.record["shape_ids"] == ["e0"] and found.weights.shape == (SPEC.n_weights,)


def test_basis_is_uncorrelated_and_ordered(templates):
    mean, basis = load_field(templates["many"]).space
    assert basis.shape == (3, SPEC.n_weights)
    lengths = np.linalg.norm(basis, axis=1)
    assert (lengths[:-1] >= lengths[1:]).all()
    gram = (basis / lengths[:, None]) @ (basis / lengths[:, None]).T
    np.testing.assert_allclose(gram, np.eye(3), atol=1e-4)
    assert np.isfinite(mean).all()


def test_a_shape_that_is_twice_in_a_step_counts_twice(clouds, monkeypatch):
    """The coefficients' gradients of a step add up to that of the mean, seen in the basis."""
    signals = [load_signal(clouds[i]) for i in ("e0", "e1", "e2")]
    chosen = settings(Template, n_shapes=3, n_components=2, steps=9, fields_per_step=2, pull=0.0)
    step = Adam.step

    def checked(self, rate):
        [(parameters, _)] = self.groups
        if len(parameters) == 2:
            mean, basis = parameters
            expected.append(mean.grad @ basis.T)
        else:
            (codes,) = parameters
            torch.testing.assert_close(codes.grad.sum(dim=0), expected[-1])
            seen.append((codes.grad.abs().sum(dim=1) > 0).sum().item())
        step(self, rate)

    seen, expected = [], []
    monkeypatch.setattr(Adam, "step", checked)
    basis.learn_basis(SPEC, *optimise.training_points(SPEC, signals), chosen, 0)
    assert len(seen) == 9 and 1 in seen, "a step that held one shape twice"


@pytest.mark.parametrize("kind", ["one", "many"])
def test_unseen_shape_is_fitted(kind, clouds, templates, tmp_path):
    rate = 0.05 if kind == "many" else 0.01
    out = tmp_path / "e5.safetensors"
    chosen = settings(steps=200, learning_rate=rate)
    fit.fit_shapes(SPEC, {"e5": (clouds["e5"], out)}, chosen, 0, templates[kind])
    spec, weights, record, coefficients, _ = load_field(out)
    assert spec == SPEC and record["iou"] > 0.85
    anchor, basis = load_field(templates[kind]).space
    if basis is None:
        assert coefficients is None
    else:
        np.testing.assert_allclose(anchor + coefficients @ basis, weights, atol=1e-5)
    cloud = load_signal(clouds["e5"])
    again = shapes.quality(spec, weights, cloud, 32)
    np.testing.assert_equal([record[k] for k in shapes.QUALITY], [again[k] for k in shapes.QUALITY])
    assert record["f_score"] > 0.5


@pytest.mark.parametrize("kind", ["one", "many"])
def test_pack_equals_single_fits(kind, clouds, templates, tmp_path):
    pack = {i: (clouds[i], tmp_path / f"pack-{i}.safetensors") for i in ("e1", "e2", "e3")}
    fit.fit_shapes(SPEC, pack, settings(), 0, templates[kind])
    for shape_id, (path, packed) in pack.items():
        single = tmp_path / f"{shape_id}.safetensors"
        fit.fit_shapes(SPEC, {shape_id: (path, single)}, settings(), 0, templates[kind])
        one, other = load_field(single), load_field(packed)
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.coefficients, other.coefficients)


def test_same_seed_same_field(clouds, templates, tmp_path):
    files = []
    for name in ("a", "b"):
        files.append(tmp_path / f"{name}.safetensors")
        fit.fit_shapes(SPEC, {"e1": (clouds["e1"], files[-1])}, settings(), 3, templates["many"])
    np.testing.assert_array_equal(*(load_field(file)[1] for file in files))


def test_poisoned_field_is_isolated(clouds):
    points, values = optimise.training_points(
        SPEC, [load_signal(clouds[i]) for i in ("e0", "e1", "e2")]
    )
    start = np.stack([random_weights(SPEC, 0)] * 3)
    clean = optimise.fit_fields(SPEC, points, values, start, ZERO, settings(), 0, progress=False)
    values[1] = float("nan")
    found = optimise.fit_fields(SPEC, points, values, start, ZERO, settings(), 0, progress=False)
    assert found.failed.tolist() == [-1, 0, -1] and found.steps.tolist() == [60, 0, 60]
    np.testing.assert_array_equal(found.weights[[0, 2]], clean.weights[[0, 2]])


def test_a_field_that_is_done_stops_and_changes_no_other(clouds, monkeypatch):
    points, values = optimise.training_points(SPEC, [load_signal(clouds[i]) for i in ("e0", "e1")])
    chosen = settings(schedule="plateau", steps=3000, points_per_step=64, learning_rate=1e-9)
    start = np.stack([random_weights(SPEC, 0)] * 2)
    # At this rate nothing improves: ten halvings, each after 200 steps, and the last stall.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    both = optimise.fit_fields(SPEC, points, values, start, ZERO, chosen, 0, progress=False)
    assert all(2000 <= steps <= 2800 for steps in both.steps.tolist())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = optimise.fit_fields(
        SPEC, points[:1], values[:1], start[:1], ZERO, chosen, 0, progress=False
    )
    assert alone.steps[0] == both.steps[0]
    np.testing.assert_array_equal(alone.weights[0], both.weights[0])
    longer = optimise.fit_fields(
        SPEC, points, values, start, ZERO, settings(steps=100), 0, progress=False
    )
    assert longer.steps.tolist() == [100, 100], "a cosine takes all its steps"


def test_non_finite_fit_names_shape_and_step(clouds, templates, tmp_path, monkeypatch):
    def poisoned(*args, way):
        found = real(*args)
        found.failed[1] = 7
        return found

    real = optimise.fit_fields
    monkeypatch.setattr(fit, "fit_fields", poisoned)
    paths = {i: (clouds[i], tmp_path / f"{i}.safetensors") for i in ("e1", "e2", "e3")}
    with pytest.raises(InputError, match="e2 at step 7"):
        fit.fit_shapes(SPEC, paths, settings(steps=5), 0, templates["one"])
    assert [out.exists() for _, out in paths.values()] == [True, False, True]


def test_killed_pack_refits_only_what_is_missing(clouds, templates, tmp_path, monkeypatch):
    paths = {i: (clouds[i], tmp_path / f"{i}.safetensors") for i in ("e1", "e2", "e3")}
    fit.fit_shapes(SPEC, paths, settings(steps=5), 0, templates["one"])
    whole = {i: load_field(path)[1] for i, (_, path) in paths.items()}
    paths["e1"][1].unlink()
    paths["e2"][1].write_bytes(paths["e2"][1].read_bytes()[:200])
    kept = paths["e3"][1].stat().st_ino
    seen = []
    real = optimise.fit_fields
    monkeypatch.setattr(fit, "fit_fields", lambda *a, way: seen.append(len(a[1])) or real(*a))
    fit.fit_shapes(SPEC, paths, settings(steps=5), 0, templates["one"])
    assert paths["e3"][1].stat().st_ino == kept
    for shape_id, (_, path) in paths.items():
        np.testing.assert_array_equal(load_field(path)[1], whole[shape_id])
    fit.fit_shapes(SPEC, paths, settings(steps=5), 0, templates["one"])
    assert seen == [2], "nothing is missing"
    grown = {**paths, "e4": (clouds["e4"], tmp_path / "e4.safetensors")}
    fit.fit_shapes(SPEC, grown, settings(steps=5), 0, templates["one"])
    assert seen == [2, 1]
    fit.fit_shapes(SPEC, paths, settings(steps=6), 0, templates["one"])
    assert seen == [2, 1, 3], "other settings keep nothing"


def test_rejected_shape_leaves_an_empty_field(clouds, templates, tmp_path):
    bad = clouds["e0"].parent / "bad.npz"
    out = tmp_path / "bad.safetensors"
    fit.fit_shapes(SPEC, {"bad": (bad, out)}, settings(), 0, templates["one"])
    found = load_field(out)
    assert found.weights is found.coefficients is None and "no faces" in found.record["rejected"]


def test_a_field_that_holds_nothing_is_named(clouds, templates, tmp_path, monkeypatch, caplog):
    empty = {name: 0.0 for name in shapes.QUALITY}
    monkeypatch.setattr(shapes, "quality", lambda *given: empty)
    paths = {"e1": (clouds["e1"], tmp_path / "e1.safetensors")}
    fit.fit_shapes(SPEC, paths, settings(), 0, templates["one"])
    assert "e1: its field holds nothing of the shape (IoU 0)" in caplog.text


def test_template_of_rejected_shape_says_what_to_do(clouds, tmp_path):
    bad = clouds["e0"].parent / "bad.npz"
    with pytest.raises(InputError, match=r"template\.shape_id"):
        template.make(SPEC, {"bad": bad}, tmp_path / "t.safetensors", settings(Template), 0)


@pytest.mark.parametrize("damage", ["cut", "spec", "nan", "basis", "coefficients"])
def test_broken_field_is_named(damage, templates, tmp_path):
    path = tmp_path / "f.safetensors"
    spec, weights, record, _, basis = load_field(templates["many"])
    some = basis[:, 0]
    if damage == "cut":
        path.write_bytes(templates["one"].read_bytes()[:-10])
    elif damage == "nan":
        save_field(path, spec, weights * np.nan, record)
    elif damage == "basis":
        save_field(path, spec, weights, record, basis * np.nan)
    elif damage == "coefficients":
        save_field(path, spec, weights, record, coefficients=some * np.nan)
    else:
        content = templates["one"].read_bytes()
        path.write_bytes(content.replace(b'\\"octaves\\"', b'\\"octavez\\"'))
    with pytest.raises(InputError, match=r"f\.safetensors|octavez"):
        load_field(path)


def test_any_flipped_bit_is_found_or_does_no_harm(tmp_path):
    path = tmp_path / "f.safetensors"
    spec = FieldSpec(hidden=(2,))
    field, record = random_weights(spec, 0), {"shape_id": "a"}
    basis, coefficients = np.ones((2, spec.n_weights), np.float32), np.ones(2, np.float32)
    save_field(path, spec, field, record, basis, coefficients)
    content, refused = path.read_bytes(), 0
    bits = range(0, 8 * len(content), 29)
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = load_field(path)
        except InputError as error:
            assert "f.safetensors" in str(error) and "to fit it anew: rm -r" in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(found.weights, field)
            np.testing.assert_array_equal(found.basis, basis)
            np.testing.assert_array_equal(found.coefficients, coefficients)
            assert (found.spec, found.record) == (spec, record)
    assert refused > 0.98 * len(bits), "all but those in the name of the checksum"


def test_the_advice_refits_packs_too(tmp_path):
    assert how_to_refit(tmp_path / "a b.x").count("rm -r '") == 1
    (tmp_path / "packs").mkdir()
    assert f"rm -r {tmp_path}/f.x {tmp_path}/packs " in how_to_refit(tmp_path / "f.x")


def test_a_field_of_an_earlier_release_keeps_its_checksum(tmp_path):
    """Written when tensors were PyTorch's."""
    field = {"layers.0.weight": np.arange(3, dtype=np.float32)[None]}
    metadata = {"spec": "a", "record": "b"}
    assert checksum(field, metadata) == (
        "2550f75844b40463b2b311dc4498407a72f53774724918f0c85f3fa2523d9c3a"
    )


def test_a_job_loads_only_what_it_needs(clouds, templates, tmp_path):
    """The rest would take longer than the fit; the job is told that there is no GPU.

    What made the templates has compiled all that the job needs.
    """
    words = ["--signal", str(clouds["e1"]), "--field", SPEC.to_json()]
    words += ["--settings", json.dumps(asdict(settings(steps=3)))]
    words += ["--template", str(templates["one"])]
    words += ["--out", str(tmp_path / "f.safetensors")]
    code = "import sys; from nefgpt.fitting import fit, optimise\n"
    code += "optimise.has_gpu = lambda: False; fit.main()\n"
    code += "print([name for name in ('numba', 'torch', 'pandas', 'tqdm') if name in sys.modules])"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and (tmp_path / "f.safetensors").exists()


def test_command_line(clouds, templates, tmp_path, monkeypatch):
    out, manifest = tmp_path / "fields", tmp_path / "pack.json"
    shapes = {i: str(clouds[i]) for i in ("e1", "e2")}
    words = ["fit", "--shapes", json.dumps(shapes), "--field", SPEC.to_json()]
    words += ["--settings", json.dumps(asdict(settings(steps=3)))]
    words += ["--template", str(templates["one"])]
    monkeypatch.setattr("sys.argv", [*words, "--out-dir", str(out), "--manifest", str(manifest)])
    fit.main()
    assert set(json.loads(manifest.read_text())) == {"e1", "e2"}
    assert sorted(path.stem for path in out.iterdir()) == ["e1", "e2"]


@pytest.mark.parametrize("kind", ["mean", "reptile"])
def test_starts_of_many_shapes_are_near_all_of_them(kind, clouds, templates, tmp_path):
    """A few steps from there leave a smaller loss than from random weights."""
    shapes = {name: clouds[name] for name in list(clouds)[:5]}
    chosen = settings(
        Template, kind=kind, n_shapes=5, steps=150, fields_per_step=3, learning_rate=0.01
    )
    template.make(SPEC, shapes, tmp_path / "t.safetensors", chosen, 0)
    found = load_field(tmp_path / "t.safetensors")
    assert found.basis is None and found.record["shape_ids"] == sorted(shapes)
    points, values = optimise.training_points(SPEC, [load_signal(clouds["e3"])])
    losses = []
    for start in (found.weights, random_weights(SPEC, 0)):
        fit_settings = settings(steps=20)
        fitted = optimise.fit_fields(
            SPEC, points, values, start[None], Space(start), fit_settings, 0, progress=False
        )
        losses.append(fitted.losses[0])
    assert losses[0] < 0.7 * losses[1]
