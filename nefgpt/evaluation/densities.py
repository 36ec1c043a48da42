"""What densities over the scores of fields say of a field's codes, exactly.

A code stands for a cell of its score: what lies between the middles to its two neighbours. So a
sequence of codes is a box, and the mass of a normal distribution with independent coordinates over
a box is a product of differences of its distribution function. Bits are comparable with those of
any model of the codes. Scores are taken in units of their deviation over the train fields.
"""

import numpy as np
from scipy.special import log_ndtr

from nefgpt.generators.mixture import fit

WIDTHS = tuple(np.geomspace(0.1, 3, 18).round(4).tolist())  # of kernels, in deviations
SPREADS = tuple(np.geomspace(0.5, 4, 25).round(4).tolist())  # factors on a Gaussian's deviations
COMPONENTS = (1, 2, 4, 8, 16)  # of mixtures
NARROWEST = 0.05  # deviation of a Gaussian in a place where the fields of a class all agree


class Cells:
    """The cells of codes in every place, in deviations of the train scores.

    Parameters
    ----------
    codes : float [C], ascending, in the units of the scores.
    scores : float [n, L], of the train fields.
    """

    def __init__(self, codes: np.ndarray, scores: np.ndarray) -> None:
        codes, scores = codes.astype(float), scores.astype(float)
        spread = scores.std(axis=0)
        # A place in which all fields agree has no unit of its own: take the codes'.
        least = np.diff(codes).mean() if len(codes) > 1 else 1.0
        self.unit = np.where(spread > 1e-6 * least, spread, least)
        self.borders = np.concatenate([[-np.inf], (codes[1:] + codes[:-1]) / 2, [np.inf]])

    def log_mass(self, place: int, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """Log mass of normal distributions over the cells of one place, float64 [n, C].

        Parameters
        ----------
        centres : float [n], in the units of the scores.
        widths : float [n] or a number, in deviations.
        """
        scale = np.broadcast_to(widths * self.unit[place], centres.shape)[:, None]
        edges = (self.borders - centres[:, None]) / scale
        low, high = edges[:, :-1], edges[:, 1:]
        # Above the centre both are near one, and their difference is lost: take the other tail.
        flip = low > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        top = log_ndtr(high)
        with np.errstate(divide="ignore"):
            return top + np.log1p(-np.exp(np.minimum(log_ndtr(low) - top, 0)))


def _of_mixture(
    cells: Cells, tokens: np.ndarray, centres: np.ndarray, widths: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Log2 probability float64 [m] of sequences under a mixture of diagonal normal distributions.

    Parameters
    ----------
    tokens : int [m, L].
    centres, widths : float [k, L]; widths in deviations.
    weights : float [k], adding up to one.
    """
    joint = np.repeat(np.log(weights)[None], len(tokens), axis=0)  # [m, k]
    for place in range(tokens.shape[1]):
        joint += cells.log_mass(place, centres[:, place], widths[:, place])[:, tokens[:, place]].T
    return np.logaddexp.reduce(joint, axis=1) / np.log(2)


def kernel(cells: Cells, scores: np.ndarray, tokens: np.ndarray, width: float) -> np.ndarray:
    """Log2 probability [m] by a normal kernel of one width (in deviations) at each train field.

    Parameters
    ----------
    scores : float [n, L], of the train fields.
    """
    n = len(scores)
    return _of_mixture(cells, tokens, scores, np.full(scores.shape, width), np.full(n, 1 / n))


def gaussian(cells: Cells, scores: np.ndarray, tokens: np.ndarray, spread: float) -> np.ndarray:
    """Log2 probability [m] by one Gaussian, its deviations times `spread`.

    Coordinates are independent: principal components of the train fields are uncorrelated.
    """
    mean = scores.mean(axis=0, keepdims=True)
    widths = np.maximum(scores.std(axis=0, keepdims=True) / cells.unit, NARROWEST)
    return _of_mixture(cells, tokens, mean, spread * widths, np.ones(1))


def mixture(
    cells: Cells, scores: np.ndarray, tokens: np.ndarray, n_components: int, seed: int
) -> np.ndarray:
    """Log2 probability [m] by a Gaussian mixture, fitted as the generator of that name is."""
    found = fit(scores / cells.unit, n_components, seed)
    return _of_mixture(
        cells, tokens, found.means_ * cells.unit, np.sqrt(found.covariances_), found.weights_
    )


def chosen_by_the_others(log2: np.ndarray) -> tuple[np.ndarray, int]:
    """Each field's log2 probability by the setting that suits all *other* fields best.

    So a setting chosen on these very fields flatters none of them.

    Parameters
    ----------
    log2 : float [settings, m], m >= 2.

    Returns
    -------
    float [m], and the number of the setting that suits all fields best.
    """
    total = log2.sum(axis=1)
    best = (total[:, None] - log2).argmax(axis=0)
    return log2[best, np.arange(log2.shape[1])], int(total.argmax())
