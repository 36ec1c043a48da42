"""Where a run's CPU time goes: by stage, and by start-up, reading, computing and scheduling.

Every Python process of the run is recorded from within, by a module that an environment laid over
this one loads at start; the project's code is run as it is, so two checkouts compare:

    python benchmarks/run_cost.py --checkout before=../before --checkout after=. --one-process
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
RECORDER = """
import atexit, builtins, json, os, resource, sys, threading, time
import _frozen_importlib as importing

began = time.time()
spent = {"start": time.process_time(), "read": 0.0}
depth = {"start": 0, "read": 0}
main_thread = threading.main_thread()


def timed(function, kind):
    def call(*args, **kwargs):
        if any(depth.values()) or threading.current_thread() is not main_thread:
            return function(*args, **kwargs)
        depth[kind] += 1
        since = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            depth[kind] -= 1
            spent[kind] += time.thread_time() - since
    return call


plain = importing._find_and_load


def find_and_load(name, import_):
    module = timed(plain, "start")(name, import_)
    if name.startswith("nefgpt.") and not hasattr(module, "_recorded"):
        module._recorded = True
        for key, value in list(vars(module).items()):
            if key.startswith(("load_", "read_")) and getattr(value, "__module__", "") == name:
                setattr(module, key, timed(value, "read"))
    if name == "numba.core.caching":
        module.Cache.load_overload = timed(module.Cache.load_overload, "start")
    if name.endswith(".compiled") and hasattr(module, "Compiled"):
        module.Compiled._load = timed(module.Compiled._load, "start")
    return module


importing._find_and_load = find_and_load


def write():
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    record = {
        "argv": sys.orig_argv,
        "cpu": own.ru_utime + own.ru_stime,
        "children": children.ru_utime + children.ru_stime,
        "wall": time.time() - began,
        "peak_mb": own.ru_maxrss / 1024,
        "began": began,
        **spent,
    }
    with open(os.path.join(os.environ["RUN_COST"], f"{os.getpid()}-{began}.json"), "w") as stream:
        json.dump(record, stream)


if "RUN_COST" in os.environ:
    atexit.register(write)
"""
REPLAY = """
import importlib, json, resource, sys, time
began = time.time()
commands = json.load(open(sys.argv[1]))
for module, *args in commands:
    sys.argv = [module, *args]
    importlib.import_module("nefgpt.__main__" if module == "nefgpt" else module).main()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "wall": time.time() - began}))
"""


def processor() -> str:
    """The processor's name, as the system knows it, and its vector instructions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    about = {key.strip(): value.strip() for key, value in about.items()}
    name = about.get("model name", platform.processor())
    family = f"family {about.get('cpu family')} model {about.get('model')}"
    vectors = "AVX-512" if "avx512f" in about.get("flags", "") else "AVX2 or less"
    return f"{name} ({family}, {vectors}), {os.cpu_count()} cores"


