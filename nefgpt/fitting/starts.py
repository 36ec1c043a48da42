"""The same signals fitted twice: from the template's weights, and each from its own random ones.

Two fields from one start keep their hidden units in the same places; two random starts do not,
since the units of a layer can be permuted without changing the function.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.file import load_field
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.weights import Row, write_fields
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import kind_of


def fit_starts(
    spec: FieldSpec,
    signals: dict[str, Path],
    labels: dict[str, int | None],
    template: Path,
    settings: Optimiser,
    seed: int,
    out: dict[str, Path],
) -> None:
    """Write two tables of fields of the same signals, all weights free.

    Parameters
    ----------
    out : "conditioned" (from the template's weights) and "unconditioned" (from random ones) to
        the tables' paths.

    Raises
    ------
    InputError
        when a fit turns non-finite, naming signal and step, or no signal can be used.
    """
    anchor = load_field(template).weights
    loaded = {name: load_signal(path) for name, path in signals.items()}
    usable = {name: signal for name, signal in loaded.items() if not signal["rejected"]}
    if not usable:
        raise InputError("no signal to fit from two starts can be used; see rejected.tsv")
    points, values = training_points(spec, list(usable.values()))
    random = [random_weights(spec, stable_seed(seed, "start", name)) for name in usable]
    same = np.broadcast_to(anchor, (len(usable), len(anchor)))
    starts = {"conditioned": same, "unconditioned": np.stack(random)}
    for name, start in starts.items():
        # A pull would favour one start.
        free = dataclasses.replace(settings, pull=0.0, averaging=0.0)
        fitted = fit_fields(
            spec, points, values, start, Space(anchor), free, stable_seed(seed, "fit")
        )
        for shape_id, step in zip(usable, fitted.failed.tolist(), strict=True):
            if step >= 0:
                raise InputError(
                    f"the {name} fit of {shape_id} turned non-finite at step {step}: lower "
                    "regression.fit.learning_rate"
                )
        rows = []
        for i, (shape_id, signal) in enumerate(usable.items()):
            field, measures = fitted.weights[i], {"loss": float(fitted.losses[i])}
            measures |= kind_of(spec).quality(spec, field, signal, settings.quality_resolution)
            rows.append(Row(shape_id, "train", labels[shape_id], field, measures))
        write_fields(out[name], spec, anchor, rows)


def main() -> None:
    """Command line of the two fits."""
    parser = argparse.ArgumentParser(
        description="Fit the same signals from the template and from random starts.",
    )
    parser.add_argument("--shapes", required=True, help="JSON: shape id -> [.npz, label], or @file")
    parser.add_argument("--field", required=True, help="field specification, JSON or @file")
    parser.add_argument("--settings", required=True, help="regression.fit block, JSON or @file")
    parser.add_argument("--template", type=Path, required=True, help="template.safetensors")
    parser.add_argument("--conditioned", type=Path, required=True, help="table to write")
    parser.add_argument("--unconditioned", type=Path, required=True, help="table to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = cli.json_argument(args.shapes)
    fit_starts(
        cli.settings_argument(FieldSpec, args.field),
        {name: Path(path) for name, (path, _) in shapes.items()},
        {name: label for name, (_, label) in shapes.items()},
        args.template,
        cli.settings_argument(Optimiser, args.settings),
        args.seed,
        {"conditioned": args.conditioned, "unconditioned": args.unconditioned},
    )
