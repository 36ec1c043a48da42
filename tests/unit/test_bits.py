"""How predictable codes are."""

import math

import numpy as np
import pytest

from nefgpt.generators.gpt.bits import gpt_bits, positional_bits
from nefgpt.generators.settings import Gpt


def test_codes_that_never_change_cost_no_bits_and_random_ones_all_of_theirs():
    n, n_codes = 9, 16
    same = np.full((n, 5), 3)
    unigram = (n * 5 + 1) / (n * 5 + n_codes)
    known = -math.log2((n + unigram) / (n + 1))
    assert positional_bits(same, same[:2], n_codes).tolist() == pytest.approx([known] * 2)
    noise = np.random.default_rng(0).integers(0, n_codes, (600, 20))
    assert positional_bits(noise[:400], noise[400:], n_codes).mean() == pytest.approx(4, abs=0.03)
    # Each place has a code of its own: a distribution over all places would need two bits.
    places = np.tile([0, 5, 10, 15], (n, 1))
    assert (positional_bits(places, places, n_codes) < 0.2).all()


def test_codes_near_the_known_ones_cost_less_than_far_ones():
    """The distribution is smoothed over code numbers where that helps on the train fields."""
    rng = np.random.default_rng(0)
    known = (32 + rng.normal(0, 3, (40, 6))).round().astype(int)
    near, far = np.full((3, 6), 34), np.full((3, 6), 60)
    assert positional_bits(known, near, 64).max() < 5
    assert positional_bits(known, far, 64).min() > 8


def test_a_gpt_learns_what_a_place_or_the_code_before_says(tmp_path):
    """Two codes in turn, from one of two starts: a bit for the first, none for the others."""
    sizes = {"embedding": 16, "heads": 2, "layers": 1, "dropout": 0.0, "batch_size": 16}
    settings = Gpt(iterations=60, eval_every=20, learning_rate=2e-2, warmup=5, **sizes)
    first = np.random.default_rng(0).integers(2, size=(40, 1))
    tokens = np.concatenate([first, 1 - first, first, 1 - first], axis=1)
    found = gpt_bits(tokens, 32, 8, settings, tmp_path, seed=0)
    assert found == pytest.approx(0.25, abs=0.1)