def overlay(folder: Path) -> Path:
    """An environment with this one's packages whose every process is recorded; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    own = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "run_cost_recorder.py").write_text(RECORDER)
    (site / "run_cost.pth").write_text(f"{own}\nimport run_cost_recorder\n")
    for name in ("snakemake",):
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nfrom snakemake.cli import main\nmain()\n")
        script.chmod(0o755)
    return folder / "bin" / "python"


def words_of(argv: list[str]) -> list[str] | None:
    """Module and arguments of a recorded stage; None for other processes."""
    if "-m" not in argv:
        return None
    module, *rest = argv[argv.index("-m") + 1 :]
    return [module, *rest] if module.split(".")[0] == "nefgpt" else None


def stage_of(argv: list[str]) -> str:
    """Name of the stage that a process was; commits before `nefgpt STAGE` name modules."""
    words = words_of(argv)
    if words is None:
        return "snakemake"
    first = words[0].removeprefix("nefgpt").removeprefix(".")
    until = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names = [first, *words[1 : min(until, 3)]] if first else words[1 : min(until, 3)]
    if names == ["clouds"]:
        names += [word for word in ("split", "choose") if word in words]
    return " ".join(names)


def run(checkout: Path, config: Path, target: str, cores: int, python: Path, work: Path) -> dict:
    """Run the workflow of a checkout in a fresh folder; its records."""
    records = work / "records"
    records.mkdir(parents=True)
    environment = {**os.environ, "RUN_COST": str(records), "PYTHONPATH": str(checkout)}
    folder = work / "run"
    command = [python, "-m", "snakemake", target, "--cores", str(cores), "--configfile", config]
    command += ["--snakefile", checkout / "workflow" / "Snakefile", "--directory", folder]
    began = time.time()
    with (work / "log.txt").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, cwd=checkout)
    if done.returncode:
        tail = "\n".join((work / "log.txt").read_text().splitlines()[-30:])
        sys.exit(f"the run in {checkout} failed:\n{tail}")
    wall = time.time() - began
    found = [json.loads(path.read_text()) for path in records.glob("*.json")]
    frame = pd.DataFrame(found).sort_values("began")
    frame["stage"] = frame["argv"].map(stage_of)
    return {"wall": wall, "records": frame, "folder": folder}


def one_process(checkout: Path, frame: pd.DataFrame, folder: Path, work: Path) -> dict:
    """The same stages' work, in the same order, in one process on the same files."""
    commands = [words for words in map(words_of, frame["argv"]) if words]
    listing = work / "commands.json"
    listing.write_text(json.dumps(commands))
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("RUN_COST", None)
    with (work / "one.txt").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-c", REPLAY, listing],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """CPU seconds by stage: jobs, start-up, reading, computing."""
    jobs = frame[frame["stage"] != "snakemake"].copy()
    jobs["compute"] = jobs["cpu"] - jobs["start"] - jobs["read"]
    table = jobs.groupby("stage")[["cpu", "start", "read", "compute"]].sum()
    table.insert(0, "jobs", jobs.groupby("stage").size())
    table["peak_mb"] = jobs.groupby("stage")["peak_mb"].max()
    return table.sort_values("cpu", ascending=False)


def costs(result: dict) -> dict:
    """CPU seconds by kind; the shells around the jobs count as scheduling."""
    frame, table = result["records"], summary(result["records"])
    own = frame[frame["stage"] == "snakemake"]
    total = float(own["cpu"].sum() + own["children"].max())
    return {
        "wall": round(result["wall"], 1),
        "cpu": round(total, 1),
        "start": round(float(table["start"].sum()), 1),
        "read": round(float(table["read"].sum()), 1),
        "compute": round(float(table["compute"].sum()), 1),
        "scheduling": round(total - float(table["cpu"].sum()), 1),
        "snakemake_peak_mb": round(float(own["peak_mb"].max())),
    }


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkout", action="append", metavar="NAME=FOLDER", help="default: here=this checkout"
    )
    parser.add_argument("--config", type=Path, default=HERE.parent / "config" / "config.yaml")
    parser.add_argument("--target", default="all")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--one-process", action="store_true", help="the same work in one process")
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    parser.add_argument("--out", type=Path, help="JSON with all figures")
    args = parser.parse_args()
    root = args.folder or Path(tempfile.mkdtemp(prefix="run-cost-"))
    python = overlay((root / "environment").resolve())
    report = {"processor": processor(), "config": args.config.name, "cores": args.cores, "runs": {}}
    sys.stdout.write(f"{report['processor']}\n")
    for pair in args.checkout or [f"here={HERE.parent}"]:
        name, _, checkout = pair.partition("=")
        work, checkout = (root / name).resolve(), Path(checkout).resolve()
        shutil.rmtree(work, ignore_errors=True)
        result = run(checkout, args.config.resolve(), args.target, args.cores, python, work)
        report["runs"][name] = costs(result)
        table = summary(result["records"]).round(1)
        report["runs"][name]["stages"] = table.reset_index().to_dict("records")
        sys.stdout.write(f"\n{name}: {costs(result)}\n{table.to_string()}\n")
        if args.one_process:
            alone = one_process(checkout, result["records"], result["folder"], work)
            report["runs"][name]["one_process"] = {k: round(v, 1) for k, v in alone.items()}
            sys.stdout.write(f"in one process: {alone}\n")
        sys.stdout.flush()
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
