"""Samplers: what they draw from, and the ladder's rows."""

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import weights
from nefgpt.generators import gaussian, ladder, sample
from nefgpt.generators.components import Differences, differences
from nefgpt.generators.gpt import generator
from nefgpt.generators.gpt.tokenizer import Tokenizer, fit_tokenizer, save_tokenizer
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.kind import Given, by_blocks, classes_of
from nefgpt.generators.settings import Gaussian, Setting, Tokens

SPEC = FieldSpec(hidden=(4,))


def test_gaussian_has_the_moments_of_train():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 20)) + 5
    made = gaussian.gaussian(gaussian.components(Differences(train)), 20_000, 3, seed=0)
    np.testing.assert_allclose(made.mean(axis=0), train.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(made.T), np.cov(train.T), atol=0.25)
    few = gaussian.gaussian(gaussian.components(Differences(train)), 100, 1, seed=0)
    assert np.linalg.matrix_rank(few - train.mean(axis=0), tol=1e-2) == 1


def test_gaussian_of_few():
    train = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    made = gaussian.gaussian(gaussian.components(Differences(train)), 9, 40, seed=0)
    assert made.shape == (9, 4), "no more components than weights"
    made = gaussian.gaussian(gaussian.components(Differences(train[:1])), 2, 4, seed=0)
    np.testing.assert_allclose(made, train[[0, 0]])
    with pytest.raises(InputError, match="train split"):
        gaussian.gaussian(gaussian.components(Differences(train[:0])), 2, 4, seed=0)


WIDE, BLOCK = FieldSpec(hidden=(16, 16)), 16  # where BLAS rounds by the number of rows


def wide(n_classes: int = 0) -> weights.Fields:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(60, WIDE.n_weights)).astype(np.float32)
    labels = [i % n_classes if n_classes else None for i in range(60)]
    ids = [f"s{i}" for i in range(60)]
    return weights.Fields(WIDE, made[0], ids, ["train"] * 60, labels, made)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_a_sample_of_the_gaussian_is_the_same_whatever_n(n_classes, tmp_path):
    given, setting = Given(wide(n_classes)), Gaussian(n_components=12)
    loaded = gaussian.load(given)
    gaussian.save(loaded, setting, tmp_path)
    kept = gaussian.load(Given(None, model=tmp_path))
    plain = gaussian.sample(loaded, given, setting, BLOCK, seed=3)
    blocks = given._replace(block=BLOCK)
    for n in (1, 2, BLOCK, BLOCK + 1, 3 * BLOCK):
        for source in (loaded, kept):
            made = gaussian.sample(source, blocks, setting, n, seed=3)
            assert made.labels == classes_of(n, n_classes)
            some = min(n, BLOCK)
            np.testing.assert_array_equal(made.weights[:some], plain.weights[:some])
            longest = gaussian.sample(loaded, blocks, setting, 4 * BLOCK, seed=3)
            np.testing.assert_array_equal(made.weights, longest.weights[:n])


def test_tokens_are_decoded_alike_whatever_n(monkeypatch):
    rng = np.random.default_rng(0)
    components = rng.normal(size=(32, 561)).astype(np.float32)
    codes, zeros = np.linspace(-2, 2, 31, dtype=np.float32), np.zeros(561, np.float32)
    scale = np.ones(32, np.float32)
    tokenizer = Tokenizer("basis", codes, zeros, zeros, components, scale)
    tokens = rng.integers(31, size=(40, 32)).astype(np.uint16)
    asked = []

    def generate(model, n, *args, batch_size, **kwargs):
        asked.append((n, batch_size))
        return tokens[:n] if n <= 40 else np.resize(tokens, (n, 32))

    monkeypatch.setattr(generator, "generate", generate)
    loaded = generator.Loaded(None, {}, tokenizer)
    plain = generator.sample(loaded, Given(None, batch_size=32), Setting(), BLOCK, seed=0)
    for batch, n, expected in ((32, 3, (16, 16)), (32, 17, (32, 16)), (5, 6, (10, 5))):
        given = Given(None, batch_size=batch, block=BLOCK)
        made = generator.sample(loaded, given, Setting(), n, seed=0)
        assert asked[-1] == expected, "whole batches"
        some = min(n, BLOCK)
        np.testing.assert_array_equal(made.weights[:some], plain.weights[:some])
        assert len(made.weights) == len(made.tokens) == len(made.labels) == n


