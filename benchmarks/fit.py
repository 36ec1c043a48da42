"""How long fits take: ours against the plain loop that fits one field after the other.

    python benchmarks/fit.py --out fit.json

Makes airplanes, lets the plain loop (PyTorch, eager, one field, all weights free, the reference's
7,200 steps of 8,192 points) fit some of them, and looks for the fewest steps after which
ours has fields of the same IoU. Then it measures 1, 16 and 256 fields with those steps,
and the fixed cost of a job. Prints Markdown tables. Runs on the GPU when there is one.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nefgpt.base import compiled
from nefgpt.base.device import device
from nefgpt.base.seeds import stable_seed
from nefgpt.fields import fused
from nefgpt.fields import stacked as in_torch
from nefgpt.fields.file import save_field
from nefgpt.fields.fits import Batch, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.worth import flops_per_point
from nefgpt.signals.file import load_signal
from nefgpt.signals.settings import Sampling
from nefgpt.signals.shapes import overlap, quality

SPEC = FieldSpec(hidden=(32, 32, 32, 32))  # the paper's 3,712 weights
# Points and rate: from the command line.
OURS = Optimiser(loss="l1", pull=0.0, schedule="cosine", averaging=0.99, quality_resolution=64)
TEMPLATE = replace(OURS, points_per_step=1024, learning_rate=0.02, averaging=0.0)
LOOP_POINTS = 8192
# Steps of 1,024 points, of fewer as many more.
BUDGETS = (50, 100, 200, 400, 800, 1200, 1600, 2000, 2400, 3200, 4800, 9600)
SDF = Sampling(n_uniform=50_000, n_near=50_000, sigma=0.01, extent=0.9)
MEASURES = ("iou", "iou_near", "chamfer")


def wait() -> None:
    """Until the device has done what it was told."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def matmul_peak(n: int | None = None, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of a large matrix product, the median of some."""
    n = n or (8192 if device().type == "cuda" else 1536)
    a, b = (torch.rand(n, n, device=device(), dtype=dtype) for _ in range(2))
    seconds = []
    a @ b  # the first starts the GPU's library
    for _ in range(9):
        wait()
        began = time.perf_counter()
        a @ b
        wait()
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds)


def airplanes(folder: Path, n: int) -> dict[str, Path]:
    """SDF point clouds of `n` airplanes, by number; those of an earlier call are kept.

    So a machine that has PyTorch but no mesh libraries can use clouds made elsewhere.
    """
    paths = {f"{i}": folder / "sdf" / f"{i}.npz" for i in range(n)}
    for name, path in paths.items():
        if not path.exists():
            from nefgpt.inputs.airplanes import write
            from nefgpt.signals import sdf

            sdf.prepare(write.write_mesh(folder, 0, int(name)), name, path, SDF, 0)
    return paths


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    """Copies of arrays on the device."""
    return [torch.tensor(array, device=device()) for array in arrays]


def plain_loop(points: np.ndarray, values: np.ndarray, start: np.ndarray, steps: int):
    """Fit one field the plain way; the weights [W] and the seconds per step."""
    torch.manual_seed(0)
    points, target, weights = tensors(points, SPEC.target_of(values), start)
    weights.requires_grad_(True)
    optimiser = torch.optim.Adam([weights], lr=0.01)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=200, threshold=1e-3
    )
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        chosen = torch.randint(len(points), (LOOP_POINTS,), device=device())
        error = in_torch.evaluate(SPEC, weights[None], points[chosen])[0] - target[chosen]
        loss = error.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step(loss.item())
    wait()
    return weights.detach().cpu().numpy(), (time.perf_counter() - began) / steps


def stacked(
    points: np.ndarray, values: np.ndarray, start: np.ndarray, per_step: int, steps: int
) -> float:
    """Seconds per step of all fields as one stack in PyTorch, without an optimiser."""
    points, target, free = tensors(points, SPEC.target_of(values), start)
    rows = torch.arange(len(free), device=device())
    seconds = []
    for _ in range(steps):
        wait()
        began = time.perf_counter()
        chosen = torch.randint(points.shape[1], (per_step,), device=device())
        batch = Batch(points, target, rows, chosen)
        in_torch.batched(SPEC, free, Space(free[0]), batch, OURS.loss)
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measures(weights: np.ndarray, signals: list[dict], surfaces: bool) -> dict[str, float]:
    """Medians over fields; without surfaces there is no Chamfer distance."""
    pairs = zip(weights, signals, strict=True)
    found = [quality(SPEC, *pair, 64) if surfaces else overlap(SPEC, *pair) for pair in pairs]
    names = [name for name in MEASURES if name in found[0]]
    return {name: float(np.nanmedian([row[name] for row in found])) for name in names}


