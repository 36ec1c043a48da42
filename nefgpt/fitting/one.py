"""One field of one shape, from a random start: the template of the paper.

Its weights initialise all others, so that hidden units keep their meaning.
"""

import logging

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.fits import Space
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.kind import Shared
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.settings import Template
from nefgpt.signals.kind import kind_of

log = logging.getLogger(__name__)


def fit_one(
    spec: FieldSpec, points: np.ndarray, values: np.ndarray, settings: Template, seed: int
) -> tuple[np.ndarray, dict]:
    """Weights [W] of a field fitted from a random start, and its loss and steps.

    Parameters
    ----------
    points : float32 [N, in_dim] in field coordinates.
    values : float32 [N] or [N, out_dim].

    Raises
    ------
    InputError
        when the fit turns non-finite, naming the step.
    """
    start = random_weights(spec, stable_seed(seed, "template"))[None]
    zero, seed = Space(np.zeros(spec.n_weights, np.float32)), stable_seed(seed, "fit")
    fitted = fit_fields(spec, points[None], values[None], start, zero, settings, seed)
    if fitted.failed[0] >= 0:
        raise InputError(
            f"the template's fit turned non-finite at step {int(fitted.failed[0])}: lower "
            "template.learning_rate"
        )
    record = {"loss": float(fitted.losses[0]), "steps": int(fitted.steps[0])}
    return fitted.weights[0], record


def prepare(spec: FieldSpec, signals: list[dict], settings: Template, seed: int) -> Shared:
    """See `nefgpt.fitting.kind.Fitter`; there is one signal."""
    points, values = training_points(spec, signals)
    weights, record = fit_one(spec, points[0], values[0], settings, seed)
    kind = kind_of(spec)
    record |= kind.quality(spec, weights, signals[0], settings.quality_resolution)
    log.info("template: %s", ", ".join(f"{name} {record[name]:.3f}" for name in kind.QUALITY))
    return Shared(weights, None, record)
