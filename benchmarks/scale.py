"""Time and memory of the workflow's DAG, and of its streaming stages, over the number of shapes.

    python benchmarks/scale.py --shapes 1000 4000 --per-job 1 64 --out scale.json

Prints a Markdown table. Needs no mesh: the shapes are tiny files in ShapeNet's layout, and the
outputs of the finished run are empty (see instant.py).
"""

import argparse
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from nefgpt.config import Config, load, validate
from nefgpt.fields.file import save_field
from nefgpt.fields.spec import random_weights
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.splits import split_of, template_shapes

ROOT = Path(__file__).parents[1]
log = logging.getLogger(__name__)

SYNSET = "02691156"
STEPS = ("job", "dag", "first", "no-op", "added", "run")
# A process counts what its parent held when it was forked, so that the parent has to be small.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss // 1024, round(used.ru_utime + used.ru_stime, 1))
sys.exit(code)
"""
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


def measure(command: list[str], folder: Path, **environment: str) -> dict:
    """Run a command: its seconds, CPU seconds and peak memory in MB, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    mb, cpu = done.stdout.split()
    about = {"seconds": round(seconds, 1), "cpu": float(cpu), "mb": int(mb)}
    return about | {"text": done.stderr}


def add_mesh(folder: Path, shape_id: str) -> None:
    path = folder / "meshes" / SYNSET / shape_id / "models" / "model_normalized.obj"
    path.parent.mkdir(parents=True)
    path.write_text(TRIANGLE)


def shape_ids(n: int) -> list[str]:
    """Ids like ShapeNet's."""
    return [hashlib.md5(str(i).encode(), usedforsecurity=False).hexdigest() for i in range(n)]


def write_template(folder: Path, config: Config) -> None:
    """A template as a run would write it: its record names the shape it was fitted to."""
    results = folder / "results" / config.name
    dataset = replace(config.dataset, root=str(folder / config.dataset.root))
    shapes = list_shapes(dataset, results, config.seed)
    chosen = template_shapes(shapes, config.template.n_shapes, config.seed)
    spec, path = config.field, results / "fields/template.safetensors"
    record = {"shape_ids": chosen, "seed": config.seed, "n_shapes": len(chosen)}
    save_field(path, spec, random_weights(spec, 0), record)


def new_shape(config: Config, n_shapes: int) -> str:
    """One more id, of the train split."""
    shares, seed = config.dataset.split, config.seed
    more = shape_ids(n_shapes + 1000)[n_shapes:]
    return next(name for name in more if split_of(name, shares, seed) == "train")


def jobs(text: str) -> dict[str, int]:
    """Jobs per rule that a run announces; empty where it was told to be quiet."""
    if "Nothing to be done" in text:
        return {"total": 0}
    table = text.split("Job stats:")[1].split("\n\n")[0] if "Job stats:" in text else ""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def run_dag(
    folder: Path, n_shapes: int, per_job: int, steps: list[str], job_seconds: float = 0
) -> list[dict]:
    """Measure one workflow: dry on nothing, run, on the finished run, and with one more shape."""
    config = yaml.safe_load((ROOT / "config/paper-airplanes.yaml").read_text())
    config |= {"name": "scale", "dataset": config["dataset"] | {"root": "meshes"}}
    config["fit"]["fields_per_job"] = per_job
    for shape_id in shape_ids(n_shapes):
        add_mesh(folder, shape_id)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    config = validate(config)
    words = ["all", "-s", str(ROOT / "workflow/Snakefile"), "--configfile", "config.yaml"]
    words += ["--cores", "2"]
    snakemake = [sys.executable, "-m", "snakemake", *words]
    rows = []

    def note(step: str, command: list[str]) -> str:
        found = measure(command, folder)
        text = found.pop("text")
        row = {"step": step, "shapes": n_shapes, "per_job": per_job, **found, "jobs": jobs(text)}
        log.info("%s", row)
        rows.append(row)
        return text

    if "job" in steps:
        target = f"results/scale/sdf/{shape_ids(1)[0]}.npz"
        note("job", [sys.executable, "-m", "snakemake", target, *words[1:], "--dry-run"])
    if "dag" in steps:
        note("dag", [*snakemake, "--dry-run", "--quiet", "rules", "progress"])
    if "first" in steps:
        note("first", [*snakemake, "--dry-run"])
    if not {"no-op", "added", "run"} & set(steps):
        return rows
    write_template(folder, config)
    script = str(ROOT / "benchmarks" / ("trivial.py" if "run" in steps else "instant.py"))
    done = measure([sys.executable, script, *words], folder, NEFGPT_JOB_SECONDS=str(job_seconds))
    if "run" in steps:
        text = done.pop("text")
        about = {"step": "run", "shapes": n_shapes, "per_job": per_job, "job_seconds": job_seconds}
        # The launcher's peak is that of the largest process; all others are bash.
        rows.append(about | done | json.loads(text.splitlines()[-1]) | {"jobs": jobs(text)})
        log.info("%s", rows[-1])
    if "no-op" in steps:
        text = note("no-op", snakemake)
        if "Nothing to be done" not in text:
            raise SystemExit(f"error: the finished run is not finished:\n{text[-2000:]}")
    if "added" in steps:
        add_mesh(folder, new_shape(config, n_shapes))
        note("added", [*snakemake, "--dry-run"])
    return rows