def show(rows: list[dict]) -> None:
    """Print rows with equal keys as Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n")
    sys.stdout.flush()


class Problem(NamedTuple):
    """What both ways fit: signals, the first of which made the common start.

    Attributes
    ----------
    points, values : of all signals, float32 [S, N, 3] and [S, N].
    start : float32 [W].
    """

    signals: list[dict]
    points: np.ndarray
    values: np.ndarray
    start: np.ndarray


def way():
    """What computes our fits here: a GPU takes also those that are not worth its start."""
    return in_torch if device().type == "cuda" else fused


def problem(signals: list[dict], steps: int) -> Problem:
    """Fit the common start, in so many steps."""
    points, values = training_points(SPEC, signals)
    one = points[:1], values[:1], random_weights(SPEC, 0)[None]
    zero = Space(np.zeros(SPEC.n_weights, np.float32))
    begin = replace(TEMPLATE, steps=steps)
    found = fit_fields(SPEC, *one, zero, begin, 0, way=way(), progress=False)
    return Problem(signals, points, values, found.weights[0])


def ours(
    data: Problem, rows: list[int], settings: Optimiser, basis: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Weights [n, W] of fields of such signals, fitted in packs as a job does, and the seconds.

    With a basis [k, W] coefficients are fitted.
    """
    start = data.start if basis is None else np.zeros(len(basis), np.float32)
    found, at_once = [], way().at_once(SPEC, settings)
    wait()
    began = time.perf_counter()
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        starts = np.broadcast_to(start, (len(some), len(start)))
        pack = data.points[some], data.values[some], starts, Space(data.start, basis)
        found.append(fit_fields(SPEC, *pack, settings, 0, way=way(), progress=False).weights)
    wait()
    return np.concatenate(found), time.perf_counter() - began


