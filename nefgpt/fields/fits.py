"""What a fit of fields is given and what it gives, in whichever way it is computed."""

from typing import NamedTuple

import numpy as np

from nefgpt.fields.settings import Optimiser

RATE_SPAN = 1000  # of a plateau: the first rate over the least


class Space(NamedTuple):
    """Where fields are looked for, in arrays or in tensors.

    Attributes
    ----------
    anchor : float32 [W].
    basis : float32 [k, W]: fields are anchor + coefficients @ basis. None: all weights are free.
    """

    anchor: np.ndarray
    basis: np.ndarray | None = None


class Batch(NamedTuple):
    """Points of signals that a step sees, in arrays or in tensors.

    Attributes
    ----------
    points : float32 [S, N, in_dim] in field coordinates, of S signals.
    target : float32 [S, N] or [S, N, out_dim].
    rows : int64 [F], the signal of each field.
    chosen : int64 [n], numbers of the points to use.
    """

    points: np.ndarray
    target: np.ndarray
    rows: np.ndarray
    chosen: np.ndarray


class Rule(NamedTuple):
    """How a step changes a field.

    Attributes
    ----------
    pull : L2 penalty on the difference to the anchor, or on the coefficients.
    averaging : decay of the running mean that is the result; 0: the last numbers are.
    plateau : halve the rate where the loss stalls.
    least_rate : where halving ends, and with one more stall the fit.
    """

    pull: float
    averaging: float
    plateau: bool
    least_rate: float

    @classmethod
    def of(cls, settings: Optimiser) -> "Rule":
        """The rule that a configuration asks for."""
        plateau, least = settings.schedule == "plateau", float(settings.learning_rate) / RATE_SPAN
        return cls(float(settings.pull), float(settings.averaging), plateau, least)


class Fitted(NamedTuple):
    """Fits of F fields.

    Attributes
    ----------
    coefficients : float32 [F, k]; None without a basis.
    weights : float32 [F, W].
    losses : float32 [F], the training loss at the last step.
    failed : int64 [F], the step at which the fit turned non-finite; -1 when it did not.
    steps : int64 [F], how many were taken.
    """

    coefficients: np.ndarray | None
    weights: np.ndarray
    losses: np.ndarray
    failed: np.ndarray
    steps: np.ndarray
