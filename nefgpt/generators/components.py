"""Principal components of fields' weights, by way of their coefficients where these are known."""

from typing import NamedTuple

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.fitting.weights import Fields


class Differences(NamedTuple):
    """Fields minus their template.

    Attributes
    ----------
    numbers : float32 [n, W]; with a basis [n, k], and the differences are numbers @ basis.
    basis : float32 [k, W], or None.
    """

    numbers: np.ndarray
    basis: np.ndarray | None = None

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        return bool(np.isfinite(self.numbers).all())

    def weights(self) -> np.ndarray:
        """The differences of all weights, float32 [n, W]."""
        return self.numbers if self.basis is None else self.numbers @ self.basis

    def along(self, rows: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Coordinates [n, L] along orthonormal rows [L, W], seen from `origin` [W]."""
        if self.basis is None:
            return (self.numbers - origin) @ rows.T
        return self.numbers @ (self.basis.astype(float) @ rows.T) - origin @ rows.T


def differences(fields: Fields, rows: np.ndarray | slice = slice(None)) -> Differences:
    """Some fields of a table minus the template, as coefficients if the table has them."""
    if fields.coefficients is None:
        return Differences(fields.weights[rows] - fields.template)
    return Differences(fields.coefficients[rows], fields.basis)


class Components(NamedTuple):
    """Principal components of differences [n, W], most variance first.

    Attributes
    ----------
    mean : float32 [W].
    rows : float32 [L, W], orthonormal; of each the number of largest size is positive.
    deviations : [L] of the differences along each.
    """

    mean: np.ndarray
    rows: np.ndarray
    deviations: np.ndarray


def principal(of: Differences, n_components: int) -> Components:
    """The leading components: at most n - 1, and as many as differences have numbers.

    In a basis they are found among the coefficients, whose scalar product is there that of the
    weights: the decomposition is of [n, k] instead of [n, W] numbers, and no component holds
    rounding alone.

    Raises
    ------
    InputError
        when a number is not finite.
    """
    if not of.finite:
        raise InputError("a train field has numbers that are not finite: fit the fields anew")
    numbers, basis = of
    if basis is None:
        mean = numbers.mean(axis=0)
        _, spread, rows = np.linalg.svd(numbers - mean, full_matrices=False)
    else:
        frame, metric = np.linalg.qr(basis.T.astype(float))  # basis = metric.T @ frame.T
        mean = numbers.mean(axis=0, dtype=float)
        _, spread, rows = np.linalg.svd((numbers - mean) @ metric.T, full_matrices=False)
        mean, rows = mean @ basis, rows @ frame.T
    k = min(n_components, len(numbers) - 1, len(rows))
    rows, deviations = rows[:k], spread[:k] / np.sqrt(max(len(numbers) - 1, 1))
    # The sign of a component is arbitrary; fix it, so that equal inputs give equal results.
    rows = rows * np.sign(rows[np.arange(k), np.abs(rows).argmax(axis=1)])[:, None]
    return Components(mean.astype(np.float32), rows.astype(np.float32), deviations)