def fidelity(args: argparse.Namespace, data: Problem) -> Iterator[dict]:
    """Rows of the loop, then of ours with more and more steps until its IoU is reached."""
    some = list(range(1, args.loop_fields + 1))
    signals = [data.signals[i] for i in some]
    looped = [plain_loop(data.points[i], data.values[i], data.start, args.loop_steps) for i in some]
    goal = measures(np.stack([weights for weights, _ in looped]), signals, args.surfaces)
    seconds = args.loop_steps * statistics.median(step for _, step in looped)
    first = {"way": "plain loop", "steps": args.loop_steps, "points": LOOP_POINTS}
    yield first | goal | {"s/field": seconds}
    per_step = args.points_per_step
    settings = replace(OURS, points_per_step=per_step, learning_rate=args.learning_rate)
    ours(data, [1], replace(settings, steps=5))  # compiles, or starts the GPU
    for steps in (budget * 1024 // per_step for budget in BUDGETS):
        found, seconds = ours(data, some, replace(settings, steps=steps))
        row = {"way": "nefgpt", "steps": steps, "points": per_step}
        row |= measures(found, signals, args.surfaces)
        yield row | {"s/field": seconds / len(some)}
        if all(row[name] >= goal[name] for name in ("iou", "iou_near")):
            return


def speed(args: argparse.Namespace, data: Problem, steps: int, loop_step: float) -> Iterator[dict]:
    """A row for every number of fields of `steps` steps; `loop_step` are the loop's seconds."""
    per_step = args.points_per_step
    settings = replace(OURS, points_per_step=per_step, learning_rate=args.learning_rate)
    settings = replace(settings, steps=steps)
    peak, flops = matmul_peak(), flops_per_point(SPEC) * per_step
    ours(data, [1], replace(settings, steps=5))
    for n in args.fields:
        rows = [1 + i % (len(data.signals) - 1) for i in range(n)]
        times = 3 if n < 100 else 1
        seconds = statistics.median(ours(data, rows, settings)[1] for _ in range(times))
        few = rows[: way().at_once(SPEC, settings)] if device().type == "cuda" else rows
        starts = np.broadcast_to(data.start, (len(few), len(data.start)))
        together = stacked(data.points[few], data.values[few], starts, per_step, 5)
        whole_loop = n * loop_step * args.loop_steps
        yield {
            "fields": n,
            "s (ours)": seconds,
            "s (loop)": whole_loop,
            "ratio": whole_loop / seconds,
            "field-steps/s": n * steps / seconds,
            "of the stack": len(few) / together,
            "of the loop": 1 / loop_step,
            "GFLOP/s": n * steps * flops / seconds / 1e9,
            "GFLOP/s of the loop": flops_per_point(SPEC) * LOOP_POINTS / loop_step / 1e9,
            "matmul peak": peak / 1e9,
        }


def fits(args: argparse.Namespace, paths: dict[str, Path]) -> dict:
    """The comparison of fits."""
    data = problem([load_signal(path) for path in paths.values()], args.template_steps)
    compared = list(fidelity(args, data))
    show(compared)
    loop, last = compared[0], compared[-1]
    if any(last[name] < loop[name] for name in ("iou", "iou_near")):
        raise SystemExit("no budget reaches the loop's IoU: nothing to compare")
    loop_step = loop["s/field"] / args.loop_steps
    fast = list(speed(args, data, last["steps"], loop_step))
    show(fast)
    return {"fidelity": compared, "speed": fast}


def jobs(folder: Path, paths: dict[str, Path], runs: int) -> list[dict]:
    """Seconds and peak memory of whole jobs of one thread: of one field, and of packs."""
    from scale import measure

    template, rows = folder / "template.safetensors", []
    save_field(template, SPEC, random_weights(SPEC, stable_seed(0, "template")), {})
    cases = [("import numba", 0, 0), ("one step", 1, 1), ("300 steps", 1, 300)]
    cases += [("pack, one step", 16, 1), ("pack, one step", 128, 1)]
    ids = list(paths)
    for name, n, steps in cases:
        words = ["-c", "import numba"]
        if n:
            shapes = {f"{i}": str(paths[ids[i % len(ids)]]) for i in range(n)}
            words = ["-m", "nefgpt", "fit", "--shapes", json.dumps(shapes), "--template", template]
            words += [
                "--field",
                SPEC.to_json(),
                "--settings",
                json.dumps(asdict(replace(TEMPLATE, steps=steps))),
            ]
            words += ["--out-dir", folder / "fields", "--manifest", folder / "manifest.json"]
        found = []
        for _ in range(runs if n < 2 else 1):
            for field in (folder / "fields").glob("*"):
                field.unlink()
            found.append(measure([sys.executable, *map(str, words)], folder))
        seconds = statistics.median(run["seconds"] for run in found)
        rows.append({"job": name, "fields": n, "s": seconds, "MB": found[-1]["mb"]})
    show(rows)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fields", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--shapes", type=int, default=17, help="airplanes; fields repeat them")
    parser.add_argument("--loop-steps", type=int, default=7200)
    parser.add_argument("--loop-fields", type=int, default=4, help="fields the loop really fits")
    parser.add_argument("--points-per-step", type=int, default=128, help="more suit a GPU")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of our fits")
    parser.add_argument("--template-steps", type=int, default=2000, help="of the common start")
    parser.add_argument("--job-runs", type=int, default=5, help="0 leaves the jobs out")
    parser.add_argument(
        "--no-surfaces",
        dest="surfaces",
        action="store_false",
        help="no Chamfer distances, so that with --job-runs 0 no PyMCubes is needed",
    )
    parser.add_argument("--folder", type=Path, help="keep the point clouds here")
    parser.add_argument("--hardware", default="", help="what the results say of the machine")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    if args.loop_fields >= args.shapes:
        parser.error("--loop-fields must be below --shapes: the first shape is the template")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        paths = airplanes(folder, args.shapes)
        threads = compiled.threads()
        result = {"hardware": args.hardware, "device": str(device()), "threads": threads}
        result |= fits(args, paths)
        if args.job_runs:
            result["jobs"] = jobs(Path(temporary), paths, args.job_runs)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
