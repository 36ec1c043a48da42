"""Codebooks near the optimum, learned on train only, and back again."""

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import weights
from nefgpt.generators.components import Differences
from nefgpt.generators.gpt import codebook
from nefgpt.generators.gpt.codebook import fit_codes
from nefgpt.generators.gpt.tokenizer import (
    Tokenizer,
    fit_tokenizer,
    load_tokenizer,
    main,
    save_tokenizer,
    usage_of,
)
from nefgpt.generators.gpt.tokens import read_tokens, write_tokens
from nefgpt.generators.settings import Tokens

BASIS = Tokens(kind="basis", n_codes=63, n_components=5)
SCALAR = Tokens(kind="scalar", n_codes=63)


def fields(n=40, width=30, rank=5, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, width))).astype(np.float32)


def scored(tokenizer: Tokenizer, values: np.ndarray) -> np.ndarray:
    return tokenizer.scores(Differences(values - tokenizer.template))


def encoded(tokenizer: Tokenizer, values: np.ndarray) -> np.ndarray:
    return tokenizer.encode(Differences(values - tokenizer.template))


def learned(train: np.ndarray, template: np.ndarray, settings: Tokens) -> Tokenizer:
    return fit_tokenizer(Differences(train - template), template, settings)


def error(values: np.ndarray, codes: np.ndarray) -> float:
    return float(np.square(values[:, None] - codes[None]).min(axis=1).sum())


def optimal_error(values: np.ndarray, k: int) -> float:
    """Squared error of the best k cells of sorted values, by dynamic programming."""
    values = np.sort(values)
    n = len(values)
    sums, squares = np.cumsum([0, *values]), np.cumsum([0, *values**2])
    cost = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        j = np.arange(i + 1, n + 1)
        cost[i, i + 1 :] = squares[j] - squares[i] - (sums[j] - sums[i]) ** 2 / (j - i)
    best = cost[0].copy()
    for _ in range(k - 1):
        best = (best[:, None] + cost).min(axis=0)
    return float(best[n])


DRAWS = ["normal", "laplace", "uniform", "exponential", "standard_cauchy"]


@pytest.mark.parametrize("draw", DRAWS)
def test_codes_of_few_values_are_the_optimum(draw):
    values = getattr(np.random.default_rng(0), draw)(size=300)
    assert error(values, fit_codes(values, 15)) < 1.0001 * optimal_error(values, 15)


@pytest.mark.parametrize("draw", DRAWS)
def test_codes_of_many_values_are_near_the_optimum(draw):
    """What a run has: of so many values cells are joined, and Lloyd's iterations follow."""
    values = np.sort(getattr(np.random.default_rng(1), draw)(size=100_000))
    sums, squares = np.cumsum([0, *values]), np.cumsum([0, *values**2])
    edges = codebook._join(np.arange(len(values) + 1), sums, squares, 127)
    groups = np.split(values, edges[1:-1])
    least = sum(np.square(group - group.mean()).sum() for group in groups)
    codes = fit_codes(values, 127).astype(float)
    near = codes[np.searchsorted((codes[1:] + codes[:-1]) / 2, values)]
    assert least * (1 - 1e-9) < np.square(values - near).sum() < 1.001 * least


numbers = st.floats(-1e3, 1e3, width=32)


@given(arrays(np.float32, st.integers(1, 80), elements=numbers), st.integers(2, 20))
def test_codes_are_ascending_within_the_data(values, n_codes):
    codes = fit_codes(values, n_codes)
    assert codes.shape == (n_codes,) and np.isfinite(codes).all() and (np.diff(codes) >= 0).all()
    slack = 1e-5 + 1e-5 * np.abs(values).max()
    assert codes.min() >= values.min() - slack and codes.max() <= values.max() + slack


def test_dead_codes_are_revived():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1e-3, 5000), rng.normal(100, 1e-3, 5000), [1e4]])
    codes = fit_codes(values, 16)
    used = np.unique(np.abs(values[:, None] - codes[None]).argmin(axis=1))
    assert len(used) == 16


