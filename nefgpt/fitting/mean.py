"""One field fitted to many shapes at once: near their mean, so that no shape is far from it."""

from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.kind import Shared
from nefgpt.fitting.one import fit_one
from nefgpt.fitting.optimise import training_points
from nefgpt.fitting.settings import Template


def prepare(spec: FieldSpec, signals: list[dict], settings: Template, seed: int) -> Shared:
    """See `nefgpt.fitting.kind.Fitter`; the field sees the points of all signals."""
    points, values = training_points(spec, signals)
    flat = points.reshape(-1, spec.in_dim), values.reshape(-1, *spec.signal_shape)
    weights, record = fit_one(spec, *flat, settings, seed)
    return Shared(weights, None, record)
