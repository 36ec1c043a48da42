"""What all makers of fields share: which are chosen, their classes, their table."""

from pathlib import Path

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fitting.weights import Fields, Row, write_fields


def choose_train(n_train: int, n: int, seed: int) -> np.ndarray:
    """Which train rows stand in as samples: `n` distinct row numbers, ascending."""
    if n > n_train:
        raise InputError(
            f"{n} samples are to be compared but the train split has {n_train} shapes: "
            "lower evaluation.n_samples or dataset.split.test"
        )
    rng = np.random.default_rng(stable_seed(seed, "ladder"))
    return np.sort(rng.choice(n_train, n, replace=False))


def classes_of(n: int, n_classes: int) -> list[int | None]:
    """The class each of `n` samples is made for: all in turn; None without classes."""
    return [i % n_classes if n_classes else None for i in range(n)]


def write_samples(
    out_dir: Path,
    source: Fields,
    ids: list[str],
    labels: list[int | None],
    made: np.ndarray,
    coefficients: np.ndarray | None = None,
) -> None:
    """Write `fields.parquet` with the layout of `source`.

    Parameters
    ----------
    made : float32 [n, W].
    coefficients : float32 [n, k] in the basis of `source`, where they are known.
    """
    known = [None] * len(made) if coefficients is None else coefficients
    rows = (
        Row(name, "sample", label, field, {}, own)
        for name, label, field, own in zip(ids, labels, made, known, strict=True)
    )
    basis = None if coefficients is None else source.basis
    write_fields(out_dir / "fields.parquet", source.spec, source.template, rows, basis)
