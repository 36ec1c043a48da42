"""No model: train fields with Gaussian noise, which a generator has to be better than."""

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fitting.weights import Fields
from nefgpt.generators.components import differences, principal
from nefgpt.generators.kind import Given, Made
from nefgpt.generators.settings import Noise as Sampling


def in_turn(n_train: int, n: int, seed: int) -> np.ndarray:
    """Row numbers of `n` train fields: all of them in random order, then all in another one."""
    if not n_train:
        raise InputError("there is no field in the train split to start from")
    rng = np.random.default_rng(stable_seed(seed, "in turn"))
    rounds = [rng.permutation(n_train) for _ in range(-(-n // n_train))]
    return np.concatenate([np.zeros(0, int), *rounds])[:n]


def spread(fields: Fields, train: np.ndarray, setting: Sampling) -> np.ndarray:
    """What standard normal numbers are multiplied with, [k, W] or, for each weight alone, [W]."""
    if setting.space == "weights":
        return fields.weights[train].std(axis=0, dtype=float)
    found = principal(differences(fields, train), len(train))
    return found.deviations[:, None] * found.rows


def load(given: Given) -> None:
    """Nothing is kept: deviations are measured where noise is drawn."""


def sample(loaded: None, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Add noise to `n` train fields; each keeps its class."""
    fields, train = given.fields, given.fields.of_split("train")
    chosen = train[in_turn(len(train), n, seed)]
    by = setting.scale * spread(fields, train, setting)
    draws = np.random.default_rng(stable_seed(seed, "noise")).standard_normal((n, len(by)))
    moved = draws * by if by.ndim == 1 else draws @ by
    made = (fields.weights[chosen] + moved).astype(np.float32)
    return Made(made, [fields.labels[i] for i in chosen])
