"""Everything that a GPU is for, measured in one go: fits, training, sampling, distances, tests.

    PYTHONPATH=. python benchmarks/gpu.py --out gpu.json

Shapes are unions of an ellipsoid and a torus, so that no mesh library is needed: NumPy, PyTorch,
numba, SciPy, pandas, pyarrow, safetensors, tqdm and annotated-types are enough. Every step is a
process of its own. One that fails or runs out of time says so, its rows so far stay, and the
others go on; time that a step leaves is for those after it. The JSON is written after every step.
Without a GPU all is measured on the CPU; `--toy` does that at sizes that take seconds.
"""

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import fit
import gpt
import numpy as np
import torch

from nefgpt.base import compiled
from nefgpt.base.device import device
from nefgpt.base.files import write_json
from nefgpt.fitting.basis import learn_basis
from nefgpt.fitting.settings import Template
from nefgpt.fitting.worth import flops_per_point
from nefgpt.generators.gpt.model import GPT, GPTConfig
from nefgpt.generators.gpt.sampling import generate
from nefgpt.signals.chamfer import chamfer_matrix

ROOT = Path(__file__).parents[1]
N_POINTS = 2048  # of a cloud, as evaluations compare them
SIGMA = 0.01  # of the points near a surface


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    matrix : rows of the matrices whose product is the peak.
    shapes, points : signals, and the points of each.
    fields : fitted together, one row each.
    models : as `gpt.SIZES` has them.
    samples : name of a model and number of sequences.
    """

    matrix: int
    shapes: int
    points: int
    fields: tuple[int, ...]
    points_per_step: int
    learning_rate: float
    template_steps: int
    loop_steps: int
    loop_fields: int
    components: int
    basis_steps: int
    models: dict[str, tuple[int, ...]]
    train_steps: int
    samples: tuple[tuple[str, int], ...]
    clouds: int
    tests: tuple[str, ...]


# Batches of 4, as config/paper-airplanes.yaml has them.
PAPER = {name: (*sizes[:-1], 4) for name, sizes in gpt.SIZES.items() if name.startswith("paper")}
FULL = Size(
    matrix=8192,
    shapes=65,
    points=40_000,
    fields=(1, 256, 4000),
    points_per_step=1024,
    learning_rate=0.02,
    template_steps=2000,
    loop_steps=7200,
    loop_fields=2,
    components=32,
    basis_steps=500,
    models=PAPER,
    train_steps=10,
    samples=(("paper-256", 1), ("paper-256", 400), ("paper-512", 1)),
    clouds=400,
    tests=("test_devices.py", "test_stacked.py", "test_gpu.py"),
)
TOY = Size(
    matrix=256,
    shapes=4,
    points=2000,
    fields=(1, 3),
    points_per_step=128,
    learning_rate=0.01,
    template_steps=20,
    loop_steps=5,
    loop_fields=1,
    components=2,
    basis_steps=5,
    models={"toy": (15, 12, 16, 2, 1, 2)},
    train_steps=2,
    samples=(("toy", 1), ("toy", 4)),
    clouds=4,
    tests=("test_gpu.py",),
)


def distance(points: np.ndarray, radii: np.ndarray, ring: float, tube: float) -> np.ndarray:
    """Signed distance [N] to an ellipsoid (nearly, away from it) and a torus around the z axis."""
    inside = np.linalg.norm(points / radii, axis=1)
    slope = np.linalg.norm(points / radii**2, axis=1)
    ellipsoid = inside * (inside - 1) / np.maximum(slope, 1e-9)
    flat = np.linalg.norm(points[:, :2], axis=1) - ring
    return np.minimum(ellipsoid, np.hypot(flat, points[:, 2]) - tube)


def shape(number: int, n: int) -> dict:
    """A signal as `load_signal` gives it: uniform points first, then as many near the surface."""
    rng = np.random.default_rng(number)
    about = rng.uniform(0.08, 0.3, 3), rng.uniform(0.2, 0.35), rng.uniform(0.03, 0.08)
    uniform = rng.uniform(-0.5, 0.5, (n // 2, 3))
    near = rng.uniform(-0.45, 0.45, (n // 2, 3))
    for _ in range(4):  # down the slope to the surface
        ways = np.eye(3) * 1e-4
        slope = [distance(near + way, *about) - distance(near - way, *about) for way in ways]
        near -= distance(near, *about)[:, None] * np.stack(slope, axis=1) / 2e-4
    near += rng.normal(0, SIGMA, near.shape)
    points = np.concatenate([uniform, near]).clip(-0.5, 0.5).astype(np.float32)
    return {"points": points, "values": distance(points, *about).astype(np.float32)}


def data_of(size: Size) -> fit.Problem:
    """Signals and a common start."""
    signals = [shape(number, size.points) for number in range(size.shapes)]
    return fit.problem(signals, size.template_steps)


def machine(size: Size) -> Iterator[dict]:
    """What it is measured on, and how fast it multiplies matrices."""
    found = {"device": platform.processor() or platform.machine(), "memory GB": None}
    if device().type == "cuda":
        about = torch.cuda.get_device_properties(0)
        found = {"device": about.name, "memory GB": about.total_memory / 1e9}
    found |= {"CPU cores": os.cpu_count(), "threads": compiled.threads()}
    found |= {"python": platform.python_version(), "torch": torch.__version__}
    found |= {"CUDA": torch.version.cuda, "float32 TFLOP/s": fit.matmul_peak(size.matrix) / 1e12}
    torch.set_float32_matmul_precision("high")
    # A CPU has no TF32.
    tf32 = fit.matmul_peak(size.matrix) / 1e12 if device().type == "cuda" else None
    bf16 = fit.matmul_peak(size.matrix, torch.bfloat16) / 1e12
    yield found | {"TF32 TFLOP/s": tf32, "bf16 TFLOP/s": bf16}


def fits(size: Size) -> Iterator[dict]:
    """Steps until the plain loop's IoU is reached, then the time of so many."""
    data = data_of(size)
    args = SimpleNamespace(**vars(size), surfaces=False)
    for row in fit.fidelity(args, data):
        if row["way"] == "plain loop":
            loop_step = row["s/field"] / size.loop_steps
        yield row
    yield from fit.speed(args, data, row["steps"], loop_step)