def test_blocks_are_filled_up():
    seen = []

    def function(rows):
        seen.append(len(rows))
        return 2 * rows

    rows = np.arange(10).reshape(5, 2)
    assert (by_blocks(function, rows, 3) == 2 * rows).all() and seen == [3, 3]
    assert (by_blocks(function, rows, 0) == 2 * rows).all() and seen == [3, 3, 5]


def test_choice_of_train_rows():
    chosen = ladder.choose_train(20, 7, seed=0)
    assert len(set(chosen)) == 7 and (np.diff(chosen) > 0).all() and chosen.max() < 20
    assert (chosen == ladder.choose_train(20, 7, seed=0)).all()
    with pytest.raises(InputError, match=r"evaluation\.n_samples"):
        ladder.choose_train(5, 7, seed=0)


@pytest.mark.parametrize("in_basis", [False, True])
def test_rows_of_the_ladder(in_basis, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    template, basis = rng.normal(size=SPEC.n_weights), rng.normal(size=(6, SPEC.n_weights))
    template, basis = template.astype(np.float32), basis.astype(np.float32)
    coefficients = rng.normal(size=(12, 6)).astype(np.float32)
    values = template + coefficients @ basis
    splits = ["val" if i % 4 == 0 else "train" for i in range(12)]
    known, basis = (coefficients, basis) if in_basis else ([None] * 12, None)
    rows = [(f"s{i}", splits[i], None, values[i], {}, known[i]) for i in range(12)]
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, rows, basis)
    source = weights.read_fields(tmp_path / "w.parquet")
    train = differences(source, source.of_split("train"))
    tokenizer = fit_tokenizer(train, template, Tokens(kind="basis", n_codes=31, n_components=4))
    tokens = tokenizer.encode(differences(source))
    save_tokenizer(tmp_path / "c.safetensors", tokenizer, np.zeros(31))
    table = {"shape_id": [row[0] for row in rows], "split": splits, "label": [None] * 12}
    write_tokens(tmp_path / "t.parquet", table, tokens, 31)
    found = {}
    for method in ("train-fields", "quantised-train-fields", "gaussian"):
        words = ["sample", method, "--weights", str(tmp_path / "w.parquet"), "--n-samples", "5"]
        words += ["--out-dir", str(tmp_path / method)]
        words += ["--settings", '{"n_components": 3}'] if method == "gaussian" else []
        if method == "quantised-train-fields":
            words += ["--codebook", str(tmp_path / "c.safetensors")]
            words += ["--tokens", str(tmp_path / "t.parquet")]
        monkeypatch.setattr("sys.argv", words)
        sample.main()
        found[method] = weights.read_fields(tmp_path / method / "fields.parquet")
    ids = found["train-fields"].shape_ids
    places = [int(name[1:]) for name in ids]
    assert all(splits[i] == "train" for i in places)
    assert found["quantised-train-fields"].shape_ids == ids
    np.testing.assert_array_equal(found["train-fields"].weights, values[places])
    if in_basis:
        np.testing.assert_array_equal(found["train-fields"].coefficients, coefficients[places])
    else:
        assert found["train-fields"].coefficients is None
    assert found["gaussian"].coefficients is found["gaussian"].basis is None, "not known"
    expected = tokenizer.decode(tokens[places])
    np.testing.assert_array_equal(found["quantised-train-fields"].weights, expected)
    assert found["gaussian"].shape_ids == [f"sample-{i}" for i in range(5)]
    expected = template + gaussian.gaussian(gaussian.components(train), 5, 3, seed=0)
    np.testing.assert_allclose(found["gaussian"].weights, expected, rtol=1e-5, atol=1e-6)
