"""Fit fields to signals sampled at points, every one from the template.

`fit_fields` fits any number of fields together; a job with one field runs the same code as a
pack of many.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import shlex
import time
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nefgpt import cli, fused
from nefgpt.errors import InputError
from nefgpt.field import FieldSpec, flatten, unflatten
from nefgpt.gpu import has_gpu, worth_a_gpu
from nefgpt.io import atomic_path, load_signal, sha256_of, stable_seed, write_json
from nefgpt.signals import kind_of
from nefgpt.stages import VERSIONS

log = logging.getLogger(__name__)

_STEPS = 50  # between looks for fields that are done
_NUMBERS = 1 << 19  # of points, drawn ahead at most


def cosine(step: np.ndarray | int, steps: int) -> np.ndarray:
    """Factor of the learning rate: from 1 down a half cosine, never below 1 %."""
    return np.maximum(0.5 * (1 + np.cos(np.pi * step / steps)), 0.01)


def draw_points(n_points: int, n: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Point numbers int64 [steps, n]: random ones, or all where there are no more."""
    if n >= n_points:
        return np.tile(np.arange(n_points), (steps, 1))
    return rng.integers(n_points, size=(steps, n))


class Fitted(NamedTuple):
    """Fits of F fields.

    Attributes
    ----------
    weights : float32 [F, W].
    losses : float32 [F], the training loss at the last step.
    failed : int64 [F], the step at which the fit turned non-finite; -1 when it did not.
    steps : int64 [F], how many were taken.
    """

    weights: np.ndarray
    losses: np.ndarray
    failed: np.ndarray
    steps: np.ndarray


def way_of(spec: FieldSpec, n_fields: int, settings: dict) -> ModuleType:
    """The module that computes such fits: `nefgpt.stacked` on a GPU, else `nefgpt.fused`."""
    if worth_a_gpu(spec, n_fields, settings) and has_gpu():
        from nefgpt import stacked  # PyTorch takes longer to load than many a field to fit

        return stacked
    return fused


def _bar(steps: int) -> contextlib.AbstractContextManager:
    from tqdm import tqdm  # takes as long to load as a third of a field's fit

    return tqdm(total=steps, desc="fit", unit="step", mininterval=1)


