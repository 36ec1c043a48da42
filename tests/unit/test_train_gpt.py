"""Training: learns, resumes exactly, and says what is wrong."""

import contextlib
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import norm

from nefgpt.base import training
from nefgpt.base.errors import InputError
from nefgpt.generators import train as stage
from nefgpt.generators.gpt import batches
from nefgpt.generators.gpt import train as train_gpt
from nefgpt.generators.gpt.model import GPT, GPTConfig
from nefgpt.generators.gpt.sampling import generate, load_gpt
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.settings import Gpt

N_CODES, LENGTH = 11, 6


def settings(**changes) -> Gpt:
    small = {"embedding": 16, "heads": 2, "layers": 1, "iterations": 30, "batch_size": 8}
    small |= {"eval_every": 10, "warmup": 3, "dropout": 0.1, "jitter": 0.2, "mix": 0.3}
    return Gpt(**(small | changes))


@pytest.fixture
def tokens(tmp_path):
    """Sequences that climb by one from a random first code: all but the first is certain."""
    rng = np.random.default_rng(0)
    first = rng.integers(N_CODES, size=40)
    rows = (first[:, None] + np.arange(LENGTH)) % N_CODES
    table = {"shape_id": [f"s{i}" for i in range(40)], "label": [None] * 40}
    table["split"] = ["train"] * 30 + ["val"] * 10
    write_tokens(tmp_path / "tokens.parquet", table, rows, N_CODES)
    return tmp_path / "tokens.parquet"


def losses(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "losses.csv").drop(columns="tokens_per_second")


def test_learns_what_can_be_learned(tokens, tmp_path):
    chosen = settings(iterations=300, learning_rate=1e-2, dropout=0.0, jitter=0.0, mix=0.0)
    train_gpt.train(tokens, tmp_path / "gpt", chosen, 0)
    frame = pd.read_csv(tmp_path / "gpt/losses.csv")
    assert list(frame.columns) == train_gpt.COLUMNS
    floor = math.log(N_CODES) / LENGTH  # only the first code is uncertain
    assert frame["val_loss"].min() < floor + 0.15 < frame["val_loss"][0]
    model, about = load_gpt(tmp_path / "gpt")
    kept = frame.set_index("iteration").loc[about["iteration"]]
    for name in ("val_loss", "calibrated_val_loss", "temperature"):
        assert about[name] == pytest.approx(kept[name])
    codes = generate(model, 20, LENGTH, N_CODES).astype(int)
    assert ((np.diff(codes, axis=1) % N_CODES) == 1).mean() > 0.95


@pytest.mark.parametrize("killed_at", [4, 17])
def test_killed_and_resumed_is_the_same_run(killed_at, tokens, tmp_path, monkeypatch):
    train_gpt.train(tokens, tmp_path / "whole", settings(), 5)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_STATES", 0)
    real = batches.make_batch

    def killer(train, chosen, n_codes, iteration, seed):
        if iteration == killed_at:
            raise KeyboardInterrupt
        return real(train, chosen, n_codes, iteration, seed)

    monkeypatch.setattr(train_gpt, "make_batch", killer)
    with pytest.raises(KeyboardInterrupt):
        train_gpt.train(tokens, tmp_path / "gpt", settings(), 5, tmp_path / "state")
    seen = []
    monkeypatch.setattr(train_gpt, "make_batch", lambda *a: seen.append(a[3]) or real(*a))
    train_gpt.train(tokens, tmp_path / "gpt", settings(), 5, tmp_path / "state")
    assert seen == list(range(killed_at, 30)), "nothing repeated, nothing skipped"
    pd.testing.assert_frame_equal(losses(tmp_path / "gpt"), losses(tmp_path / "whole"))
    whole = load_file(tmp_path / "whole/model.safetensors")
    for name, value in load_file(tmp_path / "gpt/model.safetensors").items():
        assert torch.equal(value, whole[name]), name
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("damage", ["other settings", "cut"])
def test_unusable_state_starts_anew(damage, tokens, tmp_path, monkeypatch, caplog):
    state = tmp_path / "state/state.pt"
    monkeypatch.setattr(training.Path, "unlink", lambda *a, **k: None)
    train_gpt.train(tokens, tmp_path / "a", settings(), 0, state.parent)
    monkeypatch.undo()
    assert state.exists()
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:500])
    caplog.set_level("INFO")
    chosen = settings(iterations=20 if damage == "other settings" else 30)
    train_gpt.train(tokens, tmp_path / "b", chosen, 0, state.parent)
    assert "training starts anew" in caplog.text and "state.pt" in caplog.text
    assert losses(tmp_path / "b")["iteration"].tolist()[0] == 0


