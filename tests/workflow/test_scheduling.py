"""What Snakemake runs first, and how often it looks for more, on jobs that only take time."""

import os
import re
import subprocess
import sys

import pytest
from snakemake.jobs import Job
from snakemake.scheduling.job_scheduler import JobScheduler

from tests.workflow.running import ROOT, TINY, command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """What a run printed."""
    folder = tmp_path_factory.mktemp("run")
    words = command(folder, TINY, "--verbose", "all")[3:]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/trivial.py"), *words],
        cwd=folder,
        env=os.environ | {"NEFGPT_JOB_SECONDS": "0.2"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def test_the_way_to_the_samples_comes_first(run):
    started = re.findall(r"^(?:local)?rule (\w+):", run, re.M)
    first, last = started.index, lambda rule: len(started) - 1 - started[::-1].index(rule)
    assert last("sdf") < first("shapes") < first("template") < first("fit")
    assert last("fit") < first("clouds"), "needed by the tables, and before samples are extracted"
    assert first("train") < first("score")


def test_one_selection_per_finished_job(run):
    finished = run.count("Finished jobid")
    assert 40 < finished
    assert run.count("Resources before job selection") <= finished + 1


def test_what_the_workflow_replaces_is_in_snakemake():
    assert hasattr(Job, "is_pipe_or_service_input") and hasattr(JobScheduler, "update_input_sizes")
