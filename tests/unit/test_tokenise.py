"""The benchmark of fits and codings, at toy size."""

import csv
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from nefgpt.base.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tokenise():
    """The command as a module."""
    before = sys.path.copy()
    sys.path.insert(0, str(BENCHMARKS))  # as when it is called as a script
    spec = importlib.util.spec_from_file_location("tokenise", BENCHMARKS / "tokenise.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


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


def test_codes_that_never_change_cost_no_bits_and_random_ones_all_of_theirs(tokenise):
    from token_measures import positional_bits

    n, n_codes = 9, 16
    same = np.full((n, 5), 3)
    unigram = (n * 5 + 1) / (n * 5 + n_codes)
    known = -math.log2((n + unigram) / (n + 1))
    assert positional_bits(same, same[:2], n_codes) == pytest.approx(known)
    noise = np.random.default_rng(0).integers(0, n_codes, (600, 20))
    assert positional_bits(noise[:400], noise[400:], n_codes) == pytest.approx(4, abs=0.03)
    # Each place has a code of its own: a distribution over all places would need two bits.
    places = np.tile([0, 5, 10, 15], (n, 1))
    assert positional_bits(places, places, n_codes) < 0.2


def test_the_share_explained_is_all_of_it_within_the_span_and_none_outside(tokenise):
    from token_measures import explained

    rng = np.random.default_rng(0)
    span = np.zeros((12, 10))
    span[:, :4] = rng.normal(size=(12, 4))
    assert explained(span, 9, k=4) == pytest.approx(100)
    span[9:] = span[:9].mean(axis=0)
    span[9:, 7] += 1.0
    assert explained(span, 9, k=4) == pytest.approx(0, abs=1e-9)
