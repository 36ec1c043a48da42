"""The measures of a row: what they are called, how they are printed, and which way is better."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Column:
    """One measure.

    Attributes
    ----------
    name : as in metrics.csv.
    title : for people, without the arrow.
    digits : after the point, in print.
    best : which values are best: "low", "high", a number, or None where none is.
    """

    name: str
    title: str
    digits: int = 1
    best: Literal["low", "high"] | float | None = None

    @property
    def heading(self) -> str:
        """Title with an arrow to what is best."""
        if isinstance(self.best, float):
            return f"{self.title} → {self.best:g}"
        return f"{self.title} {'↓' if self.best == 'low' else '↑'}" if self.best else self.title

    def worse(self, values: np.ndarray) -> np.ndarray:
        """A number for each value, lower where it is better; NaN stays NaN."""
        if self.best == "high":
            return -np.asarray(values)
        return np.asarray(values) if self.best == "low" else np.abs(np.asarray(values) - self.best)