@given(st.integers(0, 2**32 - 1), st.sampled_from([BASIS, SCALAR]))
def test_tokens_are_the_nearest_codes(seed, settings):
    train = fields(seed=seed)
    tokenizer = learned(train, train[0], settings)
    tokens = encoded(tokenizer, train)
    assert tokens.dtype == np.uint16
    values = scored(tokenizer, train)
    distance = np.abs(values[..., None] - tokenizer.codes)
    chosen = np.take_along_axis(distance, tokens[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, distance.min(axis=-1), atol=1e-5)
    again = encoded(tokenizer, tokenizer.decode(tokens))
    assert (np.abs(tokenizer.codes[again] - tokenizer.codes[tokens]) < 1e-3).all()


def test_fields_without_a_surface_have_no_median_distance(tmp_path, monkeypatch):
    """JSON has no NaN."""
    measured = {"iou": 0.1, "chamfer": float("nan")}
    monkeypatch.setattr("nefgpt.signals.shapes.quality", lambda *args: measured)
    values = fields(n=8, width=FieldSpec(hidden=(2,), octaves=0).n_weights)
    monkeypatch.setattr("sys.argv", files_of(tmp_path, values, ["train"] * 6 + ["val"] * 2))
    main()

    def refuse(word):
        raise AssertionError(word)

    usage = json.loads((tmp_path / "tokens.json").read_text(), parse_constant=refuse)
    assert usage["val: median iou_quantised"] == pytest.approx(0.1)
    assert "val: median chamfer_quantised" not in usage


@pytest.mark.parametrize("settings", [BASIS, SCALAR])
def test_quantisation_error_is_below_half_a_gap(settings):
    train = fields(n=200)
    tokenizer = learned(train, train[0], settings)
    values, codes = scored(tokenizer, train).astype(float), tokenizer.codes.astype(float)
    back = scored(tokenizer, tokenizer.decode(encoded(tokenizer, train)))
    right = np.searchsorted(codes, values)
    inside = (right > 0) & (right < len(codes))
    assert inside.mean() > 0.9
    gap = np.diff(codes)[right[inside] - 1]  # between the two codes around each value
    assert (np.abs(back - values)[inside] <= gap / 2 + 1e-5).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([BASIS, SCALAR]))
def test_tokens_survive_a_round_trip(seed, settings):
    train = fields()
    tokenizer = learned(train, train[0], settings)
    shape = (5, tokenizer.sequence_length)
    tokens = np.random.default_rng(seed).integers(0, 63, shape).astype(np.uint16)
    np.testing.assert_array_equal(encoded(tokenizer, tokenizer.decode(tokens)), tokens)


@pytest.mark.parametrize("settings", [BASIS, SCALAR])
def test_equal_fields(settings):
    train = np.repeat(fields(n=1), 9, axis=0)
    tokenizer = learned(train, np.zeros_like(train[0]), settings)
    assert np.isfinite(tokenizer.codes).all() and (np.diff(tokenizer.codes) >= 0).all()
    np.testing.assert_allclose(tokenizer.decode(encoded(tokenizer, train)), train, atol=1e-5)


def test_more_components_than_weights():
    train = fields(n=40, width=6)
    tokenizer = learned(train, train[0], replace(BASIS, n_components=50))
    assert tokenizer.sequence_length == 6
    back = tokenizer.decode(encoded(tokenizer, train))
    assert np.square(back - train).mean() < 0.01 * train.var()


@pytest.mark.parametrize("n_codes", [300, 4096])
def test_many_codes(n_codes):
    values = np.random.default_rng(0).normal(size=50_000)
    codes = fit_codes(values, n_codes)
    assert codes.shape == (n_codes,) and (np.diff(codes) >= 0).all()
    nearest = np.searchsorted((codes[1:] + codes[:-1]) / 2, values)
    # The least error of n codes of a normal distribution is 2.72 / n^2 (Panter and Dite).
    assert np.square(values - codes[nearest]).mean() < 1.2 * 2.72 / n_codes**2


def files_of(
    folder, values: np.ndarray, splits: list[str], basis=None, coefficients=None
) -> list[str]:
    """Write what `tokenize` reads; return its command line."""
    spec = FieldSpec(hidden=(2,), octaves=0)
    quality = {"iou": 0.9, "chamfer": 0.1}
    known = [None] * len(values) if basis is None else coefficients
    rows = [(f"s{i}", splits[i], None, values[i], quality, known[i]) for i in range(len(values))]
    weights.write_fields(folder / "w.parquet", spec, values[0], rows, basis)
    for row in rows:
        np.savez(folder / f"{row[0]}.npz", points=np.zeros((1, 3)), sdf=np.zeros(1))
    words = ["tokenizer", "--weights", str(folder / "w.parquet"), "--signal-dir", str(folder)]
    return [*words, "--out-dir", str(folder), "--settings", json.dumps(asdict(BASIS))]


def test_only_train_is_learned_from(tmp_path, monkeypatch):
    measured = {"iou": 0.8, "chamfer": 0.2}
    monkeypatch.setattr("nefgpt.signals.shapes.quality", lambda *args: measured)
    values = fields(n=24, width=FieldSpec(hidden=(2,), octaves=0).n_weights)
    splits = ["val" if i % 4 == 1 else "train" for i in range(24)]
    val = np.array(splits) == "val"
    found = []
    for name, factor in [("one", 1), ("two", 100)]:
        folder = tmp_path / name
        folder.mkdir()
        changed = np.where(val[:, None], factor * values, values).astype(np.float32)
        monkeypatch.setattr("sys.argv", files_of(folder, changed, splits))
        main()
        found.append((folder / "codebook.safetensors").read_bytes())
        tokens = read_tokens(folder / "tokens.parquet").tokens
        loaded = load_tokenizer(folder / "codebook.safetensors")
        expected = encoded(loaded, changed)
        np.testing.assert_array_equal(tokens, expected)
    assert found[0] == found[1]
    table = read_tokens(tmp_path / "one/tokens.parquet")
    assert table.splits == splits and table.n_codes == 63
    assert table.measures["iou"].tolist() == pytest.approx([0.9] * 24)
    assert table.measures["iou_quantised"].tolist() == pytest.approx([0.8] * 24)
    usage = json.loads((tmp_path / "one/tokens.json").read_text())
    assert usage["val: median chamfer_quantised"] == pytest.approx(0.2)
    with pytest.raises(InputError, match="train split"):
        learned(values[:0], values[0], BASIS)


