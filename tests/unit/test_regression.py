"""The regression transformer: memorises, rolls out, and its experiment's files and figures."""

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from nefgpt.base.errors import InputError
from nefgpt.base.settings import from_dict
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.weights import Fields, write_fields
from nefgpt.generators import regression
from nefgpt.generators.gpt.model import GPT, GPTConfig
from nefgpt.generators.settings import Regressor
from nefgpt.generators.transformer import DecoderConfig
from nefgpt.report.figures import save
from nefgpt.report.regression import regression_figure, rollout_images, symmetry_figure

SPEC = FieldSpec(
    in_dim=2,
    octaves=1,
    include_input=False,
    frequency=1.0,
    hidden=(4,),
    activation="relu",
    output_bias=True,
    output_activation="sigmoid",
)
COLUMNS = [
    "n_fields",
    "start",
    "loss",
    "iterations",
    "teacher_forced_error",
    "roll_out_error",
    "relative_error",
    "psnr",
    "nearest_psnr",
]
SIZES = {"embedding": 16, "heads": 2, "layers": 2}
SETTINGS = Regressor(
    **SIZES,
    n_fields=(1, 2),
    loss="l1",
    iterations=20,
    batch_size=4,
    learning_rate=0.01,
    min_learning_rate=0.0003,
    warmup=10,
    noise=0.1,
)


def fields(seed: int, spread: float = 1.0) -> Fields:
    """Four train fields and a val field around one template."""
    template = random_weights(SPEC, 0)
    rng = np.random.default_rng(seed)
    weights = template + spread * rng.normal(size=(5, SPEC.n_weights)).astype(np.float32)
    splits = ["val", *["train"] * 4]
    return Fields(SPEC, template, list("abcde"), splits, [None] * 5, weights)


@pytest.fixture(scope="module")
def outcome():
    points = regression.frame_points(2)
    return regression.experiment(fields(1, 0.1), fields(2), SETTINGS, 0, points)


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_one_field_is_memorised(loss):
    weights = fields(3).weights
    model = regression.train(weights[:1], weights, replace(SETTINGS, loss=loss, iterations=150), 0)
    first = torch.from_numpy(weights[:1, 0]).to(model.mean.device)
    written = regression.roll_out(model, first, SPEC.n_weights).cpu().numpy()
    assert written[0, 0] == weights[0, 0]
    assert np.abs(written - weights[:1]).mean() < 0.05 * np.abs(weights[:1]).mean()


def test_cached_roll_out_is_the_uncached_one():
    torch.manual_seed(0)
    config = DecoderConfig(context=11, **SIZES)
    model = regression.RegressionTransformer(config, torch.randn(12), torch.rand(12) + 0.5).eval()
    for parameter in model.parameters():  # the shipped start predicts almost the same everywhere
        torch.nn.init.normal_(parameter, std=1.0)
    expected = torch.randn(3, 1)
    written = regression.roll_out(model, expected[:, 0], 12)
    with torch.no_grad():
        for _ in range(11):
            expected = torch.cat([expected, model(expected)[:, -1:]], dim=1)
    assert written.std(dim=0).min() > 0.02  # the fields stay different
    torch.testing.assert_close(written, expected, atol=1e-4, rtol=1e-4)


def test_the_blocks_are_those_of_the_gpt():
    gpt = GPT(GPTConfig(vocab_size=5, context=11, **SIZES)).eval()
    config = DecoderConfig(context=11, **SIZES)
    model = regression.RegressionTransformer(config, torch.zeros(12), torch.ones(12)).eval()
    trunk = {name: value for name, value in gpt.state_dict().items() if name != "token.weight"}
    found = model.load_state_dict(trunk, strict=False)
    assert not found.unexpected_keys
    assert {name.split(".")[0] for name in found.missing_keys} == {
        "number",
        "head",
        "mean",
        "scale",
    }
    x = torch.randn(2, 11, 16)
    torch.testing.assert_close(model.decode(x), gpt.decode(x), atol=0, rtol=0)


def test_weights_in_other_units_give_the_same_model_in_those_units():
    weights = fields(3).weights
    shift, factor = weights[0], np.linspace(0.1, 5, SPEC.n_weights, dtype=np.float32)
    settings = replace(SETTINGS, iterations=5, loss="mse")
    other = factor * weights + shift
    first = regression.train(weights[:2], weights, settings, 0)
    second = regression.train(other[:2], other, settings, 0)
    with torch.no_grad():
        expected, found = (
            model(torch.from_numpy(rows[:, :-1]).to(model.mean.device)).cpu().numpy()
            for model, rows in ((first, weights), (second, other))
        )
    np.testing.assert_allclose(found, factor[1:] * expected + shift[1:], atol=0.02)


def test_noise_leaves_the_first_weight(monkeypatch):
    seen = []
    forward = regression.RegressionTransformer.forward
    monkeypatch.setattr(
        regression.RegressionTransformer,
        "forward",
        lambda self, x, cache=None: seen.append(x.detach().clone()) or forward(self, x, cache),
    )
    weights = fields(3).weights
    regression.train(weights[:1], weights, replace(SETTINGS, iterations=30, noise=0.5), 0)
    moved = (torch.cat(seen).cpu().numpy() - weights[:1, :-1]) / weights.std(axis=0)[:-1]
    assert (moved[:, 0] == 0).all()
    assert moved[:, 1:].std() == pytest.approx(0.5, rel=0.1)