def test_non_finite_loss_names_the_iteration(tokens, tmp_path):
    with pytest.raises(InputError, match=r"iteration \d+.*learning_rate"):
        chosen = settings(learning_rate=1e30, warmup=0, weight_decay=0.0)
        train_gpt.train(tokens, tmp_path / "gpt", chosen, 0)
    assert not (tmp_path / "gpt").exists()


def test_accumulation_is_a_larger_batch(tokens, tmp_path):
    runs = {}
    for name, size, parts in (("a", 8, 1), ("b", 4, 2)):
        chosen = settings(batch_size=size, accumulate=parts, dropout=0.0, iterations=5)
        train_gpt.train(tokens, tmp_path / name, chosen, 0)
        runs[name] = load_file(tmp_path / name / "model.safetensors")
    for name, value in runs["a"].items():
        torch.testing.assert_close(value, runs["b"][name], atol=1e-3, rtol=1e-3)


def test_smooth_targets():
    table = batches.smooth_targets(20, 23, 1.5)
    torch.testing.assert_close(table.sum(dim=1), torch.ones(20))
    assert (table[:, 20:] == 0).all()
    ratio = table[10, 12] / table[10, 10]
    assert ratio.item() == pytest.approx(norm.pdf(2, scale=1.5) / norm.pdf(0, scale=1.5))
    assert torch.equal(batches.smooth_targets(4, 5, 0.0), torch.eye(4, 5))


def test_mixed_sequences_lie_between_near_ones():
    train = batches.Sequences(np.array([[2, 20], [6, 24], [52, 20]]), None)
    mixed = batches.mix(train, np.zeros(400, int), 1.0, 60, np.random.default_rng(0))
    assert mixed[:, 1].min() == 19 and mixed[:, 1].max() == 23, "0.3 away to 0.7 towards [6, 24]"
    assert mixed[:, 0].min() == 0 and mixed[:, 0].max() == 37, "codes end at 0"
    assert len(np.unique(mixed, axis=0)) > 20


@pytest.mark.parametrize("damage", ["cut", "no val", "token"])
def test_bad_tokens_are_named(damage, tokens, tmp_path):
    bad = tmp_path / "bad.parquet"
    if damage == "cut":
        bad.write_bytes(tokens.read_bytes()[:300])
    else:
        rows = {"shape_id": ["a"], "split": ["train"], "label": [None]}
        codes = np.full((1, 4), 3 if damage == "no val" else 99)
        write_tokens(bad, rows, codes, N_CODES)
    message = {"cut": "cannot read", "no val": "val split is empty", "token": "token 99"}[damage]
    with pytest.raises(InputError, match=rf"bad\.parquet.*{message}|{message}.*bad\.parquet"):
        train_gpt.train(bad, tmp_path / "gpt", settings(), 0)


def test_command_line(tokens, tmp_path, monkeypatch):
    words = ["train", "gpt", "--table", str(tokens), "--out-dir", str(tmp_path / "gpt")]
    chosen = json.dumps(asdict(settings(iterations=2)))
    monkeypatch.setattr("sys.argv", [*words, "--settings", chosen])
    stage.main()
    assert json.loads((tmp_path / "gpt/config.json").read_text())["n_codes"] == N_CODES


