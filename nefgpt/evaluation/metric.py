"""Metrics: the modules that measure a row, and what each has to offer.

A metric is a module with the names of `Metric`; the order of `METRICS` is that of the table.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from nefgpt.evaluation import classes, novelty, sets, surfaces
from nefgpt.evaluation.columns import Column
from nefgpt.signals.kind import Kind, usable

if TYPE_CHECKING:
    import pandas as pd


class Samples(NamedTuple):
    """One draw of a row.

    Attributes
    ----------
    compared : float32 [n, ...], what is compared of each; NaN where there is no signal.
    table : what is known of each, as `samples.csv` says it.
    kind : of the signals.
    seed : of the draw.
    distance : float64 [n], of each to its nearest training signal.
    """

    compared: np.ndarray
    table: "pd.DataFrame"
    kind: Kind
    seed: int
    distance: np.ndarray | None = None

    @property
    def valid(self) -> np.ndarray:
        """Which samples hold a signal, bool [n]."""
        return usable(self.compared)


class Known(NamedTuple):
    """What all rows are measured against.

    Attributes
    ----------
    reference : float32 [m, ...] of the test split.
    among : float64 [m, m], distances within `reference`.
    nearest_train : float64 [m], of each reference to its nearest training signal.
    classifier : of images with labels.
    """

    reference: np.ndarray
    among: np.ndarray
    nearest_train: np.ndarray | None = None
    classifier: Path | None = None


class Metric(Protocol):
    """What a module has to offer to be a metric.

    Attributes
    ----------
    COLUMNS : its measures.
    """

    COLUMNS: tuple[Column, ...]

    def measure(self, samples: Samples, known: Known) -> dict[str, float]:
        """Its measures of one draw; none where it does not apply."""


METRICS: tuple[ModuleType, ...] = (sets, novelty, surfaces, classes)
COLUMNS = {column.name: column for metric in METRICS for column in metric.COLUMNS}