def basis(size: Size) -> Iterator[dict]:
    """How fast a basis is learned, and coefficients in it are fitted."""
    data = data_of(size)
    learning = Template(
        n_shapes=size.shapes,
        n_components=size.components,
        points_per_step=size.points_per_step,
        steps=size.basis_steps,
    )
    per_step = min(learning.fields_per_step, size.shapes)
    learn_basis(fit.SPEC, data.points, data.values, replace(learning, steps=3), 0)  # warms up
    fit.wait()
    began = time.perf_counter()
    mean, rows, _ = learn_basis(fit.SPEC, data.points, data.values, learning, 0)
    seconds, work = time.perf_counter() - began, flops_per_point(fit.SPEC) * size.points_per_step

    def row(what: str, fields: int, seconds: float) -> dict:
        done = fields * size.basis_steps / seconds
        found = {"what": what, "components": len(rows), "fields": fields, "s": seconds}
        return found | {"field-steps/s": done, "GFLOP/s": done * work / 1e9}

    yield row("learned", per_step, seconds)
    settings = replace(
        fit.OURS, points_per_step=size.points_per_step, learning_rate=size.learning_rate
    )
    data = data._replace(start=mean)
    fit.ours(data, [1], replace(settings, steps=3), rows)
    settings = replace(settings, steps=size.basis_steps)
    for n in size.fields:
        which = [i % size.shapes for i in range(n)]
        yield row("fitted in it", n, fit.ours(data, which, settings, rows)[1])


def train(size: Size) -> Iterator[dict]:
    """Steps of the GPT; a GPU trains in bfloat16 unless it is told otherwise."""
    for precision in ("bf16", "float32") if device().type == "cuda" else ("float32",):
        for name, sizes in size.models.items():
            yield gpt.measure(name, sizes, size.train_steps, precision)


def sample(size: Size) -> Iterator[dict]:
    """Sequences of a whole context from models that learned nothing."""
    for name, batch in size.samples:
        n_codes, context, width, heads, layers, _ = size.models[name]
        config = GPTConfig(
            vocab_size=n_codes + 1, context=context, embedding=width, heads=heads, layers=layers
        )
        model = GPT(config).to(device())
        generate(model, batch, 4, n_codes, top_k=5, batch_size=batch)  # warms up
        fit.wait()
        began = time.perf_counter()
        generate(model, batch, context, n_codes, top_k=5, batch_size=batch)
        seconds = time.perf_counter() - began
        found = {"size": name, "sequences": batch, "tokens each": context, "s": seconds}
        yield found | {"tokens/s": batch * context / seconds}


