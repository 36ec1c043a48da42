"""The experiment on fits and codings, at toy size."""

import csv
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from nefgpt.base.errors import InputError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def tokenise(monkeypatch):
    """The command as a module."""
    monkeypatch.syspath_prepend(EXPERIMENTS)  # as when it is called as a script
    spec = importlib.util.spec_from_file_location("tokenise", EXPERIMENTS / "tokenise.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_measures_every_method_and_goes_on_where_it_stopped(
    tokenise, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "t.csv"
    words = f"tokenise --folder {tmp_path} --out {out} --train 4 --held-out 2 --steps 6 --hidden 4"
    words += " --basis-steps 6 --points 1000 --resolution 16 --gpt-iterations 3 --gpt"
    monkeypatch.setattr(sys, "argv", [*words.split(), "basis 32"])
    tokenise.main()
    rows = read(out)
    assert [row["method"] for row in rows] == list(tokenise.METHODS)
    tokens = {row["method"]: int(row["tokens"]) for row in rows}
    n_weights = 21 * 4 + 4 + 4  # three octaves, as the default
    assert tokens["template mean"] == tokens["rounded in the fit"] == n_weights
    assert tokens["basis 32"] == 3  # one fewer than train shapes
    assert tokens["basis 32 + residual, all weights"] == 3 + n_weights
    for row in rows:
        assert 0 < float(row["bits_token"]) < math.log2(4 * n_weights * 127)
        bits = float(row["bits_token"]) * int(row["tokens"])
        assert float(row["bits_field"]) == pytest.approx(bits, rel=1e-4)
        assert bool(row["gpt_bits_token"]) == (row["method"] == "basis 32")
    pairs = read(tmp_path / "t-pairs.csv")
    assert float(pairs[1]["distance"]) <= float(pairs[0]["distance"])
    assert pairs[1]["loss_ends"] == pairs[0]["loss_ends"]  # alignment keeps the functions

    printed = capsys.readouterr().out
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    tokenise.main()
    assert capsys.readouterr().out == printed
    again = read(out)
    assert again[:-1] == rows[:-1]
    drop = {"seconds_measured": ""}
    assert again[-1] | drop == rows[-1] | drop


def test_impossible_options_and_a_table_of_something_else_are_refused(
    tokenise, tmp_path, monkeypatch
):
    words = ["tokenise", "--folder", str(tmp_path), "--out", str(tmp_path / "t.csv"), "--codes"]
    monkeypatch.setattr(sys, "argv", [*words, "1"])
    with pytest.raises(InputError, match="--codes must be at least 2"):
        tokenise.main()
    other = tmp_path / "other.csv"
    other.write_text("name,value\na,1\n")
    with pytest.raises(InputError, match="other columns"):
        tokenise.append_missing(other, ["x"], [], lambda name: {"tokens": 3}, {"codes": "2"})
    assert other.read_text() == "name,value\na,1\n"


def test_the_share_explained_is_all_of_it_within_the_span_and_none_outside(tokenise):
    from token_measures import explained

    rng = np.random.default_rng(0)
    span = np.zeros((12, 10))
    span[:, :4] = rng.normal(size=(12, 4))
    assert explained(span, 9, k=4) == pytest.approx(100)
    span[9:] = span[:9].mean(axis=0)
    span[9:, 7] += 1.0
    assert explained(span, 9, k=4) == pytest.approx(0, abs=1e-9)
