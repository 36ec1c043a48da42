"""The template: what all other fields start from, and the basis they may be written in.

The kinds, by the configuration's `template.kind`:

- one: a field of one shape from a random start, whose weights initialise all others, so that
  hidden units keep their meaning (the paper);
- mean: one field fitted to many shapes at once;
- basis: the mean field and k directions in weight space, learned jointly with the coefficients
  of many train shapes. Every other field is then mean + coefficients x basis, a smooth function
  of few numbers (as in mixtures of neural implicit functions, You et al. 2023, with the mixture
  taken over whole weight vectors);
- reptile: a start that few steps lead far from, learned from many shapes.
"""

import argparse
from pathlib import Path

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.fields.file import save_field
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.kind import fitter
from nefgpt.fitting.settings import Template
from nefgpt.signals.file import load_signal


def make(
    spec: FieldSpec, shapes: dict[str, Path], out: Path, settings: Template, seed: int
) -> None:
    """Write `template.safetensors`, found by the fitter that the settings name.

    Raises
    ------
    InputError
        when a shape that is needed was rejected, or the fit turned non-finite.
    """
    clouds = {shape_id: load_signal(path) for shape_id, path in sorted(shapes.items())}
    usable = [cloud for cloud in clouds.values() if not cloud["rejected"]]
    for shape_id, cloud in clouds.items():
        if cloud["rejected"] and len(shapes) == 1:
            raise InputError(
                f"the template shape {shape_id} was rejected ({cloud['rejected']}): name another "
                "one as template.shape_id"
            )
    if len(usable) < min(2, len(shapes)):
        raise InputError("fewer than two of the template's shapes are usable; see rejected.tsv")
    found = fitter(settings).prepare(spec, usable, settings, seed)
    record = {"shape_ids": sorted(shapes), "seed": seed, "n_shapes": settings.n_shapes}
    record |= {"shape_id": min(shapes), "steps": settings.steps} | found.record
    save_field(out, spec, found.anchor, record, found.basis)


def main() -> None:
    """Command line of the template."""
    parser = argparse.ArgumentParser(description="Find what all fields start from.")
    parser.add_argument("--shapes", required=True, help="JSON object: shape id -> .npz, or @file")
    parser.add_argument("--field", required=True, help="field specification, JSON or @file")
    parser.add_argument("--settings", required=True, help="template settings, JSON or @file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = {key: Path(path) for key, path in cli.json_argument(args.shapes).items()}
    spec = cli.settings_argument(FieldSpec, args.field)
    make(spec, shapes, args.out, cli.settings_argument(Template, args.settings), args.seed)