def distances(size: Size) -> Iterator[dict]:
    """All pairs of clouds; they are compared on the CPU."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(size.clouds, N_POINTS, 3)).astype(np.float32)
    chamfer_matrix(clouds[:2])  # compiles
    began = time.perf_counter()
    chamfer_matrix(clouds)
    seconds, pairs = time.perf_counter() - began, size.clouds * (size.clouds + 1) // 2
    found = {"clouds": size.clouds, "points": N_POINTS, "CPU threads": compiled.threads()}
    yield found | {"s": seconds, "pairs/s": pairs / seconds}


def tests(size: Size) -> Iterator[dict]:
    """The tests that a GPU makes mean something."""
    if not importlib.util.find_spec("pytest"):
        raise SystemExit("pytest is not installed")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
        words += [str(ROOT / "tests/unit" / name) for name in size.tests]
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if not report.exists():
            raise SystemExit(f"pytest ended with {done.returncode}: {done.stdout.strip()[-500:]}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    kinds = [{part.tag for part in case} & {"failure", "error", "skipped"} for case in cases]
    bad = [kind & {"failure", "error"} for kind in kinds]
    failed = [case.get("name") for case, kind in zip(cases, bad, strict=True) if kind]
    found = {"passed": kinds.count(set()), "failed": len(failed)}
    yield found | {"skipped": kinds.count({"skipped"}), "names of the failed": failed}


# Each with its share of the time, in seconds of eight minutes.
STEPS: dict[str, tuple[Callable[[Size], Iterator[dict]], int]] = {
    "machine": (machine, 25),
    "fits": (fits, 150),
    "basis": (basis, 50),
    "train": (train, 75),
    "sample": (sample, 90),
    "distances": (distances, 40),
    "tests": (tests, 50),
}


def call(words: list[str], limit: float) -> dict:
    """Run a command that writes rows as lines of JSON: they, its seconds, and what went wrong."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        # A session of its own, so that what it starts ends with it.
        process = subprocess.Popen(words, stdout=out, stderr=errors, start_new_session=True)
        reason = None
        try:
            if process.wait(limit):
                errors.seek(0)
                last = (errors.read().strip().splitlines() or ["nothing was said"])[-1]
                reason = f"ended with {process.returncode}: {last}"
        except subprocess.TimeoutExpired:
            reason = f"ran out of its {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        whole = [line for line in out if line.endswith("\n")]
    rows = [json.loads(line) for line in whole]
    return {"seconds": time.perf_counter() - began, "reason": reason, "rows": rows}


def commit() -> str | None:
    """Of the checkout, if it is one and Git is there."""
    try:
        words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def show(steps: dict[str, dict]) -> None:
    """Print the rows of every step as Markdown."""
    for name, found in steps.items():
        why = f": {found['reason']}" if found["reason"] else ""
        sys.stdout.write(f"{name}, {found['seconds']:.0f} s{why}\n\n")
        for keys in dict.fromkeys(tuple(row) for row in found["rows"]):
            fit.show([row for row in found["rows"] if tuple(row) == keys])


def main() -> None:
    """Measure all steps, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="write the JSON here")
    parser.add_argument("--minutes", type=float, default=8, help="for all together")
    parser.add_argument("--toy", action="store_true", help="sizes that take a CPU seconds")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--here", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error("--minutes must be above 0")
    if args.here:
        for row in STEPS[args.here][0](TOY if args.toy else FULL):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
        return
    began = time.perf_counter()
    found: dict[str, dict] = {}
    for i, name in enumerate(args.only):
        left = 60 * args.minutes - (time.perf_counter() - began)
        shares = [STEPS[other][1] for other in args.only[i:]]
        words = [sys.executable, __file__, "--here", name, *["--toy"] * args.toy]
        found[name] = call(words, max(0.0, left) * shares[0] / sum(shares))
        whole = {"commit": commit(), "minutes": args.minutes, "toy": args.toy, "steps": found}
        write_json(args.out, whole | {"seconds": time.perf_counter() - began})
    show(found)


if __name__ == "__main__":
    main()
