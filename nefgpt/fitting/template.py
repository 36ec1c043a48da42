"""The template: what all other fields start from, and the basis they are written in.

Two kinds, by the configuration's `template` block:

- one shape, no basis (`n_components: 0`, the paper): a field fitted from a random start, whose
  weights initialise all others, so that hidden units keep their meaning;
- a basis (`n_components: k`): the mean field and k directions in weight space, learned jointly
  with the coefficients of many train shapes. Every other field is then mean + coefficients x
  basis, a smooth function of few numbers (as in mixtures of neural implicit functions, You et
  al. 2023, with the mixture taken over whole weight vectors).
"""

import argparse
import logging
from pathlib import Path

import numpy as np

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.file import save_field
from nefgpt.fields.fits import Space
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.basis import learn_basis
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.settings import Template
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import kind_of

log = logging.getLogger(__name__)


def make(
    spec: FieldSpec, shapes: dict[str, Path], out: Path, settings: Template, seed: int
) -> None:
    """Write `template.safetensors` from one shape, or with a basis from many.

    Raises
    ------
    InputError
        when a shape that is needed was rejected, or the fit turned non-finite.
    """
    record = {"shape_ids": sorted(shapes), "seed": seed, "n_shapes": settings.n_shapes}
    record |= {"shape_id": min(shapes), "steps": settings.steps}
    clouds = {shape_id: load_signal(path) for shape_id, path in sorted(shapes.items())}
    usable = [cloud for cloud in clouds.values() if not cloud["rejected"]]
    if settings.n_components:
        if len(usable) < 2:
            raise InputError("fewer than two of the template's shapes are usable; see rejected.tsv")
        mean, basis, loss = learn_basis(spec, *training_points(spec, usable), settings, seed)
        record |= {"loss": loss, "n_usable": len(usable)}
        save_field(out, spec, mean, record, basis)
        return
    for shape_id, cloud in clouds.items():
        if cloud["rejected"]:
            raise InputError(
                f"the template shape {shape_id} was rejected ({cloud['rejected']}): name another "
                "one as template.shape_id"
            )
    zero = Space(np.zeros(spec.n_weights, np.float32))
    start = random_weights(spec, stable_seed(seed, "template"))[None]
    fitted = fit_fields(
        spec, *training_points(spec, usable), start, zero, settings, stable_seed(seed, "fit")
    )
    if fitted.failed[0] >= 0:
        raise InputError(
            f"the template's fit ({record['shape_id']}) turned non-finite at step "
            f"{int(fitted.failed[0])}: lower template.learning_rate"
        )
    record |= {"loss": float(fitted.losses[0]), "steps": int(fitted.steps[0])}
    kind = kind_of(spec)
    record |= kind.quality(spec, fitted.weights[0], usable[0], settings.quality_resolution)
    save_field(out, spec, fitted.weights[0], record)
    log.info("template: %s", ", ".join(f"{name} {record[name]:.3f}" for name in kind.QUALITY))


def main() -> None:
    """Command line of the template."""
    parser = argparse.ArgumentParser(description="Fit the template, or learn a basis.")
    parser.add_argument("--shapes", required=True, help="JSON object: shape id -> .npz, or @file")
    parser.add_argument("--field", required=True, help="field specification, JSON or @file")
    parser.add_argument("--settings", required=True, help="template settings, JSON or @file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = {key: Path(path) for key, path in cli.json_argument(args.shapes).items()}
    spec = cli.settings_argument(FieldSpec, args.field)
    make(spec, shapes, args.out, cli.settings_argument(Template, args.settings), args.seed)
