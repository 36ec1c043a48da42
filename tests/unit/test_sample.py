"""Samplers: what they draw from, and the ladder's rows."""

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import weights
from nefgpt.generators import gaussian, ladder, sample
from nefgpt.generators.components import Differences, differences
from nefgpt.generators.gpt.tokenizer import fit_tokenizer, save_tokenizer
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.settings import Tokens

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