def test_unusable_tables_are_named(tmp_path):
    rows = {"shape_id": ["a", "b"], "split": ["train", "val"], "label": [None, None]}
    path = tmp_path / "tokens.parquet"
    write_tokens(path, rows, np.zeros((2, 4), dtype=int), N_CODES)
    table = pq.read_table(path)
    for codes in ([[1, 2, 3], [4, 5, 6, 7, 8]], [[1, 2, 3, 4], None]):
        column = pa.array(codes, pa.list_(pa.uint16()))
        pq.write_table(table.set_column(3, "tokens", column), path)
        with pytest.raises(InputError, match=r"tokens\.parquet.*4 were promised"):
            batches.read_split(path)


def test_gradients_of_accumulated_parts_are_those_of_the_batch(tokens, tmp_path, monkeypatch):
    clip, seen = torch.nn.utils.clip_grad_norm_, []

    def spy(parameters, limit):
        parameters = list(parameters)
        seen.append([p.grad.clone() for p in parameters])
        assert limit == 1.0
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    for size, parts in ((8, 1), (4, 2)):
        chosen = settings(batch_size=size, accumulate=parts, dropout=0.0, iterations=1)
        train_gpt.train(tokens, tmp_path / "gpt", chosen, 0)
    for one, two in zip(*seen, strict=True):
        torch.testing.assert_close(one, two)


