"""No model: means of two train fields, which shows what interpolating alone gives."""

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fitting.weights import Fields
from nefgpt.generators.components import differences, principal
from nefgpt.generators.kind import Given, Made
from nefgpt.generators.noise import in_turn
from nefgpt.generators.settings import Averages as Sampling


def whitened(fields: Fields, train: np.ndarray) -> np.ndarray:
    """Train fields along their principal components, of deviation 1 along each, [n, k]."""
    of = differences(fields, train)
    found = principal(of, len(train))
    kept = found.deviations > 1e-6 * found.deviations.max(initial=0)
    return of.along(found.rows[kept], found.mean) / found.deviations[kept]


def partners(places: np.ndarray, labels: list, first: int, neighbours: int | None) -> np.ndarray:
    """Rows that one may be averaged with: of its class, the nearest first.

    Raises
    ------
    InputError
        when it is the only one of its class.
    """
    others = np.array([i for i in range(len(places)) if labels[i] == labels[first] and i != first])
    if not len(others):
        alone = "" if labels[first] is None else f" of class {labels[first]}"
        raise InputError(f"the train split has one field{alone}: leave the averages out ({{}})")
    if neighbours is None:
        return others
    apart = np.square(places[others] - places[first]).sum(axis=1)
    return others[np.argsort(apart, kind="stable")[:neighbours]]


def load(given: Given) -> None:
    """Nothing is kept: neighbours are looked for where they are needed."""


def sample(loaded: None, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Average `n` train fields with one of their neighbours each, of the same class."""
    fields, train = given.fields, given.fields.of_split("train")
    labels, places = [fields.labels[i] for i in train], whitened(fields, train)
    first = in_turn(len(train), n, seed)
    rng = np.random.default_rng(stable_seed(seed, "averages"))
    second = [
        some[int(share * len(some))]
        for some, share in (
            (partners(places, labels, i, setting.neighbours), rng.random()) for i in first
        )
    ]
    one, other = train[first], train[np.array(second, int)]

    def mean(of: np.ndarray) -> np.ndarray:
        return (of[one] + of[other]) / 2

    known = None if fields.coefficients is None else mean(fields.coefficients)
    return Made(mean(fields.weights), [labels[i] for i in first], coefficients=known)
