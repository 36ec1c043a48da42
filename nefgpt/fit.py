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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from nefgpt import cli
from nefgpt.errors import InputError
from nefgpt.field import FieldSpec, evaluate, flatten, unflatten
from nefgpt.io import atomic_path, load_signal, sha256_of, stable_seed, write_json
from nefgpt.signals import kind_of
from nefgpt.versions import VERSIONS

log = logging.getLogger(__name__)

_CHECK_EVERY = 50  # steps between looks for fields that are done
_AT_ONCE = 16  # fields, or more where there are more threads, that a CPU fits before it writes


def device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cosine(step: int, steps: int) -> float:
    """Factor of the learning rate: from 1 down a half cosine, never below 1 %."""
    return max(0.5 * (1 + np.cos(np.pi * step / steps)), 0.01)


def draw_points(n_points: int, n: int, generator: torch.Generator) -> Tensor:
    """Point numbers of one step, int64: `n` random ones, or all where there are no more."""
    if n >= n_points:
        return torch.arange(n_points, device=generator.device)
    return torch.randint(n_points, (n,), generator=generator, device=generator.device)


@contextlib.contextmanager
def torch_on_one_thread() -> Iterator[int]:
    """Let torch compute with one thread; gives the number that it had.

    Its other threads wait by spinning, so that they would take the cores from the fused passes.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield count
    finally:
        torch.set_num_threads(count)


def batched(
    spec: FieldSpec,
    free: Tensor,
    anchor: Tensor,
    basis: Tensor | None,
    points: Tensor,
    target: Tensor,
    rows: Tensor,
    chosen: Tensor,
    loss: str,
) -> tuple[Tensor, Tensor]:
    """What `nefgpt.fused.gradients` computes, as one stacked problem in PyTorch."""
    free = free.detach().requires_grad_(True)
    weights = free if basis is None else anchor + free @ basis
    seen = rows[:, None], chosen
    error = evaluate(spec, weights, points[seen]) - target[seen]
    losses = (error.abs() if loss == "l1" else error.square()).mean(dim=1)
    (gradient,) = torch.autograd.grad(losses.sum(), free)
    return losses.detach(), gradient


def loss_and_gradient(
    spec: FieldSpec, *tensors: Tensor | None, loss: str, threads: int
) -> tuple[Tensor, Tensor]:
    """Losses [F] of fields and their gradients: `batched` on a GPU, fused on a CPU.

    The parameters are those of `nefgpt.fused.gradients`, as tensors on one device.
    """
    if tensors[0].is_cuda:
        return batched(spec, *tensors, loss)
    from nefgpt import fused  # its compiler takes a while to load

    arrays = [None if t is None else np.ascontiguousarray(t.numpy()) for t in tensors]
    losses, gradient = fused.gradients(spec, *arrays, loss, threads)
    return torch.from_numpy(losses), torch.from_numpy(gradient)


class Fitted(NamedTuple):
    """Fits of F fields.

    Attributes
    ----------
    weights : float32 [F, W].
    losses : float32 [F], the training loss at the last step.
    failed : int64 [F], the step at which the fit turned non-finite; -1 when it did not.
    steps : int64 [F], how many were taken.
    """

    weights: Tensor
    losses: Tensor
    failed: Tensor
    steps: Tensor


def fit_fields(
    spec: FieldSpec,
    points: Tensor,
    values: Tensor,
    start: Tensor,
    anchor: Tensor,
    settings: dict,
    seed: int,
    basis: Tensor | None = None,
    progress: bool = True,
) -> Fitted:
    """Fit F fields simultaneously with Adam, all weights or their coefficients in a basis.

    Every field sees the same point numbers at the same step, so that fields of similar shapes
    take similar paths (DESIGN.md, section 7). On a CPU a field's result does not depend on the
    others; on a GPU its last bits may.

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
    """
    where = device()
    n_fields, n_points = values.shape
    points, target = points.to(where), spec.target_of(values).to(where)
    anchor = anchor.to(where)
    basis = None if basis is None else basis.to(where)
    origin = anchor if basis is None else torch.zeros_like(basis[:, 0])
    free = start.to(where).clone()  # [F, W] or [F, k]
    # What follows is of the fields that are still being fitted; `rows` says which they are.
    now = {
        "rows": torch.arange(n_fields, device=where),
        "free": free,
        "mean": torch.zeros_like(free),
        "square": torch.zeros_like(free),
        "average": free.clone(),
        "rate": torch.full((n_fields, 1), float(settings["learning_rate"]), device=where),
        "smoothed": torch.full((n_fields,), float("nan"), device=where),
        "best": torch.full((n_fields,), float("inf"), device=where),
        "stalled": torch.zeros(n_fields, device=where),
        "loss": torch.full((n_fields,), float("nan"), device=where),
        "failed": torch.full((n_fields,), -1, device=where),
        "done": torch.zeros(n_fields, dtype=torch.bool, device=where),
    }
    found = {name: now[name].clone() for name in ("free", "average", "loss", "failed")}
    taken = torch.zeros(n_fields, dtype=torch.long, device=where)
    steps, pull = int(settings["steps"]), float(settings["pull"])
    least_rate = float(settings["learning_rate"]) / 1000
    generator = torch.Generator(where).manual_seed(seed)
    decay = float(settings["averaging"])
    with torch_on_one_thread() as threads:
        for step in tqdm(
            range(steps), desc="fit", unit="step", disable=not progress, mininterval=1
        ):
            chosen = draw_points(n_points, settings["points_per_step"], generator)
            fields = now["free"], anchor, basis, points, target, now["rows"], chosen
            loss, gradient = loss_and_gradient(
                spec, *fields, loss=settings["loss"], threads=threads
            )
            if pull:
                gradient += 2 * pull * (now["free"] - origin)
            finite = torch.isfinite(loss + gradient.sum(dim=1))
            now["failed"] = torch.where((now["failed"] < 0) & ~finite, step, now["failed"])
            # A failed field stands still, and its neighbours never see it.
            gradient = torch.where((now["failed"] < 0)[:, None], gradient, 0.0)
            now["mean"].lerp_(gradient, 0.1)
            now["square"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            if settings["schedule"] == "cosine":
                rate = now["rate"] * cosine(step, steps)
            else:
                rate = now["rate"]
                _watch(now, loss, least_rate)
            scale = now["square"].sqrt().mul_((1 - 0.999 ** (step + 1)) ** -0.5).add_(1e-8)
            now["free"] -= rate / (1 - 0.9 ** (step + 1)) * now["mean"] / scale
            if decay:
                now["average"].lerp_(now["free"], 1 if step == 0 else 1 - decay)
            now["loss"] = loss
            if step % _CHECK_EVERY == _CHECK_EVERY - 1 or step == steps - 1:
                for name, result in found.items():
                    result[now["rows"]] = now[name]
                taken[now["rows"]] = step + 1
                going_on = (now["failed"] < 0) & ~now["done"]
                if not going_on.all():  # the only place where the host waits for a GPU
                    now = {name: value[going_on] for name, value in now.items()}
                if not len(now["rows"]):
                    break
        result = found["average"] if decay else found["free"]
    if basis is not None:  # row by row: a product of all may round otherwise for other F
        result = torch.stack([anchor + row @ basis for row in result])
    return Fitted(result.cpu(), found["loss"].cpu(), found["failed"].cpu(), taken.cpu())


def _watch(now: dict[str, Tensor], loss: Tensor, least_rate: float) -> None:
    """Halve the rate of every field whose smoothed loss has not improved for 200 steps."""
    smoothed = torch.where(now["smoothed"].isnan(), loss, now["smoothed"].lerp(loss, 0.02))
    better = smoothed < now["best"] * 0.999
    now["smoothed"], now["best"] = smoothed, torch.where(better, smoothed, now["best"])
    now["stalled"] = torch.where(better, 0.0, now["stalled"] + 1)
    stalls = now["stalled"] > 200
    now["done"] |= stalls & (now["rate"][:, 0] <= least_rate)
    halved = (now["rate"] * 0.5).clamp_min(least_rate)
    now["rate"] = torch.where(stalls[:, None], halved, now["rate"])
    now["stalled"] = torch.where(stalls, 0.0, now["stalled"])


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Hex SHA-256 of a field's tensors, specification and record: safetensors keeps none."""
    digest = hashlib.sha256("\0".join([metadata["spec"], metadata["record"]]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def how_to_refit(path: Path) -> str:
    """What to do about a broken field; a pack keeps its whole fields when it runs again."""
    packs = path.parent / "packs"
    files = [path, packs] if packs.is_dir() else [path]
    return f"to fit it anew: rm -r {shlex.join(map(str, files))} and run Snakemake again"


def save_field(
    path: Path,
    spec: FieldSpec,
    weights: Tensor | None,
    record: dict,
    basis: Tensor | None = None,
) -> None:
    """Write one field; `weights` None marks a shape that was rejected."""
    tensors = {} if weights is None else unflatten(spec, weights)
    tensors |= {} if basis is None else {"basis": basis}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {"spec": spec.to_json(), "record": json.dumps(record, sort_keys=True)}
    metadata["sha256"] = checksum(tensors, metadata)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_field(path: Path) -> tuple[FieldSpec, Tensor | None, dict]:
    """Read one field written by `save_field`; raise InputError when it cannot be trusted."""
    try:
        with safe_open(path, framework="pt") as stream:
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
    if not torch.isfinite(weights).all():
        raise InputError(f"field {path} holds non-finite weights; {how_to_refit(path)}")
    return spec, weights, record


def training_points(spec: FieldSpec, signals: list[dict]) -> tuple[Tensor, Tensor]:
    """Points [F, N, in_dim] and values [F, N] that fits may see."""
    counts = {len(signal["values"]) for signal in signals}
    if len(counts) != 1:
        raise InputError(f"signals of one job differ in size ({sorted(counts)}); rerun them")
    keep = kind_of(spec).training_rows(counts.pop())
    points = np.stack([signal["points"][keep] for signal in signals])
    values = np.stack([signal["values"][keep] for signal in signals])
    return torch.from_numpy(points), torch.from_numpy(values)


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
    from nefgpt.template import load_template

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
    on_gpu = device().type == "cuda"
    at_once = len(missing) if on_gpu else max(_AT_ONCE, torch.get_num_threads())
    problems: list[str] = []
    ids = list(missing)
    for begin in range(0, len(ids), at_once or 1):
        some = {i: (*paths[i], missing[i]) for i in ids[begin : begin + at_once]}
        problems += _fit_and_save(spec, some, anchor, basis, settings, stable_seed(seed, "fit"))
    if problems:
        raise InputError(
            f"the fit turned non-finite: {', '.join(problems)}; lower fit.learning_rate"
        )


def _fit_and_save(
    spec: FieldSpec,
    shapes: dict[str, tuple[Path, Path, dict]],
    anchor: Tensor,
    basis: Tensor | None,
    settings: dict,
    seed: int,
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
    start = anchor if basis is None else torch.zeros(len(basis))
    start = start.expand(len(clouds), -1)
    fitted = fit_fields(spec, points, values, start, anchor, settings, seed, basis)
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
        prog="python -m nefgpt.fit",
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


if __name__ == "__main__":
    cli.run(main)