def test_overflowing_gradient_spoils_no_state(tokens, tmp_path, monkeypatch):
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def overflow(parameters, limit):
        parameters = list(parameters)
        calls.append(1)
        if len(calls) == 15:
            parameters[0].grad.fill_(math.inf)
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_STATES", 0)
    with pytest.raises(InputError, match=r"iteration 14.*learning_rate"):
        train_gpt.train(tokens, tmp_path / "gpt", settings(), 0, tmp_path / "state")
    state = torch.load(tmp_path / "state/state.pt", weights_only=True)
    assert state["course"]["iteration"] == 14
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_half_written_state_is_cleared(tokens, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/.state-x1.pt").write_bytes(b"half")
    train_gpt.train(tokens, tmp_path / "gpt", settings(iterations=1), 0, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_weights_are_kept_from_before_the_overfit_and_measured_without_dropout(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(204)]
    rows = {"shape_id": ids, "split": ["train"] * 4 + ["val"] * 200, "label": [0] * 204}
    write_tokens(tmp_path / "t.parquet", rows, rng.integers(N_CODES, size=(204, LENGTH)), N_CODES)
    chosen = settings(iterations=60, learning_rate=0.02, dropout=0.5, mix=0.0)
    train_gpt.train(tmp_path / "t.parquet", tmp_path / "gpt", chosen, 0)
    frame = losses(tmp_path / "gpt")
    model, about = load_gpt(tmp_path / "gpt")
    assert about["iteration"] < frame["iteration"].max() == 60, "overfits"
    _, val, _ = batches.read_split(tmp_path / "t.parquet")
    found = train_gpt.validation_losses(model, val, N_CODES, 3, contextlib.nullcontext)
    assert found.mean(axis=0)[0] == pytest.approx(about["val_loss"], abs=1e-5)
    assert found.mean(axis=0).min() == pytest.approx(about["calibrated_val_loss"], abs=1e-5)


def test_the_last_checkpoint_that_val_cannot_tell_from_the_best_is_kept(
    tokens, tmp_path, monkeypatch
):
    """Losses of ten val sequences at iterations 0, 10, ... as if they had been measured."""
    even = np.tile([0.1, -0.1], 5)  # the standard error of a mean is 1/30
    told = (mean + even for mean in [3.0, 2.1, 2.0, 2.04, 2.03, 2.5])

    def measured(*_):
        column = next(told)[:, None]
        return np.concatenate([column + 1, column, column + 2], axis=1)

    monkeypatch.setattr(train_gpt, "validation_losses", measured)
    train_gpt.train(tokens, tmp_path / "gpt", settings(iterations=50), 0)
    about = json.loads((tmp_path / "gpt/config.json").read_text())
    assert about["iteration"] == 40
    assert about["val_loss"] == pytest.approx(3.03)
    assert about["calibrated_val_loss"] == pytest.approx(2.03)
    assert about["temperature"] == train_gpt.TEMPERATURES[1]


def test_one_sequence_has_no_error():
    assert train_gpt.highest_as_good(np.array([1.5])) == 1.5


def test_overconfidence_is_measured():
    """Logits twice too large are right at temperature 2, where the loss is the entropy."""

    class Overconfident(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.token = torch.nn.Embedding(3, 1)

        def forward(self, inputs):
            return 2 * torch.tensor([0.75, 0.25, 1e-9]).log().expand(*inputs.shape, 3)

    val = batches.Sequences(np.array([[0, 0, 0, 1]] * 5), None)
    found = train_gpt.validation_losses(Overconfident(), val, 2, 2, contextlib.nullcontext)
    assert found.shape == (5, len(train_gpt.TEMPERATURES))
    best = found.mean(axis=0).argmin()
    assert train_gpt.TEMPERATURES[best] == 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found[:, best] == pytest.approx(entropy, abs=1e-5)


def test_smoothing_teaches_the_neighbours(tmp_path):
    rows = {"shape_id": ["a", "b"], "split": ["train", "val"], "label": [None, None]}
    write_tokens(tmp_path / "t.parquet", rows, np.full((2, LENGTH), 5), N_CODES)
    plain = {"dropout": 0.0, "jitter": 0.0, "mix": 0.0, "learning_rate": 1e-2, "iterations": 200}
    chosen = settings(label_smoothing_width=1.0, weight_decay=0.0, eval_every=200, **plain)
    train_gpt.train(tmp_path / "t.parquet", tmp_path / "gpt", chosen, 0)
    model, about = load_gpt(tmp_path / "gpt")
    found = model.cpu()(torch.tensor([[N_CODES]]))[0, 0].softmax(dim=0)
    expected = batches.smooth_targets(N_CODES, N_CODES + 1, 1.0)[5]
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    # Validation stays the plain cross-entropy of code 5.
    assert about["val_loss"] == pytest.approx(-math.log(expected[5]), abs=0.05)


def test_warm_up_is_obeyed(tokens, tmp_path):
    chosen = settings(learning_rate=1.0, warmup=10**9, iterations=3, eval_every=1)
    train_gpt.train(tokens, tmp_path / "gpt", chosen, 0)
    assert np.ptp(losses(tmp_path / "gpt")["val_loss"]) < 1e-4


def test_weight_decay_spares_positions_norms_and_biases():
    model = GPT(GPTConfig(vocab_size=N_CODES + 1, context=LENGTH, embedding=8, heads=2, layers=1))
    optimiser = train_gpt._optimiser(model, settings(weight_decay=0.3))
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {names[id(p)]: decay for group, decay in optimiser.groups for p in group}
    assert decays.keys() == set(names.values())
    matrices = {"qkv", "projection", "expand", "contract"}
    decayed = {f"{name}.weight" for name in matrices} | {"token.weight"}
    for name, decay in decays.items():
        short = name if name.startswith("token") else ".".join(name.split(".")[-2:])
        assert decay == (0.3 if short in decayed else 0.0), name
    assert optimiser.betas == (0.9, 0.95)


def test_jitter_moves_inputs_to_neighbours_only():
    train = np.random.default_rng(0).integers(N_CODES, size=(300, 40))
    chosen = settings(batch_size=300, jitter=0.25, mix=0.0)
    rows = batches.Sequences(train, None)
    inputs, targets = batches.make_batch(rows, chosen, N_CODES, 0, 0)
    assert sorted(targets.tolist()) == sorted(train.tolist()), "targets stay"
    assert (inputs[:, 0] == N_CODES).all()
    moved = inputs[:, 1:] - targets[:, :-1]
    assert set(np.unique(moved)) == {-1, 0, 1}
    assert inputs[:, 1:].min() == 0 and inputs[:, 1:].max() == N_CODES - 1
    inner = (targets[:, :-1] > 0) & (targets[:, :-1] < N_CODES - 1)
    assert (moved[inner] != 0).mean() == pytest.approx(0.25, abs=0.02)
    same = batches.Sequences(np.full((300, 40), 5), None)
    first, second = (batches.make_batch(same, chosen, N_CODES, i, 0)[0] for i in (0, 1))
    assert (first != second).any(), "another iteration, other codes"


def labelled(n: int = 60) -> dict:
    """Sequences whose every code is their class."""
    labels = [i % 3 for i in range(n)]
    rows = {"shape_id": [f"s{i}" for i in range(n)], "label": labels}
    return rows | {"split": ["val" if i % 5 == 0 else "train" for i in range(n)]}


def test_class_token_decides_the_codes(tmp_path):
    rows = labelled()
    codes = np.repeat(np.array(rows["label"])[:, None], LENGTH, axis=1)
    write_tokens(tmp_path / "t.parquet", rows, codes, N_CODES)
    chosen = settings(iterations=150, learning_rate=1e-2, dropout=0.0, jitter=0.0, mix=0.5)
    train_gpt.train(tmp_path / "t.parquet", tmp_path / "gpt", replace(chosen, class_dropout=0.3), 0)
    model, about = load_gpt(tmp_path / "gpt")
    assert about["n_classes"] == 3 and model.config.vocab_size == N_CODES + 4
    assert model.config.context == LENGTH + 1
    asked = np.arange(30) % 3
    prefix = batches.prefix_of(asked, 30, N_CODES)
    made = generate(model, 30, LENGTH, N_CODES, prefix=prefix)
    assert (made == asked[:, None]).mean() > 0.95
    # Without a class the model has seen all three, and knows no more than that.
    free = generate(model, 60, LENGTH, N_CODES, prefix=[N_CODES, N_CODES])
    assert set(free[:, 0]) >= {0, 1, 2}
    guided = generate(model, 30, LENGTH, N_CODES, prefix=prefix, guidance=3.0)
    assert (guided == asked[:, None]).mean() >= (made == asked[:, None]).mean()


def test_guidance_of_one_changes_nothing_and_needs_classes(tmp_path):
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(vocab_size=N_CODES + 4, context=LENGTH + 1, embedding=8, heads=2, layers=1)
    ).eval()
    prefix = [N_CODES, N_CODES + 2]
    plain = generate(model, 8, LENGTH, N_CODES, prefix=prefix)
    assert (generate(model, 8, LENGTH, N_CODES, prefix=prefix, guidance=1.0) == plain).all()
    with pytest.raises(InputError, match="guidance is for models with classes"):
        generate(model, 8, LENGTH, N_CODES, guidance=2.0)


def test_mixing_stays_within_a_class():
    codes = np.array([[0, 0], [1, 1], [9, 9], [10, 10]])
    train = batches.Sequences(codes, np.array([0, 1, 0, 1]))
    mixed = batches.mix(train, np.zeros(300, int), 1.0, N_CODES, np.random.default_rng(0))
    assert (mixed[:, 0] == mixed[:, 1]).all() and mixed.max() <= 7, "never towards [10, 10]"


def test_labels_on_some_fields_only_are_refused(tmp_path):
    rows = labelled(10)
    rows["label"] = [None, *rows["label"][1:]]
    write_tokens(tmp_path / "t.parquet", rows, np.zeros((10, LENGTH), int), N_CODES)
    with pytest.raises(InputError, match="some fields have a label and some have none"):
        batches.read_split(tmp_path / "t.parquet")


def test_near_sequences_are_looked_for_once():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(60, size=(30, 4)), np.array([0] * 20 + [1] * 7 + [2] * 2 + [3])
    train = batches.Sequences(codes, labels)
    rows = np.array([3, 21, 27, 29, 3])
    near, n_near = train.near(rows)
    assert n_near.tolist() == [5, 5, 1, 0, 5] and near[2, 0] == 28
    distance = np.abs(codes[:20] - codes[3]).mean(axis=1)
    assert near[0].tolist() == np.argsort(distance, kind="stable")[1:6].tolist()
    assert set(near[1]) < set(range(20, 27)) - {21}
    train.codes = None  # nothing more is computed
    for again, first in zip(train.near(rows), (near, n_near), strict=True):
        np.testing.assert_array_equal(again, first)
