"""Sampling: filtering of the distribution, draws, prefixes, and what a broken model says."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nefgpt.base.errors import InputError
from nefgpt.generators.gpt.model import GPT, GPTConfig, context_length
from nefgpt.generators.gpt.sampling import _choose, _filtered_probabilities, generate, load_gpt

N_CODES, LENGTH = 6, 8
PROBABILITIES = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]], dtype=torch.float64)


@pytest.fixture
def model():
    """A model far from uniform: the first draws differ, so that mistakes show."""
    torch.manual_seed(1)
    config = GPTConfig(
        vocab_size=N_CODES + 2,
        context=context_length(LENGTH, 2),
        embedding=8,
        heads=2,
        layers=2,
    )
    gpt = GPT(config)
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return gpt.eval()


def filtered(temperature=1.0, top_k=None, top_p=None) -> list[float]:
    chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    return _filtered_probabilities(PROBABILITIES.log(), **chosen)[0].tolist()


def test_temperature_sharpens():
    square = PROBABILITIES[0] ** 2
    assert filtered(temperature=0.5) == pytest.approx((square / square.sum()).tolist())


def test_top_k_keeps_the_most_probable():
    assert filtered(top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7, 0])
    assert filtered(top_k=99) == pytest.approx(PROBABILITIES[0].tolist())


def test_top_k_breaks_ties_by_number():
    logits = torch.zeros(1, 4, dtype=torch.float64)
    found = _filtered_probabilities(logits, temperature=1.0, top_k=2, top_p=None)
    assert found.tolist() == [[0.5, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize(
    "top_p, kept", [(0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 4])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    assert np.flatnonzero(filtered(top_p=top_p)).tolist() == kept


def test_top_p_counts_what_top_k_left():
    # After top_k=2 the masses are 4/7 and 3/7.
    assert np.flatnonzero(filtered(top_k=2, top_p=0.5)).tolist() == [1]


def test_draw_inverts_the_cumulative_distribution():
    # Cumulative: 0.1, 0.5, 0.55, 0.85, 1; a sixth, special token would win if it could.
    logits = torch.cat([PROBABILITIES.log(), torch.full((1, 1), 50.0)], dim=1).expand(6, 6)
    uniforms = torch.tensor([0.0, 0.11, 0.49, 0.51, 0.84, 1 - 1e-16], dtype=torch.float64)
    found = _choose(logits, uniforms, 5, temperature=1.0, top_k=None, top_p=None)
    assert found.tolist() == [0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 1e-16])
def test_draw_never_takes_a_code_that_was_filtered_out(uniform):
    uniforms = torch.tensor([uniform], dtype=torch.float64)
    found = _choose(PROBABILITIES.log(), uniforms, 5, temperature=1.0, top_k=1, top_p=None)
    assert found.item() == 1


def test_sampling_follows_the_model_token_by_token(model):
    """The same draws through full forward passes, without a cache."""
    found = generate(model, 2, LENGTH, N_CODES, seed=3)
    for i in range(2):
        uniforms = np.random.default_rng((3, i)).random(LENGTH)
        tokens = [N_CODES]
        for uniform in uniforms:
            logits = model(torch.tensor([tokens]))[0, -1, :N_CODES].double()
            cumulative = logits.softmax(dim=0).cumsum(dim=0)
            tokens.append(int((cumulative <= uniform * cumulative[-1]).sum()))
        assert found[i].tolist() == tokens[1:]


def test_prefix_conditions_the_samples(model):
    default = generate(model, 4, LENGTH, N_CODES)
    assert (generate(model, 4, LENGTH, N_CODES, prefix=[N_CODES]) == default).all()
    with_class = generate(model, 4, LENGTH, N_CODES, prefix=[N_CODES, N_CODES + 1])
    assert with_class.shape == default.shape and (with_class != default).any()
    assert max(default.max(), with_class.max()) < N_CODES


@pytest.mark.parametrize("guidance", [None, 2.0])
def test_codes_to_begin_with_are_kept_and_continued(model, guidance):
    options = {"prefix": [N_CODES, N_CODES + 1], "guidance": guidance, "seed": 4}
    whole = generate(model, 5, LENGTH, N_CODES, **options)
    for k in (0, 1, LENGTH - 1):
        again = generate(model, 1, LENGTH, N_CODES, begin=whole[0, :k], **options)
        assert (again == whole[:1]).all(), "it goes on as it went"
        many = generate(model, 5, LENGTH, N_CODES, begin=whole[3, :k], batch_size=2, **options)
        assert (many[:, :k] == whole[3, :k]).all() and (many[3] == whole[3]).all()
    one, other = (
        generate(model, 200, LENGTH, N_CODES, begin=begin, batch_size=200, **options)
        for begin in (whole[0, :3], (whole[0, :3] + 1) % N_CODES)
    )
    assert (one[:, 3:] != other[:, 3:]).any(), "what follows depends on them"
    for begin, message in ((range(LENGTH), "at most 7"), ([N_CODES], r"0\.\.5")):
        with pytest.raises(InputError, match=message):
            generate(model, 1, LENGTH, N_CODES, begin=np.array(begin), **options)


def test_nothing_asked_nothing_given(model):
    assert generate(model, 0, LENGTH, N_CODES).shape == (0, LENGTH)


def test_dropout_is_off(model):
    noisy = GPT(GPTConfig(**(model.config.__dict__ | {"dropout": 0.9})))
    noisy.load_state_dict(model.state_dict())
    noisy.train()
    expected = generate(model, 2, LENGTH, N_CODES)
    assert (generate(noisy, 2, LENGTH, N_CODES) == expected).all()


@pytest.fixture
def saved(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"gpt": model.config.__dict__}))
    return tmp_path


def test_loaded_model_is_the_saved_one(model, saved):
    loaded, about = load_gpt(saved)
    assert not loaded.training and about["gpt"]["layers"] == 2
    tokens = torch.randint(N_CODES, (2, LENGTH))
    assert torch.equal(loaded.cpu()(tokens), model(tokens))


@pytest.mark.parametrize("damage", ["cut", "missing", "other size", "other key"])
def test_broken_model_is_named(damage, saved, model):
    weights, about = saved / "model.safetensors", {"gpt": dict(model.config.__dict__)}
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "missing":
        weights.unlink()
    else:
        about["gpt"]["layers" if damage == "other size" else "depth"] = 3
    (saved / "config.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"cannot load the GPT in {saved}"):
        load_gpt(saved)