def run_aggregation(folder: Path, n_fields: int) -> list[dict]:
    """Measure the commands that gather signals and fields, on real files of the paper's size."""
    spec = load(ROOT / "config/paper-airplanes.yaml").field
    signals, fields = folder / "sdf", folder / "fields"
    signals.mkdir()
    names = shape_ids(n_fields)
    splits = ["val" if i % 10 == 0 else "train" for i in range(n_fields)]
    about = {"n_faces": np.int64(1), "watertight": np.bool_(True), "rejected": np.str_("")}
    about |= {"sign_agreement": np.float32(1), "sha256": np.str_("0" * 64)}
    save_field(fields / "template.safetensors", spec, random_weights(spec, 0), {})
    for i, name in enumerate(names):
        np.savez(signals / f"{name}.npz", source_path=np.str_(f"meshes/{name}.obj"), **about)
        record = {"shape_id": name, "loss": 0.1, "seconds": 1.0}
        save_field(fields / f"{name}.safetensors", spec, random_weights(spec, i), record)
    entries = [[name, split, None] for name, split in zip(names, splits, strict=True)]
    (folder / "shapes.json").write_text(json.dumps(entries))
    commands = {
        "shapes": "--signal-dir sdf --shapes-out shapes.parquet --rejected-out rejected.tsv"
        " --max-rejected-fraction 0",
        "weights": "--fields-dir fields --template fields/template.safetensors"
        " --out weights.parquet",
    }
    rows = []
    for name, options in commands.items():
        command = [sys.executable, "-m", "nefgpt", name, "--shapes", "shapes.json"]
        found = measure([*command, *options.split()], folder)
        found.pop("text")
        table = folder / ("shapes.parquet" if name == "shapes" else "weights.parquet")
        rows.append({"step": name, "shapes": n_fields, **found, "bytes": table.stat().st_size})
        log.info("%s", rows[-1])
    return rows


def as_table(rows: list[dict]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| step | shapes | fields per job | seconds | CPU seconds | peak MB | jobs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        total = row.get("jobs", {}).get("total", "")
        cells = [
            row["step"],
            row["shapes"],
            row.get("per_job", ""),
            row["seconds"],
            row.get("cpu", ""),
            row["mb"],
            total,
        ]
        lines.append(f"| {' | '.join(f'{c:,}' if isinstance(c, int) else str(c) for c in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/scale.py",
        description="Measure time and memory of the DAG (job: a dry run of one signal, dag: a "
        "first dry run that prints totals, first: one that prints every job, run: a run of jobs "
        "that do nothing, with the CPU seconds of Snakemake's own process, no-op: a run with "
        "nothing to do, added: a dry run with one shape more), and of the stages that gather all "
        "shapes.",
    )
    parser.add_argument("--shapes", type=int, nargs="*", default=[], help="numbers of shapes")
    parser.add_argument("--per-job", type=int, nargs="+", default=[1, 64], help="fields per job")
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS)
    parser.add_argument(
        "--job-seconds", type=float, default=0, help="what each job of `run` sleeps"
    )
    parser.add_argument(
        "--aggregation", type=int, help="also gather this many fields, and ten times as many"
    )
    parser.add_argument("--hardware", default=f"{os.cpu_count()} CPU cores", help="for the record")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="also write the measurements here, as JSON")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not args.shapes and not args.aggregation:
        parser.error("nothing to measure: give --shapes or --aggregation")
    rows: list[dict] = []
    plans = [
        (run_dag, n, k, args.steps, args.job_seconds) for n in args.shapes for k in args.per_job
    ]
    if args.aggregation:
        plans += [(run_aggregation, n) for n in (args.aggregation, 10 * args.aggregation)]
    for run, *values in plans:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows += run(Path(folder), *values)
    sys.stdout.write(as_table(rows) + "\n")
    if args.out:
        args.out.write_text(json.dumps({"hardware": args.hardware, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
