"""Diffusion over fields: what it learns is known here."""

import builtins
import dataclasses

import numpy as np
import pytest

from nefgpt.base import training
from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.weights import read_fields, write_fields
from nefgpt.generators.diffusion import generator
from nefgpt.generators.diffusion.generator import Sampling, Settings
from nefgpt.generators.kind import Given

pytest.importorskip("diffusers", reason="the extra 'diffusion' is not installed")
SPEC = FieldSpec(hidden=(4,))
SMALL = {"width": 48, "layers": 2, "dropout": 0.0, "noise_steps": 100, "warmup": 10}
SMALL |= {"batch_size": 64, "averaging": 0.98}


def table(path, coefficients, labels=None, n_val=2):
    """A table of train fields with these coefficients [n, k]; the last `n_val` are of val."""
    rng = np.random.default_rng(0)
    coefficients = np.asarray(coefficients, np.float32)
    n, k = coefficients.shape
    template = rng.normal(size=SPEC.n_weights).astype(np.float32)
    basis = rng.normal(size=(k, SPEC.n_weights)).astype(np.float32)
    weights = template + coefficients @ basis
    splits = ["train" if i < n - n_val else "val" for i in range(n)]
    labels = [None] * n if labels is None else labels
    rows = [(f"s{i}", splits[i], labels[i], weights[i], {}, coefficients[i]) for i in range(n)]
    write_fields(path, SPEC, template, rows, basis)
    return path


def made(path, folder, settings, n, setting=None, seed=0, batch_size=64):
    generator.train(path, folder, settings, 0)
    given = Given(read_fields(path), model=folder, batch_size=batch_size)
    loaded = generator.load(given)
    return generator.sample(loaded, given, setting or Sampling(steps=20), n, seed), given, loaded


def test_one_point_is_returned(tmp_path):
    """A number that never changes is kept as it is, and makes no NaN."""
    same = np.tile([[0.3, -2.0]], (6, 1))
    settings = Settings(iterations=60, eval_every=30, **SMALL)
    found, given, _ = made(table(tmp_path / "w.parquet", same), tmp_path / "m", settings, 5)
    np.testing.assert_allclose(found.coefficients, same[:5], atol=1e-6)
    np.testing.assert_allclose(found.weights, given.fields.weights[:5], atol=1e-5)


