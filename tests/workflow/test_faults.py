"""Whatever goes wrong around a run: it says what to do, and ends with the same tables."""

import copy
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import trimesh

from nefgpt.base import files
from nefgpt.fitting import weights
from nefgpt.generators.gpt.tokens import read_tokens
from tests.workflow.running import TINY, command, snakemake

RESULTS = Path("results/tiny")
PACKED = copy.deepcopy(TINY)
PACKED["fit"]["fields_per_job"] = 4
MOMENTS = 30

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def tables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / RESULTS / "tables").iterdir()}


def check_clean(folder: Path) -> None:
    """No half file and no lock is left."""
    assert not [path for path in folder.rglob(".*") if files.TEMPORARY.fullmatch(path.name)]
    assert not list(folder.rglob("*.resume"))
    assert not list(folder.glob(".snakemake/locks/*"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    snakemake(folder, PACKED, "all")
    check_clean(folder)
    return folder


@pytest.fixture
def started(run, tmp_path) -> Path:
    """A run of one's own that has come as far as its fields."""
    (tmp_path / "results").mkdir()
    return copy_started(run, tmp_path)


def copy_started(run: Path, folder: Path) -> Path:
    later = ("weights.parquet", "tokens.*", "codebook.*", "gpt", "samples", "tables", "figures")
    ignored = shutil.ignore_patterns(*later, "report.html")
    return Path(shutil.copytree(run, folder, ignore=ignored, dirs_exist_ok=True))


def jobs_of(scheduler: int) -> list[psutil.Process]:
    """The running stages, not the shells and the scheduler that started them."""
    try:
        below = psutil.Process(scheduler).children(recursive=True)
        return [job for job in below if job.cmdline()[1:2] == ["-m"]]
    except psutil.NoSuchProcess:
        return []


def wait_for_jobs(process: subprocess.Popen) -> list[psutil.Process]:
    """The running stages as soon as there is one; none when the scheduler has ended."""
    while process.poll() is None:
        if jobs := jobs_of(process.pid):
            return jobs
        time.sleep(0.02)
    return []


def kill(what: str, process: subprocess.Popen, draw: random.Random) -> None:
    """SIGKILL one job, the scheduler alone (its jobs run on), or everything."""
    scheduler = psutil.Process(process.pid)
    if what == "job":
        victims = [draw.choice(jobs)] if (jobs := wait_for_jobs(process)) else []
    else:
        victims = [scheduler, *(scheduler.children(recursive=True) if what == "all" else [])]
    for victim in victims:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:  # ended by itself in between
            continue


def start(folder: Path) -> subprocess.Popen:
    with (folder / "output").open("w") as output:
        return subprocess.Popen(
            command(folder, PACKED, "all"), cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )


def test_killed_at_any_moment_ends_the_same(run, tmp_path):
    draw = random.Random(0)
    moments = [what for what in ("job", "scheduler", "all") for _ in range(MOMENTS // 3)]
    draw.shuffle(moments)
    ended, failed, locks = False, 0, 0
    while moments or not ended:  # so that what follows the last kill is seen to end too
        process, killed, enough = start(tmp_path), None, draw.randrange(4)
        # Counted in jobs, so that moments lie all over the run on a machine of any speed.
        while moments and wait_for_jobs(process):
            if (tmp_path / "output").read_text().count("Finished jobid") >= enough:
                time.sleep(draw.uniform(0, 1.2))
                break
            time.sleep(0.02)
        if moments and process.poll() is None:
            killed, ended = moments.pop(), False
            kill(killed, process, draw)
        process.wait(400)
        text = (tmp_path / "output").read_text()
        if process.returncode == 0:
            ended = True
            assert tables(tmp_path) == tables(run)
            check_clean(tmp_path)
            shutil.rmtree(tmp_path / "results")
        elif killed == "job":
            assert "Error in rule" in text and "Traceback" not in text, text[-3000:]
            failed += 1
        else:
            assert killed, text[-3000:]
            locks += 1
            if locks <= 2:  # what the user sees; takes seconds each time
                text = snakemake(tmp_path, PACKED, "all", fails=True)
                assert "cannot be locked" in text and "--unlock" in text, text[-3000:]
            snakemake(tmp_path, PACKED, "--unlock")
    assert locks >= MOMENTS // 2 and failed >= MOMENTS // 5


def advised(text: str, pattern: str, folder: Path) -> None:
    """Run the command that a message names."""
    found = re.search(pattern, text)
    assert found, text[-3000:]
    subprocess.run(found[1], shell=True, cwd=folder, check=True)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_broken_field_is_named_and_fitted_anew(damage, run, started):
    target = f"{RESULTS}/weights.parquet"
    path = sorted((started / RESULTS / "fields").glob("*.safetensors"))[0]
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-5] ^= 16
    path.write_bytes(content if damage == "flipped" else content[:-9])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    text = snakemake(started, PACKED, target, fails=True)
    assert path.name in text and "Traceback" not in text
    advised(text, r"to fit it anew: (rm -r .+) and run Snakemake again", started)
    text = snakemake(started, PACKED, target)
    assert text.count("rule fit_pack:") == 3
    found, expected = (weights.read_fields(folder / target) for folder in (started, run))
    assert np.array_equal(found.weights, expected.weights)


def test_weights_of_another_configuration_are_named(run, started):
    target, wrong = f"{RESULTS}/tokens.parquet", started / RESULTS / "weights.parquet"
    fields = weights.read_fields(run / RESULTS / "weights.parquet")
    columns = zip(fields.shape_ids, fields.splits, fields.labels, fields.weights, strict=True)
    rows = ((*row, {}) for row in columns)
    weights.write_fields(wrong, fields.spec, fields.template + 1, rows)
    text = snakemake(started, PACKED, target, fails=True)
    assert "weights.parquet is of another configuration" in text and "Traceback" not in text
    advised(text, r"; (rm .+) and run Snakemake again", started)
    snakemake(started, PACKED, target)
    found, expected = (read_tokens(folder / target) for folder in (started, run))
    assert np.array_equal(found.tokens, expected.tokens)


def test_clock_moved_back(run, started):
    tomorrow = time.time() + 86_400
    for path in (started / "results").rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    text = snakemake(started, PACKED, "all", fails=True)
    advised(text, r"clock moved back: (find .+)", started)
    snakemake(started, PACKED, "all")
    assert tables(started) == tables(run)
    assert "Nothing to be done" in snakemake(started, PACKED, "--dry-run", "all")


def test_two_runs_at_once(run, started):
    first = start(started)
    assert wait_for_jobs(first)
    try:
        text = snakemake(started, PACKED, "all", fails=True)
    finally:
        first.wait(400)
    assert "Directory cannot be locked" in text and "no other Snakemake process" in text
    assert "Traceback" not in text
    assert first.returncode == 0
    assert tables(started) == tables(run)
    check_clean(started)


@pytest.fixture
def disk(tmp_path):
    """A results folder that is a file system of its own."""
    folder = tmp_path / "results"
    folder.mkdir()
    mount = [shutil.which("mount") or "false", "-t", "tmpfs", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here {done.stderr}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_full_and_read_only_disk(run, disk):
    folder = copy_started(run, disk.parent)
    free = 200 << 10
    remount(disk, f"size={shutil.disk_usage(disk).used + free}")
    text = snakemake(folder, PACKED, "all", fails=True)
    assert "error: cannot write results/tiny/" in text and "Traceback" not in text
    assert "No space left on device" in text or "the disk is full" in text
    assert not [path for path in disk.rglob(".*") if files.TEMPORARY.fullmatch(path.name)]
    (disk / "stuffing").write_bytes(bytes(shutil.disk_usage(disk).free))
    text = snakemake(folder, PACKED, "all", fails=True)
    assert "No space left on device" in text and "Traceback" not in text
    remount(disk, "ro")
    text = snakemake(folder, PACKED, "all", fails=True)
    assert "Read-only file system" in text and "Traceback" not in text
    remount(disk, "rw,size=1g")
    (disk / "stuffing").unlink()
    snakemake(folder, PACKED, "all")
    assert tables(folder) == tables(run)
    check_clean(folder)


HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "a b",
    "-rf",
    "'",
    'say "x"',
    "a;b",
    "a&b",
]
HOSTILE += ["..x", "template", "ünïcode", "*", "%s", "#", "\\", "a" * 240, "~", "!!", "<", "|"]


def test_names_of_files_reach_no_shell(tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    (tmp_path / "meshes/$(touch pwned)/..x").mkdir(parents=True)
    paths = [tmp_path / "meshes" / f"{name}.obj" for name in HOSTILE]
    paths.append(tmp_path / "meshes/$(touch pwned)/in.obj")
    for path in [*paths, tmp_path / "meshes/$(touch pwned)/..x/hidden.obj"]:
        mesh.export(path, file_type="obj")
    config = copy.deepcopy(PACKED)
    config["dataset"] = {"kind": "folder", "root": "meshes", "split": TINY["dataset"]["split"]}
    snakemake(tmp_path, config, f"{RESULTS}/weights.parquet")
    shapes = pd.read_parquet(tmp_path / RESULTS / "shapes.parquet")
    seen = [path for path in paths if not path.name.startswith(".")]
    assert len(shapes) == len(seen) == len(HOSTILE) and not any(shapes.rejected)
    fitted = weights.read_fields(tmp_path / RESULTS / "weights.parquet").shape_ids
    assert sorted(fitted) == sorted(shapes[shapes.split != "test"].shape_id)
    assert not list(tmp_path.rglob("pwned"))
