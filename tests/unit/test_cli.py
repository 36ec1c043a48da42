"""What all stages share: their threads are those of their job."""

import json
import os
import subprocess
import sys

import pytest

from nefgpt.base import cli

ASKED = """
import json, os
from nefgpt.base import cli
def main():
    import pyarrow, torch
    print(json.dumps({
        "libigl": int(os.environ["IGL_NUM_THREADS"]),
        "pyarrow": pyarrow.cpu_count(),
        "torch": torch.get_num_threads(),
    }))
cli.run(main)
"""


def test_libraries_keep_to_the_threads_of_the_job():
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        env=env | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout).values()) == {1}


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        # What a workflow imports whenever it builds its DAG.
        (
            "config, inputs.listing, signals.finished, fitting.worth",
            "igl matplotlib numba pandas scipy.sparse torch trimesh",
        ),
        # A field's job, of which there may be thousands.
        (
            "fitting.fit, signals.shapes",
            "importlib.metadata numba pandas pyarrow scipy torch tqdm trimesh",
        ),
        (
            "fitting.fit, signals.images",
            "matplotlib numba pandas pyarrow scipy.sparse torch trimesh",
        ),
        ("signals.sdf", "matplotlib numba pandas pyarrow torch"),
        (
            "signals.table, fitting.weights, generators.gpt.tokenizer, generators.sample",
            "matplotlib numba pandas scipy.sparse torch trimesh",
        ),
        (
            "evaluation.clouds, evaluation.decode, evaluation.score, evaluation.tables",
            "matplotlib numba scipy.sparse torch trimesh",
        ),
        ("report.figures", "numba torch"),
        ("runs.sample, runs.encode, runs.decode, runs.export", "matplotlib numba torch trimesh"),
    ],
)
def test_a_stage_loads_only_what_it_needs(modules, heavy):
    names = ", ".join(f"nefgpt.{name}" for name in modules.split(", "))
    command = [sys.executable, "-c", f"import sys; import {names}; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not set(heavy.split()) & set(done.stdout.split())


def test_a_bound_of_ones_own_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("IGL_NUM_THREADS", "5")
    cli.bound_threads()
    assert os.environ["IGL_NUM_THREADS"] == "5"
    monkeypatch.delenv("IGL_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS")
    cli.bound_threads()
    assert "IGL_NUM_THREADS" not in os.environ
