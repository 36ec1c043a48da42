"""The simplest generator: a Gaussian over principal components of the weights."""

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.generators.kind import Given, Made, classes_of
from nefgpt.generators.settings import Gaussian as Sampling


def gaussian(train: np.ndarray, n: int, n_components: int, seed: int) -> np.ndarray:
    """Fields [n, W] from a Gaussian over the leading principal components of train fields.

    Where there are classes, it is fitted to the fields of one class.
    """
    if not len(train):
        raise InputError("there is no field in the train split to fit a Gaussian to")
    mean = train.mean(axis=0)
    _, spread, rows = np.linalg.svd(train - mean, full_matrices=False)
    k = min(n_components, len(train) - 1, len(rows))
    rng = np.random.default_rng(stable_seed(seed, "gaussian"))
    draws = rng.standard_normal((n, k)) * spread[:k] / np.sqrt(len(train) - 1)
    return (mean + draws @ rows[:k]).astype(np.float32)


def load(given: Given) -> None:
    """Nothing is kept: the Gaussian is fitted where it is drawn from."""


def sample(loaded: None, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Draw `n` fields, each from the Gaussian of its class where there are any."""
    source, n_components = given.fields, setting.n_components
    train = source.of_split("train")
    known = np.array([source.labels[i] for i in train], object)
    n_classes = 0 if None in known or not len(known) else int(known.max()) + 1
    if not n_classes:
        return Made(gaussian(source.weights[train], n, n_components, seed), [None] * n)
    labels = classes_of(n, n_classes)
    made = np.empty((n, source.weights.shape[1]), np.float32)
    for label in sorted(set(labels)):
        rows = [i for i in range(n) if labels[i] == label]
        fields = source.weights[train[known == label]]
        made[rows] = gaussian(fields, len(rows), n_components, stable_seed(seed, "class", label))
    return Made(made, labels)
