"""Metrics: the modules that measure a row, and what each has to offer.

A metric is a module with the names of `Metric`; the order of `METRICS` is that of the table.
"""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation import (
    classes,
    frechet,
    neighbours,
    novelty,
    occupancy,
    sets,
    surfaces,
    transport,
)
from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.pairs import Pairs
from nefgpt.signals.kind import Kind, usable

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass
class Samples:
    """One draw of a row, measured against one `Known`.

    Attributes
    ----------
    compared : float32 [n, ...], what is compared of each; NaN where there is no signal.
    table : what is known of each, as `samples.csv` says it.
    kind : of the signals.
    seed : of the draw.
    distance : float64 [n], of each to its nearest training signal.
    apart : float64 [n], of each field to its nearest train field, in weights.
    found, found_moved : what `pairs` and `moved_pairs` give, where it is known already.
    """

    compared: np.ndarray
    table: "pd.DataFrame"
    kind: Kind
    seed: int
    distance: np.ndarray | None = None
    apart: np.ndarray | None = None
    found: Pairs | None = None
    found_moved: Pairs | None = None

    @property
    def valid(self) -> np.ndarray:
        """Which samples hold a signal, bool [n]."""
        return usable(self.compared)

    @property
    def clouds(self) -> bool:
        """Whether points are compared."""
        return self.kind.COMPARED is not None and self.kind.COMPARED[1:] == (3,)

    def chosen(self, known: "Known") -> tuple[np.ndarray, np.ndarray]:
        """Rows of the samples and of the references that are compared, as many of each.

        The larger of the two sets is cut down to the size of the smaller one by the draw's seed.
        """
        n = min(len(self.compared), len(known.reference))
        rng = np.random.default_rng(stable_seed(self.seed, "evaluation"))
        references = np.sort(rng.choice(len(known.reference), n, replace=False))
        return np.sort(rng.choice(len(self.compared), n, replace=False)), references

    def pairs(self, known: "Known") -> Pairs:
        """Distances among the samples and references that are compared, found once."""
        if self.found is None:
            rows, references = self.chosen(known)
            some, distances = self.compared[rows], self.kind.distances
            among = known.among[np.ix_(references, references)]
            between = distances(some, known.reference[references])
            self.found = Pairs(distances(some), between, among)
        return self.found

    def moved_pairs(self, known: "Known") -> Pairs | None:
        """Earth Mover's distances among the same, found once; None where nobody asks for them."""
        if self.found_moved is None and known.moved is not None:
            from nefgpt.signals.emd import emd_matrix

            rows, references = self.chosen(known)
            some = self.compared[rows][:, : known.moved_points]
            others = known.reference[references][:, : known.moved_points]
            among = known.moved[np.ix_(references, references)]
            self.found_moved = Pairs(emd_matrix(some), emd_matrix(some, others), among)
        return self.found_moved


class Known(NamedTuple):
    """What all rows are measured against.

    Attributes
    ----------
    reference : float32 [m, ...] of the test split.
    among : float64 [m, m], distances within `reference`.
    nearest_train : float64 [m], of each reference to its nearest training signal.
    classifier : of images with labels.
    moved : float64 [m, m], Earth Mover's distances within `reference`; None: not asked for.
    moved_points : of each cloud that those compare.
    unseen_fields : float64 [v], in weights, of each val field to its nearest train field.
    network : whose features a Fréchet distance of clouds compares.
    """

    reference: np.ndarray
    among: np.ndarray
    nearest_train: np.ndarray | None = None
    classifier: Path | None = None
    moved: np.ndarray | None = None
    moved_points: int = 0
    unseen_fields: np.ndarray | None = None
    network: "frechet.Network | None" = None


class Metric(Protocol):
    """What a module has to offer to be a metric.

    Attributes
    ----------
    COLUMNS : its measures.
    """

    COLUMNS: tuple[Column, ...]

    def measure(self, samples: Samples, known: Known) -> dict[str, float]:
        """Its measures of one draw; none where it does not apply."""


METRICS: tuple[ModuleType, ...] = (
    sets,
    transport,
    neighbours,
    occupancy,
    frechet,
    novelty,
    surfaces,
    classes,
)
COLUMNS = {column.name: column for metric in METRICS for column in metric.COLUMNS}
