"""A start learned by Reptile (Nichol et al. 2018, algorithm 1): few steps lead far from it."""

import dataclasses

import numpy as np
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.fits import Space
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.kind import Shared
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.settings import Template

_FIRST_STEP = 0.5  # of the way to where the fits end; falls linearly to nothing


def prepare(spec: FieldSpec, signals: list[dict], settings: Template, seed: int) -> Shared:
    """See `nefgpt.fitting.kind.Fitter`.

    Each of `steps` fits `fields_per_step` signals for `inner_steps` from where it stands, and
    moves towards their mean.
    """
    points, values = training_points(spec, signals)
    rng = np.random.default_rng(stable_seed(seed, "reptile"))
    inner = dataclasses.replace(settings, steps=settings.inner_steps, schedule="plateau")
    weights = random_weights(spec, stable_seed(seed, "template"))
    for step in tqdm(range(settings.steps), desc="reptile", unit="step", mininterval=1):
        rows = rng.choice(len(points), min(settings.fields_per_step, len(points)), replace=False)
        start, order = np.tile(weights, (len(rows), 1)), stable_seed(seed, "fit", step)
        some = points[rows], values[rows], start, Space(weights)
        fitted = fit_fields(spec, *some, inner, order, progress=False)
        if (fitted.failed >= 0).any():
            raise InputError(
                f"a fit turned non-finite at Reptile's step {step}: lower template.learning_rate"
            )
        share = np.float32((1 - step / settings.steps) * _FIRST_STEP)
        weights = weights + share * (fitted.weights.mean(axis=0) - weights)
    return Shared(weights, None, {"loss": float(fitted.losses.mean())})