def test_table_with_coefficients_gives_the_tokens_of_one_without(tmp_path, monkeypatch):
    monkeypatch.setattr("nefgpt.signals.shapes.quality", lambda *args: {"iou": 1, "chamfer": 0})
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(5, FieldSpec(hidden=(2,), octaves=0).n_weights)).astype(np.float32)
    coefficients = rng.normal(size=(24, 5)).astype(np.float32)
    coefficients[0] = 0
    values, found = 1 + coefficients @ basis, {}
    for name, kept in (("with", (basis, coefficients)), ("without", (None, None))):
        (tmp_path / name).mkdir()
        words = files_of(tmp_path / name, values, ["train"] * 20 + ["val"] * 4, *kept)
        monkeypatch.setattr("sys.argv", words)
        main()
        found[name] = read_tokens(tmp_path / name / "tokens.parquet").tokens
    assert found["with"].shape == (24, 5)
    np.testing.assert_array_equal(*found.values())


@pytest.mark.parametrize("settings", [BASIS, SCALAR])
def test_file_round_trip(settings, tmp_path):
    train = fields()
    tokenizer = learned(train, train[0], settings)
    save_tokenizer(tmp_path / "c.safetensors", tokenizer, np.arange(63))
    loaded = load_tokenizer(tmp_path / "c.safetensors")
    tokens = encoded(tokenizer, train)
    np.testing.assert_array_equal(encoded(loaded, train), tokens)
    np.testing.assert_array_equal(loaded.decode(encoded(loaded, train)), tokenizer.decode(tokens))
    whole = (tmp_path / "c.safetensors").read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c.safetensors").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"c\.safetensors"):
            load_tokenizer(tmp_path / "c.safetensors")


def test_unknown_token_is_refused():
    train = fields()
    with pytest.raises(InputError, match="token 63 is no code"):
        learned(train, train[0], BASIS).decode(np.full((1, 5), 63))


def test_perplexity_of_equal_use():
    usage = usage_of(np.repeat(np.arange(8), 5), 10)
    assert usage["perplexity"] == pytest.approx(8) and usage["dead_codes"] == 2


@given(arrays(np.uint16, (4, 6), elements=st.integers(0, 126)))
def test_tokens_table_round_trip(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("t") / "tokens.parquet"
    rows = {"shape_id": list("abcd"), "split": ["train"] * 4, "label": [None, 1, 2, None]}
    write_tokens(path, rows | {"iou": [0.5, None, 1.0, 0.0]}, tokens, 127)
    found = read_tokens(path)
    np.testing.assert_array_equal(found.tokens, tokens)
    assert found.tokens.dtype == np.uint16 and found.n_codes == 127
    assert [found.shape_ids, found.splits, found.labels] == list(rows.values())
    np.testing.assert_array_equal(found.measures["iou"], [0.5, np.nan, 1, 0])


@pytest.mark.parametrize("lists", [[[1, 2, 3], [4]], [[1, 2, 3], None], [[1, 2], [4, 5]], []])
def test_ragged_tokens_are_refused(lists, tmp_path):
    rows = {"shape_id": list("ab"), "split": ["train"] * 2, "label": [None] * 2}
    path = tmp_path / "t.parquet"
    write_tokens(path, rows, np.ones((2, 3), int), 7)
    table = pq.read_table(path)
    other = table[: len(lists)].set_column(3, "tokens", pa.array(lists, pa.list_(pa.uint16())))
    pq.write_table(other, path)
    with pytest.raises(InputError, match=r"t\.parquet: sequences of .* where 3 were promised"):
        read_tokens(path)
    for broken in (table.drop_columns(["label"]), table.replace_schema_metadata(None)):
        pq.write_table(broken, path)
        with pytest.raises(InputError, match="cannot read tokens"):
            read_tokens(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot read tokens"):
        read_tokens(path)


def test_unit_scale():
    base = Tokenizer("scalar", np.zeros(1), np.ones(3), np.zeros(3), None, np.ones(3))
    np.testing.assert_array_equal(scored(base, np.full((1, 3), 3.0)), np.full((1, 3), 2.0))