def fit_fields(
    spec: FieldSpec,
    points: np.ndarray,
    values: np.ndarray,
    start: np.ndarray,
    anchor: np.ndarray,
    settings: dict,
    seed: int,
    basis: np.ndarray | None = None,
    progress: bool = True,
    way: ModuleType | None = None,
) -> Fitted:
    """Fit F fields simultaneously with Adam, all weights or their coefficients in a basis.

    Every field sees the same point numbers at the same step, so that fields of similar shapes
    take similar paths (DESIGN.md, section 7). On a CPU a field's result does not depend on the
    others; on a GPU, which rounds products to TF32, it may in its third digit.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    values : float32 [F, N], the signal there (for shapes the distance, negative inside).
    start : float32 [F, W] initial weights, or [F, k] initial coefficients.
    anchor : float32 [W]: the template. `settings["pull"]` draws weights towards it, coefficients
        towards zero.
    settings : steps, points_per_step, learning_rate, loss ("l1" | "mse"), pull, averaging, and
        schedule: "cosine" takes all steps; "plateau" halves a field's rate when its loss stalls,
        and the field is done when it stalls at a thousandth of the first rate.
    seed : of the point order.
    basis : float32 [k, W]; the fields are then anchor + coefficients @ basis.
    way : what computes them; None: see `way_of`.
    """
    way = way or way_of(spec, len(values), settings)
    fields = way.Fit(spec, points, spec.target_of(values), start, anchor, basis, settings)
    steps, per_step = int(settings["steps"]), int(settings["points_per_step"])
    ahead = max(1, min(_STEPS, _NUMBERS // per_step))
    rng = np.random.default_rng(seed)
    with _bar(steps) if progress else contextlib.nullcontext() as bar:
        for first in range(0, steps, ahead):
            now = np.arange(first, min(first + ahead, steps))
            chosen = draw_points(values.shape[1], per_step, len(now), rng)
            on_cosine = settings["schedule"] == "cosine"
            if not fields.advance(chosen, cosine(now, steps) if on_cosine else np.ones(len(now))):
                break
            if progress:
                bar.update(len(now))
    return Fitted(*fields.result())


def checksum(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Hex SHA-256 of a field's tensors, specification and record: safetensors keeps none."""
    digest = hashlib.sha256("\0".join([metadata["spec"], metadata["record"]]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0torch.{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def how_to_refit(path: Path) -> str:
    """What to do about a broken field; a pack keeps its whole fields when it runs again."""
    packs = path.parent / "packs"
    files = [path, packs] if packs.is_dir() else [path]
    return f"to fit it anew: rm -r {shlex.join(map(str, files))} and run Snakemake again"


def save_field(
    path: Path,
    spec: FieldSpec,
    weights: np.ndarray | None,
    record: dict,
    basis: np.ndarray | None = None,
) -> None:
    """Write one field; `weights` None marks a shape that was rejected."""
    tensors = {} if weights is None else unflatten(spec, weights)
    tensors |= {} if basis is None else {"basis": basis}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {"spec": spec.to_json(), "record": json.dumps(record, sort_keys=True)}
    metadata["sha256"] = checksum(tensors, metadata)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_field(path: Path) -> tuple[FieldSpec, np.ndarray | None, dict]:
    """Read one field written by `save_field`; raise InputError when it cannot be trusted."""
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata()
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        found = checksum(tensors, metadata)
        spec, record = FieldSpec.from_json(metadata["spec"]), json.loads(metadata["record"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(f"cannot read field {path}: {error}; {how_to_refit(path)}") from error
    # Fields of releases before the checksum have none.
    if metadata.get("sha256", found) != found:
        raise InputError(f"field {path} was changed after it was written; {how_to_refit(path)}")
    if "rejected" in record:
        return spec, None, record
    weights = flatten(spec, tensors)
    if not np.isfinite(weights).all():
        raise InputError(f"field {path} holds non-finite weights; {how_to_refit(path)}")
    return spec, weights, record


def load_template(path: Path) -> tuple[FieldSpec, np.ndarray, np.ndarray | None]:
    """Specification, weights [W], and basis [k, W] or None, of `template.safetensors`."""
    spec, weights, _ = load_field(path)
    try:
        with safe_open(path, framework="numpy") as stream:
            basis = stream.get_tensor("basis") if "basis" in stream.keys() else None
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
    return spec, weights, basis


def training_points(spec: FieldSpec, signals: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Points [F, N, in_dim] and values [F, N] that fits may see."""
    counts = {len(signal["values"]) for signal in signals}
    if len(counts) != 1:
        raise InputError(f"signals of one job differ in size ({sorted(counts)}); rerun them")
    keep = kind_of(spec).training_rows(counts.pop())
    points = np.stack([signal["points"][keep] for signal in signals])
    values = np.stack([signal["values"][keep] for signal in signals])
    return points, values


def _finished(path: Path, identity: dict) -> dict | None:
    """Record of a field fitted from exactly these inputs; a broken file is fitted anew."""
    if not path.exists():
        return None
    try:
        record = load_field(path)[2]
    except InputError as error:
        log.warning("%s; it is fitted anew", error)
        return None
    return record if record.get("identity") == identity else None


def fit_shapes(
    spec: FieldSpec,
    paths: dict[str, tuple[Path, Path]],
    settings: dict,
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
    template_spec, anchor, basis = load_template(template)
    if template_spec != spec:
        raise InputError(f"{template} was fitted with another field specification; rerun it")
    identity = {"version": VERSIONS["fit"], "settings": settings, "seed": seed}
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
        problems += _fit_and_save(
            spec, some, anchor, basis, settings, stable_seed(seed, "fit"), way
        )
    if problems:
        raise InputError(
            f"the fit turned non-finite: {', '.join(problems)}; lower fit.learning_rate"
        )


def _fit_and_save(
    spec: FieldSpec,
    shapes: dict[str, tuple[Path, Path, dict]],
    anchor: np.ndarray,
    basis: np.ndarray | None,
    settings: dict,
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
    start = anchor if basis is None else np.zeros(len(basis), np.float32)
    start = np.broadcast_to(start, (len(clouds), len(start)))
    many = len(clouds) > 1
    fitted = fit_fields(spec, points, values, start, anchor, settings, seed, basis, many, way=way)
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
            **kind.quality(spec, fitted.weights[i], cloud, settings["quality_resolution"]),
        }
        save_field(out, spec, fitted.weights[i], record)
        measures = ", ".join(f"{name} {record[name]:.3f}" for name in kind.QUALITY)
        log.info("%s: %s", shape_id, measures)
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
    spec = FieldSpec.from_dict(cli.json_argument(args.field))
    settings = cli.json_argument(args.settings)
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
