"""Fit fields to signals sampled at points, every one from the template.

`fit_fields` fits any number of fields together; a job with one field runs the same code as a
pack of many.
"""

import argparse
import dataclasses
import logging
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import sha256_of, write_json
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.file import load_field, save_field
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.optimise import fit_fields, training_points, way_of
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import kind_of
from nefgpt.stages import VERSIONS

log = logging.getLogger(__name__)


def _finished(path: Path, identity: dict) -> dict | None:
    """Record of a field fitted from exactly these inputs; a broken file is fitted anew."""
    if not path.exists():
        return None
    try:
        record = load_field(path).record
    except InputError as error:
        log.warning("%s; it is fitted anew", error)
        return None
    return record if record.get("identity") == identity else None


def fit_shapes(
    spec: FieldSpec,
    paths: dict[str, tuple[Path, Path]],
    settings: Optimiser,
    seed: int,
    template: Path,
) -> None:
    """Fit one field per shape; `paths` maps shape ids to point cloud (in) and field (out).

    With a basis in the template, the fields' coefficients in it are fitted; else all weights,
    from the template's. Fields that an earlier, killed job finished from the same inputs are
    kept as they are.

    Raises
    ------
    InputError
        when a fit turned non-finite (naming shape and step); the other fields are written first.
    """
    shared = load_field(template)
    if shared.spec != spec:
        raise InputError(f"{template} was fitted with another field specification; rerun it")
    identity = {"version": VERSIONS["fit"], "settings": dataclasses.asdict(settings), "seed": seed}
    identity |= {"template": sha256_of(template), "spec": spec.to_json()}
    missing = {}
    for shape_id, (path, out) in paths.items():
        wanted = {**identity, "signal": sha256_of(path)}
        if len(paths) > 1 and _finished(out, wanted):
            log.info("kept %s: fitted from the same inputs", out)
        else:
            missing[shape_id] = wanted
    problems: list[str] = []
    ids, way = list(missing), way_of(spec, len(paths), settings)
    at_once = way.at_once(spec, settings) if ids else 1
    for begin in range(0, len(ids), at_once):
        some = {i: (*paths[i], missing[i]) for i in ids[begin : begin + at_once]}
        problems += _fit_and_save(spec, some, shared.space, settings, stable_seed(seed, "fit"), way)
    if problems:
        raise InputError(
            f"the fit turned non-finite: {', '.join(problems)}; lower fit.learning_rate"
        )


def _fit_and_save(
    spec: FieldSpec,
    shapes: dict[str, tuple[Path, Path, dict]],
    space: Space,
    settings: Optimiser,
    seed: int,
    way: ModuleType,
) -> list[str]:
    """Fit shapes, ids to (point cloud, field, identity), together; say which failed, and when."""
    clouds = {}
    for shape_id, (path, out, identity) in shapes.items():
        cloud = load_signal(path)
        if cloud["rejected"]:
            record = {"shape_id": shape_id, "rejected": cloud["rejected"], "identity": identity}
            save_field(out, spec, None, record)
        else:
            clouds[shape_id] = cloud
    if not clouds:
        return []
    points, values = training_points(spec, list(clouds.values()))
    began = time.perf_counter()
    in_basis = space.basis is not None
    start = np.zeros(len(space.basis), np.float32) if in_basis else space.anchor
    start = np.broadcast_to(start, (len(clouds), len(start)))
    many = len(clouds) > 1
    fitted = fit_fields(spec, points, values, start, space, settings, seed, many, way=way)
    seconds = time.perf_counter() - began
    problems, kind = [], kind_of(spec)
    for i, (shape_id, cloud) in enumerate(clouds.items()):
        _, out, identity = shapes[shape_id]
        if fitted.failed[i] >= 0:
            problems.append(f"shape {shape_id} at step {int(fitted.failed[i])}")
            continue
        record = {
            "shape_id": shape_id,
            "template_id": identity["template"],
            "steps": int(fitted.steps[i]),
            "loss": float(fitted.losses[i]),
            "seconds": seconds / len(clouds),
            "identity": identity,
            **kind.quality(spec, fitted.weights[i], cloud, settings.quality_resolution),
        }
        coefficients = fitted.coefficients[i] if in_basis else None
        save_field(out, spec, fitted.weights[i], record, coefficients=coefficients)
        measures = ", ".join(f"{name} {record[name]:.3f}" for name in kind.QUALITY)
        log.info("%s: %s", shape_id, measures)
        if record.get("iou") == 0:
            log.warning("%s: its field holds nothing of the shape (IoU 0)", shape_id)
    return problems


def main() -> None:
    """Command line of the fit."""
    parser = argparse.ArgumentParser(
        description="Fit fields to sampled signals: one (--signal, --out), or a pack in one "
        "job (--shapes, --out-dir, --manifest).",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--signal", type=Path, help="one signal, named <shape_id>.npz")
    what.add_argument("--shapes", help="JSON object: shape id -> .npz, or @file")
    parser.add_argument("--field", required=True, help="field specification, JSON or @file")
    parser.add_argument("--settings", required=True, help="fit settings, JSON or @file")
    parser.add_argument("--template", type=Path, required=True, help="template.safetensors")
    parser.add_argument("--out", type=Path, help="the one field's file")
    parser.add_argument("--out-dir", type=Path, help="folder of a pack's fields")
    parser.add_argument("--manifest", type=Path, help="write the fields' hashes here when done")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    spec = cli.settings_argument(FieldSpec, args.field)
    settings = cli.settings_argument(Optimiser, args.settings)
    if args.signal:
        if not args.out:
            parser.error("--signal needs --out")
        paths = {args.signal.stem: (args.signal, args.out)}
    else:
        if not (args.out_dir and args.manifest):
            parser.error("--shapes needs --out-dir and --manifest")
        paths = {
            shape_id: (Path(path), args.out_dir / f"{shape_id}.safetensors")
            for shape_id, path in cli.json_argument(args.shapes).items()
        }
    fit_shapes(spec, paths, settings, args.seed, args.template)
    if args.manifest:
        hashes = {shape_id: sha256_of(out) for shape_id, (_, out) in paths.items()}
        write_json(args.manifest, hashes)
