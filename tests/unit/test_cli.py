"""What all stages share: their threads are those of their job."""

import json
import os
import subprocess
import sys

import pytest

from nefgpt import cli

ASKED = """
import json, os
from nefgpt import cli
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
            "config, dataset, finished, gpu",
            "igl matplotlib numba pandas scipy.sparse torch trimesh",
        ),
        # A field's job, of which there may be thousands.
        ("fit, shapes", "importlib.metadata numba pandas pyarrow scipy torch tqdm trimesh"),
        ("fit, images", "matplotlib numba pandas pyarrow scipy.sparse torch trimesh"),
        ("sdf", "matplotlib numba pandas pyarrow torch"),
        (
            "inputs, weights, tokenizer, sample",
            "matplotlib numba pandas scipy.sparse torch trimesh",
        ),
        ("clouds, extract, metrics, tables", "matplotlib numba scipy.sparse torch trimesh"),
        ("present", "numba torch"),
    ],
)
def test_a_stage_loads_only_what_it_needs(modules, heavy):
    code = f"import sys; from nefgpt import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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
