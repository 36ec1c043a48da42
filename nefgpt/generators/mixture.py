"""A Gaussian mixture over principal components of the weights (scikit-learn's)."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.generators.components import Components, differences, principal
from nefgpt.generators.kind import Given, Made, by_blocks, classes_of
from nefgpt.generators.settings import Mixture as Sampling

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

LEAST_VARIANCE = 0.05  # of a mixture's components, where the train fields have one


class Loaded(NamedTuple):
    """Train fields along their principal components, in deviations.

    Attributes
    ----------
    numbers : float [n, k] of each class, or of all in one.
    labelled : whether there are classes.
    """

    found: Components
    numbers: list[np.ndarray]
    labelled: bool


def load(given: Given) -> Loaded:
    """See the train fields along their principal components."""
    source = given.fields
    train = source.of_split("train")
    if len(train) < 2:
        raise InputError("a mixture needs at least two fields in the train split")
    of = differences(source, train)
    found = principal(of, len(train))
    numbers = of.along(found.rows, found.mean) / np.maximum(found.deviations, 1e-12)
    labels = [source.labels[i] for i in train]
    if None in labels:
        return Loaded(found, [numbers], False)
    known = np.array(labels)
    return Loaded(found, [numbers[known == i] for i in range(int(known.max()) + 1)], True)


def fit(numbers: np.ndarray, components: int, seed: int) -> "GaussianMixture":
    """A mixture with diagonal covariances of numbers [n, k] whose deviations are near one.

    Raises
    ------
    InputError
        when there are fewer rows than components.
    """
    from sklearn.mixture import GaussianMixture

    if len(numbers) < components:
        raise InputError(
            f"a mixture of {components} needs as many train fields (of each class), and there are "
            f"{len(numbers)}: lower mixture.<name>.components"
        )
    options = {"covariance_type": "diag", "reg_covar": LEAST_VARIANCE, "max_iter": 500}
    return GaussianMixture(components, random_state=seed, **options).fit(numbers)


def sample(loaded: Loaded, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Draw `n` fields, each from the mixture of its class where there are any."""
    k = min(setting.n_components, len(loaded.found.rows))
    labels = classes_of(n, len(loaded.numbers) * loaded.labelled, given.label)
    scores = np.zeros((n, k))
    for label in dict.fromkeys(labels):
        own = stable_seed(seed, "mixture", label)
        # One fit for all draws: their seed is that of what is drawn.
        found = fit(loaded.numbers[label or 0][:, :k], setting.components, 0)
        rng = np.random.default_rng(own)
        rows = np.flatnonzero([one == label for one in labels])
        which = (rng.random((len(rows), 1)) > found.weights_.cumsum()[:-1]).sum(axis=1)
        noise = np.random.default_rng(stable_seed(own, "noise")).standard_normal((len(rows), k))
        scores[rows] = found.means_[which] + noise * np.sqrt(found.covariances_[which])
    rows = loaded.found.rows[:k] * loaded.found.deviations[:k, None]
    moved = by_blocks(lambda part: part @ rows, scores, given.block)
    return Made((given.fields.template + loaded.found.mean + moved).astype(np.float32), labels)
