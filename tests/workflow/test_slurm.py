"""The workflow on a real SLURM of one node: what its jobs ask for, and what they survive."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/slurm/cluster.sh"
PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"
METRICS = "results/tiny/tables/metrics.csv"

CONFIG = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
CONFIG["dataset"]["n_shapes"] = 10
CONFIG["template"] |= {"n_shapes": 4, "n_components": 3}
CONFIG["tokens"]["n_components"] = 3
CONFIG["fit"]["fields_per_job"] = 4


def gpu_rules() -> set[str]:
    text = "".join("\n" + path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    return {block.split(":")[0] for block in text.split("\nrule ") if "gpu=" in block}


def test_profile_names_the_gpu_rules():
    asked = yaml.safe_load(PROFILE.read_text())["set-resources"]
    assert asked == {name: {"gpu": 1} for name in gpu_rules()}


@pytest.fixture
def cluster():
    """Environment of a running cluster."""
    if os.geteuid() != 0:
        pytest.skip("starting a SLURM cluster needs root")
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [
        name
        for name in ("slurmctld", "slurmd", "srun", "munged")
        if not shutil.which(name, path=path)
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=60)
    yield os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)
    shutil.rmtree(folder)


def scontrol(env: dict, *words: str) -> str:
    return subprocess.run(
        ["scontrol", *words], env=env, check=True, text=True, capture_output=True
    ).stdout


def jobs(env: dict) -> list[dict[str, str]]:
    """All jobs that were ever submitted, oldest first; `Comment` names rule and wildcards."""
    lines = scontrol(env, "--oneliner", "show", "job").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId")]
    return sorted(found, key=lambda job: int(job["JobId"]))


def running(env: dict, process: subprocess.Popen, name: str) -> str:
    """Number of the first job of this name, once it runs."""
    limit = time.monotonic() + 300
    while time.monotonic() < limit:
        assert process.poll() is None, f"the run ended before {name}"
        for job in jobs(env):
            if job["Comment"].startswith(name) and job["JobState"] == "RUNNING":
                return job["JobId"]
        time.sleep(0.5)
    raise AssertionError(f"{name} did not start")


def snakemake(folder: Path, env: dict, target: str, *words: str) -> subprocess.Popen:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "snakemake", target, "-s", str(ROOT / "workflow/Snakefile")]
    command += ["--configfile", "config.yaml", *words]
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, folder: Path) -> None:
    assert process.wait(timeout=900) == 0, (folder / "log.txt").read_text()[-5000:]


@pytest.mark.slow
@pytest.mark.cluster
def test_whole_run_through_faults(cluster, tmp_path):
    """Lost node, cancelled job, too little memory, too little time: the same metrics."""
    profile = tmp_path / "profile"
    profile.mkdir()
    text = PROFILE.read_text()
    for key in ("slurm_partition", "gpu_model"):
        text = text.replace(f"# {key}:", f"{key}:")
    text += "  weights: {mem_mb: 60 * attempt ** 4}\n  clouds: {runtime: 1 * attempt}\n"
    (profile / "config.yaml").write_text(text)
    words = ("--workflow-profile", str(profile), "--slurm-init-seconds-before-status-checks", "1")
    process = snakemake(tmp_path / "cluster", cluster, "all", *words)

    try:
        running(cluster, process, "rule_procedural")
        scontrol(cluster, "update", "NodeName=node0", "State=DOWN", "Reason=test")
        scontrol(cluster, "update", "NodeName=node0", "State=RESUME")
        cancelled = running(cluster, process, "rule_sdf")
        subprocess.run(["scancel", cancelled], env=cluster, check=True)
        late = running(cluster, process, "rule_clouds")
        for pid in scontrol(cluster, "listpids", late).split("\n")[1:-1]:
            os.kill(int(pid.split()[0]), signal.SIGSTOP)
        finish(process, tmp_path / "cluster")
    finally:
        process.kill()

    done = jobs(cluster)
    names = {
        job["JobId"]: re.match(r"rule_(\w+?)(_wildcards|$)", job["Comment"])[1] for job in done
    }
    for job in done:
        on_gpu = names[job["JobId"]] in gpu_rules()
        assert job.get("TresPerJob") == ("gres:gpu:a100:1" if on_gpu else None), job
        assert job["Partition"] == ("gpu" if on_gpu else "compute"), job
    # Rules of packs of one, of labels, and of the optional experiments.
    unused = {"fit", "classifier", "tune", "fit_starts", "regression"}
    assert gpu_rules() - set(names.values()) == unused

    failed = {names[job["JobId"]]: job for job in done if job["JobState"] != "COMPLETED"}
    assert set(failed) == {"sdf", "weights", "clouds"}
    assert failed["sdf"]["JobId"] == cancelled and failed["sdf"]["JobState"] == "CANCELLED"
    assert failed["clouds"]["JobId"] == late and failed["clouds"]["JobState"] == "TIMEOUT"
    for name, key, before, after in (
        ("weights", "MinMemoryNode", "60M", "960M"),
        ("clouds", "TimeLimit", "00:01:00", "00:02:00"),
    ):
        assert failed[name][key] == before
        again = [job[key] for job in done if job["Comment"] == failed[name]["Comment"]]
        assert again == [before, after]
    assert [int(job["Restarts"]) for job in done if names[job["JobId"]] == "procedural"] == [1]

    local = tmp_path / "local"
    finish(snakemake(local, cluster, METRICS, "--cores", "2"), local)
    assert (tmp_path / "cluster" / METRICS).read_text() == (local / METRICS).read_text()
