"""The simplest generator: a Gaussian over principal components of the weights."""

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.generators.components import Differences, differences, principal
from nefgpt.generators.kind import Given, Made, classes_of
from nefgpt.generators.settings import Gaussian as Sampling


def gaussian(train: Differences, n: int, n_components: int, seed: int) -> np.ndarray:
    """Differences [n, W] from a Gaussian over the leading principal components of train fields.

    Where there are classes, it is fitted to the fields of one class.
    """
    if not len(train.numbers):
        raise InputError("there is no field in the train split to fit a Gaussian to")
    found = principal(train, n_components)
    rng = np.random.default_rng(stable_seed(seed, "gaussian"))
    draws = rng.standard_normal((n, len(found.rows))) * found.deviations
    return found.mean + draws @ found.rows


def load(given: Given) -> None:
    """Nothing is kept: the Gaussian is fitted where it is drawn from."""


def sample(loaded: None, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Draw `n` fields, each from the Gaussian of its class where there are any."""
    source, n_components = given.fields, setting.n_components
    train = source.of_split("train")
    template = source.template.astype(float)
    known = np.array([source.labels[i] for i in train], object)
    n_classes = 0 if None in known or not len(known) else int(known.max()) + 1
    if not n_classes:
        made = template + gaussian(differences(source, train), n, n_components, seed)
        return Made(made.astype(np.float32), [None] * n)
    labels = classes_of(n, n_classes)
    made = np.empty((n, source.weights.shape[1]), np.float32)
    for label in sorted(set(labels)):
        rows = [i for i in range(n) if labels[i] == label]
        fields, own = differences(source, train[known == label]), stable_seed(seed, "class", label)
        made[rows] = template + gaussian(fields, len(rows), n_components, own)
    return Made(made, labels)