def test_one_train_field_is_enough(tmp_path):
    path = table(tmp_path / "w.parquet", [[0.5, 1.0], [0.4, 1.1]], n_val=1)
    found, *_ = made(path, tmp_path / "m", Settings(iterations=40, eval_every=20, **SMALL), 3)
    np.testing.assert_allclose(found.coefficients, [[0.5, 1.0]] * 3, atol=1e-6)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Two clusters in the plane, a class each."""
    folder = tmp_path_factory.mktemp("mixture")
    rng, labels = np.random.default_rng(1), np.arange(1200) % 2
    points = np.array([[-2.0, 0], [2, 1]])[labels] + rng.normal(0, [0.3, 0.6], (1200, 2))
    path = table(folder / "w.parquet", points, labels.tolist(), n_val=200)
    settings = Settings(iterations=900, eval_every=450, class_dropout=0.2, **SMALL)
    generator.train(path, folder / "m", settings, 0)
    given = Given(read_fields(path), model=folder / "m", batch_size=256)
    return points, given, generator.load(given)


def test_a_mixture_of_gaussians_keeps_its_moments(mixture):
    points, given, loaded = mixture
    found = generator.sample(loaded, given, Sampling(steps=50), 1024, seed=3)
    assert found.labels[:4] == [0, 1, 0, 1]
    for label in (0, 1):
        own = found.coefficients[label::2]
        np.testing.assert_allclose(own.mean(axis=0), points[label::2].mean(axis=0), atol=0.12)
        np.testing.assert_allclose(own.std(axis=0), [0.3, 0.6], rtol=0.25)


def test_guidance_moves_samples_from_the_other_class(mixture):
    _, given, loaded = mixture
    plain, guided = (
        generator.sample(loaded, given, Sampling(steps=20, guidance=g), 256, seed=3)
        for g in (1.0, 2.0)
    )
    unguided = generator.sample(loaded, given, Sampling(steps=20), 256, seed=3)
    np.testing.assert_allclose(plain.coefficients, unguided.coefficients, atol=1e-4)
    apart = [np.diff([m.coefficients[i::2, 0].mean() for i in (0, 1)])[0] for m in (plain, guided)]
    assert apart[1] > apart[0]


def test_more_samples_begin_with_fewer_and_seeds_differ(mixture):
    _, given, loaded = mixture
    setting = Sampling(steps=5, eta=0.5)
    few, many, other = (
        generator.sample(loaded, given._replace(batch_size=8), setting, n, seed).coefficients
        for n, seed in ((5, 0), (19, 0), (5, 1))
    )
    assert len(many) == 19 and (many[:5] == few).all()
    assert np.abs(other - few).min() > 0
    assert len(generator.sample(loaded, given, setting, 0, 0).weights) == 0


def test_ddim_ends_where_a_denoiser_that_knows_the_field_says(mixture):
    """Whatever the number of steps: the last one leaves no noise."""
    *_, loaded = mixture
    known = np.array([[0.7, -0.4]], np.float32)
    knows = loaded._replace(
        network=lambda x, time, label: x.new_tensor(known).expand_as(x),
        settings=dataclasses.replace(loaded.settings, predicts="field"),
    )
    noise = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    for steps in (1, 7, 100):
        found = generator.denoise(knows, noise, np.zeros(3, int), Sampling(steps=steps), 0)
        np.testing.assert_allclose(found, known.repeat(3, axis=0), atol=0.05)


@pytest.mark.parametrize("on", ["coefficients", "weights"])
@pytest.mark.parametrize("network", ["mlp", "transformer"])
@pytest.mark.parametrize("predicts", ["velocity", "field"])
def test_every_network_learns_from_both(on, network, predicts, tmp_path):
    rng = np.random.default_rng(0)
    two = rng.choice([-1, 1], (40, 1)) * [1, 2, 3] + rng.normal(0, 0.1, (40, 3))
    path = table(tmp_path / "w.parquet", two)
    kind = {"learns": on, "network": network, "predicts": predicts}
    settings = Settings(iterations=60, eval_every=30, **kind, **SMALL)
    found, *_ = made(path, tmp_path / "m", settings, 4)
    assert found.weights.shape == (4, SPEC.n_weights) and np.isfinite(found.weights).all()
    assert (found.coefficients is None) == (on == "weights")
    losses = np.loadtxt(tmp_path / "m/losses.csv", delimiter=",", skiprows=2)
    assert losses[-1, 1] < 0.9  # train; one who knows nothing has 1


def test_killed_and_resumed_equals_whole(tmp_path, monkeypatch):
    path = table(tmp_path / "w.parquet", np.random.default_rng(0).normal(size=(30, 3)))
    settings = Settings(iterations=24, eval_every=8, **{**SMALL, "dropout": 0.2})
    generator.train(path, tmp_path / "whole", settings, 0)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_STATES", -1)

    step, left = training._step, [11]

    def dies(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return step(*arguments)

    monkeypatch.setattr(training, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        generator.train(path, tmp_path / "half", settings, 0, tmp_path / "state")
    monkeypatch.setattr(training, "_step", step)
    generator.train(path, tmp_path / "half", settings, 0, tmp_path / "state")
    for name in ("model.safetensors", "config.json"):
        whole, half = ((tmp_path / w / name).read_bytes() for w in ("whole", "half"))
        assert whole == half
    assert not (tmp_path / "state").exists()


def test_fields_of_another_run_or_without_a_basis_are_refused(tmp_path):
    path = table(tmp_path / "w.parquet", np.random.default_rng(0).normal(size=(9, 3)))
    settings = Settings(iterations=2, eval_every=1, **SMALL)
    _, given, _ = made(path, tmp_path / "m", settings, 1)
    other = read_fields(table(tmp_path / "v.parquet", np.ones((9, 2))))
    with pytest.raises(InputError, match="trained on other fields"):
        generator.load(given._replace(fields=other))
    free = dataclasses.replace(given.fields, coefficients=None, basis=None)
    with pytest.raises(InputError, match="learns: weights"):
        generator._numbers(free, settings)
    (tmp_path / "m/model.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="train again"):
        generator.load(given)


def test_without_the_package_it_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("diffusers"):
            raise ImportError("No module named 'diffusers'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'nefgpt\[diffusion\]'"):
        generator.scheduler(Settings())
