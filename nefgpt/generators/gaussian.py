"""The simplest generator: a Gaussian over principal components of the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.base.seeds import stable_seed
from nefgpt.generators.components import Components, Differences, differences, principal
from nefgpt.generators.kind import Given, Made, classes_of
from nefgpt.generators.settings import Gaussian as Sampling

_FILE = "model.safetensors"


class Loaded(NamedTuple):
    """What is drawn from.

    Attributes
    ----------
    template : float32 [W].
    of_class : principal components of the train fields of each class, or of all in one.
    labelled : whether there are classes.
    """

    template: np.ndarray
    of_class: list[Components]
    labelled: bool


def components(train: Differences) -> Components:
    """All principal components of train fields."""
    if not len(train.numbers):
        raise InputError("there is no field in the train split to fit a Gaussian to")
    return principal(train, len(train.numbers))


def gaussian(
    found: Components, n: int, n_components: int, seed: int, edges: Sequence[int] = ()
) -> np.ndarray:
    """Differences [n, W] from a Gaussian over the leading components.

    Parameters
    ----------
    edges : where the rows are parted: those of one part are computed together, and BLAS rounds by
        their number.
    """
    rows, deviations = found.rows[:n_components], found.deviations[:n_components]
    rng = np.random.default_rng(stable_seed(seed, "gaussian"))
    draws = rng.standard_normal((n, len(rows))) * deviations
    return found.mean + np.concatenate([part @ rows for part in np.split(draws, edges)])


def load(given: Given) -> Loaded:
    """Fit to the train fields, those of each class where there are any; or read what was kept."""
    if given.model is not None:
        return _read(given.model / _FILE)
    source = given.fields
    train = source.of_split("train")
    known = np.array([source.labels[i] for i in train], object)
    if None in known or not len(known):
        return Loaded(source.template, [components(differences(source, train))], False)
    rows = [train[known == label] for label in range(int(known.max()) + 1)]
    return Loaded(source.template, [components(differences(source, some)) for some in rows], True)


def save(loaded: Loaded, setting: Sampling, folder: Path) -> None:
    """Keep means, leading components and deviations, without the fields they are of."""
    tensors = {"template": loaded.template, "labelled": np.array([loaded.labelled])}
    for place, found in enumerate(loaded.of_class):
        k = setting.n_components
        kept = Components(found.mean, found.rows[:k], found.deviations[:k])
        tensors |= {f"{name}.{place}": value for name, value in kept._asdict().items()}
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with atomic_path(folder / _FILE) as temporary:
        save_file(tensors, temporary)


def _read(path: Path) -> Loaded:
    try:
        tensors = load_file(path)
        parts = Components._fields
        n = sum(name.startswith("mean.") for name in tensors)
        found = [Components(*(tensors[f"{part}.{i}"] for part in parts)) for i in range(n)]
        return Loaded(tensors["template"], found, bool(tensors["labelled"].item()))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"cannot read the Gaussian {path}: {error}; export it again") from error


def sample(loaded: Loaded, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Draw `n` fields, each from the Gaussian of its class where there are any."""
    size = max(1, given.block or n)
    labels = classes_of(-(-n // size) * size, len(loaded.of_class) * loaded.labelled, given.label)
    made = np.empty((len(labels), len(loaded.template)), np.float32)
    for label in dict.fromkeys(labels):
        own = seed if label is None else stable_seed(seed, "class", label)
        rows = np.flatnonzero([one == label for one in labels])
        edges = np.searchsorted(rows, range(size, len(labels), size))
        found, k = loaded.of_class[label or 0], setting.n_components
        drawn = gaussian(found, len(rows), k, own, edges)
        made[rows] = loaded.template.astype(float) + drawn
    return Made(made[:n], labels[:n])