def test_experiment(outcome):
    table, rollouts = outcome
    assert list(table.columns) == COLUMNS
    assert list(zip(table["n_fields"], table["start"], strict=True)) == [
        (n, start) for n in (1, 2) for start in regression.STARTS
    ]
    for row in table.itertuples():
        original, written = rollouts[row.start, row.n_fields]
        table_of = {"conditioned": fields(1, 0.1), "unconditioned": fields(2)}[row.start]
        np.testing.assert_array_equal(original, table_of.weights[1 : 1 + row.n_fields])
        error = np.abs(written - original)[:, 1:].mean()
        mean = table_of.weights[1:].mean(axis=0)
        assert row.roll_out_error == pytest.approx(error)
        expected = error / np.abs(mean - original)[:, 1:].mean()
        assert row.relative_error == pytest.approx(expected, rel=1e-5)
        assert 0 < row.teacher_forced_error < 1


def test_psnr_of_a_known_difference():
    original = np.zeros((2, SPEC.n_weights), np.float32)
    original[:, -1] = [-np.log(9), np.log(9)]  # images of 0.1 and 0.9
    written = original.copy()
    written[1, -1] = np.log(0.82 / 0.18)  # a tenth of the span below
    found = regression.signal_psnr(SPEC, original, written, regression.frame_points(2))
    np.testing.assert_allclose(found, [[100, 0], [0.9151, 20]], atol=1e-2)


def test_points_are_centres_of_cells():
    points = regression.frame_points(2, 4)
    assert points[:2].tolist() == [[-0.75, -0.75], [-0.75, -0.25]] and points.shape == (16, 2)
    assert regression.frame_points(3, 2).abs().unique().tolist() == [0.25]


def test_files(tmp_path, monkeypatch, outcome):
    for start, table in zip(regression.STARTS, (fields(1, 0.1), fields(2)), strict=True):
        rows = zip(
            table.shape_ids, table.splits, table.labels, table.weights, [{}] * 5, strict=True
        )
        write_fields(tmp_path / f"{start}.parquet", SPEC, table.template, rows)
    arguments = ["--settings", json.dumps(asdict(SETTINGS))]
    arguments += ["--seed", "0", "--out-dir", str(tmp_path)]
    for start in regression.STARTS:
        arguments += [f"--{start}", str(tmp_path / f"{start}.parquet")]
    monkeypatch.setattr(sys, "argv", ["regression", *arguments])
    regression.main()
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "regression.csv"), outcome[0], check_dtype=False, rtol=1e-4
    )
    spec, rollouts = regression.read_rollouts(tmp_path / "rollouts.npz")
    assert spec == SPEC and list(rollouts) == list(outcome[1])
    for key, pair in rollouts.items():
        np.testing.assert_allclose(pair, outcome[1][key], atol=1e-4)
    (tmp_path / "rollouts.npz").write_bytes(b"half")
    with pytest.raises(InputError, match=r"rollouts\.npz"):
        regression.read_rollouts(tmp_path / "rollouts.npz")


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"n_fields": [5]}, {}, "4 train fields"),
        ({"typo": 1}, {}, "has no settings typo"),
        ({}, {"spec": FieldSpec()}, "specifications"),
        ({}, {"shape_ids": list("acbde")}, "same train shapes"),
        ({"learning_rate": 1e30, "warmup": 0}, {}, "iteration"),
    ],
)
def test_bad_input_is_named(settings, change, message):
    other = fields(2)
    for name, value in change.items():
        setattr(other, name, value)
    with pytest.raises(InputError, match=message):
        chosen = from_dict(Regressor, asdict(SETTINGS) | settings)
        regression.experiment(fields(1), other, chosen, 0, regression.frame_points(2))


def test_figures(tmp_path, outcome):
    table, rollouts = outcome
    figure = regression_figure(table)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    expected = table["relative_error"][table["start"] == "conditioned"]
    np.testing.assert_allclose(lines["conditioned"], expected)
    images = rollout_images(SPEC, rollouts)
    assert sum(len(ax.images) for ax in images.axes) == 2 * 2 * (1 + 2)
    template, near = fields(1).template, fields(1, 0.1).weights[0]
    symmetry = symmetry_figure(SPEC, template, near, template + np.float32(0.5))
    titles = [panel.get_suptitle() for panel in symmetry.subfigs[:5]]
    assert "|ΔW| = 0.500, |Δb| = 0.500" in titles[4]
    delta = near - template
    matrices = np.concatenate([delta[:16], delta[20:24]])
    assert f"|ΔW| = {np.abs(matrices).mean():.3f}" in titles[2]
    for name, drawn in (("a", figure), ("b", images), ("c", symmetry)):
        paths = save(drawn, tmp_path, name)
        assert all(path.stat().st_size > 5000 for path in paths)


def test_figures_of_nothing_are_refused():
    with pytest.raises(InputError, match="no rows"):
        regression_figure(pd.DataFrame(columns=COLUMNS))
    with pytest.raises(InputError, match="no written fields"):
        rollout_images(SPEC, {})
    with pytest.raises(InputError, match="3 coordinates"):
        rollout_images(FieldSpec(), {("conditioned", 1): (np.zeros((1, 800)),) * 2})
