"""The transformer and sampling from it: size, causality, cache, what can be sampled."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nefgpt.base.errors import InputError
from nefgpt.generators import transformer
from nefgpt.generators.gpt.model import GPT, GPTConfig, context_length
from nefgpt.generators.gpt.sampling import generate, load_gpt
from nefgpt.generators.transformer import KeyValueCache

N_CODES, LENGTH = 7, 10
SIZES = {"embedding": 16, "heads": 4, "layers": 2}


@pytest.fixture
def model():
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=N_CODES + 1, context=context_length(LENGTH), **SIZES))
    for parameter in gpt.parameters():  # the shipped start is nearly uniform
        torch.nn.init.normal_(parameter, std=0.3)
    return gpt.eval()


def test_context_of_the_papers():
    assert context_length(3712) == 3712
    assert context_length(561, prefix_length=2) == 562


def test_number_of_parameters():
    config = GPTConfig(vocab_size=128, context=3712, embedding=256, heads=16, layers=6)
    e = 256
    block = (3 * e * e + 3 * e) + (e * e + e) + (4 * e * e + 4 * e) + (4 * e * e + e) + 4 * e
    assert GPT(config).n_parameters() == 128 * e + 3712 * e + 6 * block + 2 * e


def test_no_look_ahead(model):
    tokens = torch.randint(N_CODES, (2, LENGTH))
    before = model(tokens)
    tokens[:, 6] = (tokens[:, 6] + 1) % N_CODES
    after = model(tokens)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("steps", [[10], [1] * 10, [3, 4, 3]])
def test_cache_gives_the_same_logits(model, steps):
    tokens = torch.randint(N_CODES, (3, LENGTH))
    cache = KeyValueCache(model.config, 3)
    parts = [model(part, cache) for part in tokens.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=1e-5)


def test_special_tokens_are_never_sampled(model):
    with torch.no_grad():
        model.token.weight[N_CODES] = 100 * model.norm.bias
    codes = generate(model, 50, LENGTH, N_CODES, temperature=5.0)
    assert codes.dtype == np.uint16 and codes.shape == (50, LENGTH) and codes.max() < N_CODES


def test_greedy(model):
    greedy = generate(model, 2, LENGTH, N_CODES, temperature=0)
    assert (greedy == generate(model, 2, LENGTH, N_CODES, top_k=1)).all()
    tokens = torch.cat([torch.tensor([N_CODES]), torch.from_numpy(greedy[0].astype(np.int64))])
    best = model(tokens[None, :-1])[0, :, :N_CODES].argmax(dim=-1)
    assert best.tolist() == greedy[0].tolist()


def test_small_top_p_is_greedy(model):
    expected = generate(model, 3, LENGTH, N_CODES, temperature=0)
    assert (generate(model, 3, LENGTH, N_CODES, top_p=1e-6) == expected).all()


def test_frequencies_follow_the_model(model):
    first = generate(model, 4000, 1, N_CODES, batch_size=4000)[:, 0]
    expected = model(torch.tensor([[N_CODES]]))[0, 0, :N_CODES].softmax(dim=-1)
    found = torch.from_numpy(np.bincount(first, minlength=N_CODES) / 4000)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)


def test_sample_depends_on_seed_and_number_only(model):
    many = generate(model, 9, LENGTH, N_CODES, batch_size=4, seed=1)
    assert (generate(model, 3, LENGTH, N_CODES, batch_size=2, seed=1) == many[:3]).all()
    assert (generate(model, 9, LENGTH, N_CODES, seed=2) != many).any()


@pytest.mark.parametrize(
    "bad",
    [
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"batch_size": 0},
        {"prefix": [99]},
        {"sequence_length": LENGTH + 1},
        {"n_codes": N_CODES + 1},
    ],
)
def test_bad_arguments_are_named(model, bad):
    arguments = {"sequence_length": LENGTH, "n_codes": N_CODES} | bad
    (name,) = bad
    with pytest.raises(InputError, match=name if name != "sequence_length" else "context"):
        generate(model, 1, **arguments)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        load_gpt(tmp_path)


def test_near_codes_start_alike():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=64, context=4, embedding=32, heads=2, layers=1))
    before = model.token.weight[63].clone()
    model.order_codes(63)
    codes = model.token.weight[:63].detach()
    step = (codes[1:] - codes[:-1]).norm(dim=1).mean()
    far = (codes[32:] - codes[:31]).norm(dim=1).mean()
    assert step < 0.25 * far
    assert codes.std().item() == pytest.approx(model.std, rel=0.01)
    assert torch.equal(model.token.weight[63], before), "special tokens stay"


def test_dropout():
    torch.manual_seed(0)
    x = torch.full((333, 331), 2.0, requires_grad=True)  # no multiple of four
    y = transformer.dropout(x, 0.3)
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert y[y != 0].unique().tolist() == pytest.approx([2 / 0.7], rel=1e-4)
    y.sum().backward()
    torch.testing.assert_close(x.grad * 2, y.detach())
    assert (transformer.dropout(x, 0.3) != y).any(), "another call, other zeros"
    assert transformer.dropout(x, 0.0) is x
    assert transformer.dropout(x, 1 - 1e-9).isfinite().all()
    low = transformer.dropout(x.bfloat16(), 0.3)
    assert low.dtype == torch.bfloat16


def test_attention_with_dropout_is_that_without_on_average():
    torch.manual_seed(0)
    heads = torch.randn(3, 2, 3, 7, 4)
    expected = F.scaled_dot_product_attention(*heads, is_causal=True)
    torch.testing.assert_close(transformer._attend(*heads, 0.0), expected)
    many = torch.stack([transformer._attend(*heads, 0.2) for _ in range(3000)])
    torch.testing.assert_close(many.mean(dim=0), expected, atol=0.05, rtol=0)
    assert many.std(dim=0).min() > 0.01
