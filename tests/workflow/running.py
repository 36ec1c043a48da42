"""Run Snakemake as a user does, and ask what it would run."""

import copy
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TINY = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())


def command(folder: Path, config: dict, *words: str) -> list[str]:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    snakemake = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow/Snakefile")]
    return [*snakemake, "--configfile", "config.yaml", "--cores", "2", *words]


def snakemake(
    folder: Path, config: dict, *words: str, fails: bool = False, path: str = "/usr/bin:/bin"
) -> str:
    """Run Snakemake in a folder, as from a shell without the virtual environment."""
    done = subprocess.run(
        command(folder, config, *words),
        cwd=folder,
        env=os.environ | {"PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=500,
    )
    assert (done.returncode != 0) == fails, done.stdout[-5000:]
    return done.stdout


# A dry run spends most of its time importing Snakemake; these are forked from a process that has.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.workflow", "nefgpt.inputs.listing"])


def _dry_run(folder: Path, words: list[str], versions: dict[str, int], output: Path) -> None:
    with output.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        os.chdir(folder)
        sys.path.insert(0, str(ROOT))
        from snakemake.cli import main

        from nefgpt.stages import VERSIONS

        VERSIONS.update(versions)
        main(words)


def stale(
    folder: Path,
    config: dict,
    *words: str,
    target: str = "all",
    versions: dict[str, int] | None = None,
) -> dict[str, int]:
    """Jobs per rule that a run would execute, with other versions of some stages' code."""
    given = command(folder, config, "--dry-run", *words, target)[3:]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        process = FORKS.Process(target=_dry_run, args=(folder, given, versions or {}, output))
        process.start()
        process.join(timeout=300)
        text = output.read_text()
    assert process.exitcode == 0, text[-5000:]
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[1].split("\n\n")[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    return {name: count for name, count in jobs.items() if name not in (target, "total")}


def changed(path: str, value: object, config: dict = TINY) -> dict:
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    block = config
    for name in parents:
        block = block.setdefault(name, {})
    block[last] = value
    return config
