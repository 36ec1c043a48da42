"""Distances among samples and references, which most measures are made of."""

from typing import NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """All pairs of n samples and n references; a sample without a signal is infinitely far.

    Attributes
    ----------
    gg, gr, rr : float64 [n, n], among samples, of samples to references, among references.
    """

    gg: np.ndarray
    gr: np.ndarray
    rr: np.ndarray

    def some(self, rows: np.ndarray, references: np.ndarray) -> "Pairs":
        """Those of some samples and references."""
        return Pairs(
            self.gg[np.ix_(rows, rows)],
            self.gr[np.ix_(rows, references)],
            self.rr[np.ix_(references, references)],
        )
