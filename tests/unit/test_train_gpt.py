"""Training: learns, resumes exactly, and says what is wrong."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import norm

from nefgpt import train_gpt
from nefgpt.config import Gpt
from nefgpt.errors import InputError
from nefgpt.generate import generate, load_gpt
from nefgpt.tokenizer import write_tokens

N_CODES, LENGTH = 11, 6


def settings(**changes) -> dict:
    small = {"embedding": 16, "heads": 2, "layers": 1, "iterations": 30, "batch_size": 8}
    small |= {"eval_every": 10, "warmup": 3, "dropout": 0.1, "jitter": 0.2, "mix": 0.3}
    return Gpt(**(small | changes)).model_dump()


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
    assert about["val_loss"] == pytest.approx(frame["val_loss"].min())
    codes = generate(model, 20, LENGTH, N_CODES).astype(int)
    assert ((np.diff(codes, axis=1) % N_CODES) == 1).mean() > 0.95


@pytest.mark.parametrize("killed_at", [4, 17])
def test_killed_and_resumed_is_the_same_run(killed_at, tokens, tmp_path, monkeypatch):
    train_gpt.train(tokens, tmp_path / "whole", settings(), 5)
    monkeypatch.setattr(train_gpt, "SECONDS_BETWEEN_STATES", 0)
    real = train_gpt.make_batch

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
    monkeypatch.setattr(train_gpt.Path, "unlink", lambda *a, **k: None)
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


def test_every_epoch_sees_every_row_once():
    rows = np.concatenate([train_gpt.batch_rows(10, 4, i, 0) for i in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_learning_rate():
    chosen = settings(iterations=103, warmup=3, learning_rate=1.0, min_learning_rate=0.1)
    rates = [train_gpt.learning_rate(chosen, i) for i in range(104)]
    np.testing.assert_allclose(rates[:4], [1 / 3, 2 / 3, 1, 1])
    assert rates[53] == pytest.approx(0.55) and rates[103] == pytest.approx(0.1)


def test_smooth_targets():
    table = train_gpt.smooth_targets(20, 23, 1.5)
    torch.testing.assert_close(table.sum(dim=1), torch.ones(20))
    assert (table[:, 20:] == 0).all()
    ratio = table[10, 12] / table[10, 10]
    assert ratio.item() == pytest.approx(norm.pdf(2, scale=1.5) / norm.pdf(0, scale=1.5))
    assert torch.equal(train_gpt.smooth_targets(4, 5, 0.0), torch.eye(4, 5))


def test_mixed_sequences_lie_between_near_ones():
    train = np.array([[0, 0], [4, 4], [50, 0]])
    mixed = train_gpt.mix(np.repeat(train[:1], 200, axis=0), train, 1.0, np.random.default_rng(0))
    assert (mixed[:, 1] <= 4).all() and mixed.max() <= 50 and len(np.unique(mixed, axis=0)) > 20


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
    words = ["train_gpt", "--tokens", str(tokens), "--out-dir", str(tmp_path / "gpt")]
    monkeypatch.setattr("sys.argv", [*words, "--settings", json.dumps(settings(iterations=2))])
    train_gpt.main()
    assert json.loads((tmp_path / "gpt/config.json").read_text())["n_codes"] == N_CODES
