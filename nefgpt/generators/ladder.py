"""The ladder of bounds: train fields as they are, or after quantisation, stand in as samples.

The rows show what the later stages make of real fields.
"""

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.base.settings import settings
from nefgpt.generators.gpt.tokenizer import load_tokenizer
from nefgpt.generators.gpt.tokens import read_tokens
from nefgpt.generators.kind import Given, Made


@settings
class Sampling:
    """There is nothing to set."""


def choose_train(n_train: int, n: int, seed: int) -> np.ndarray:
    """Which train rows stand in as samples: `n` distinct row numbers, ascending."""
    if n > n_train:
        raise InputError(
            f"{n} samples are to be compared but the train split has {n_train} shapes: "
            "lower evaluation.n_samples or dataset.split.test"
        )
    rng = np.random.default_rng(stable_seed(seed, "ladder"))
    return np.sort(rng.choice(n_train, n, replace=False))


def load(given: Given) -> np.ndarray | None:
    """The fields [n, W] of a run, decoded from their tokens where those are given."""
    if given.tokens is None:
        return None
    return load_tokenizer(given.codebook).decode(read_tokens(given.tokens).tokens)


def sample(loaded: np.ndarray | None, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Choose `n` train fields."""
    train = given.fields.of_split("train")
    chosen = train[choose_train(len(train), n, seed)]
    fields = given.fields
    labels, ids = ([some[i] for i in chosen] for some in (fields.labels, fields.shape_ids))
    if loaded is not None:
        return Made(loaded[chosen], labels, ids)
    known = None if fields.coefficients is None else fields.coefficients[chosen]
    return Made(fields.weights[chosen], labels, ids, coefficients=known)
