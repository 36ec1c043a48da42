"""The benchmark of a run's cost: every second is counted once."""

import json
import os
import subprocess

import pandas as pd
import pytest

from benchmarks import run_cost
from tests.workflow.running import ROOT


def record(words: str, cpu: float, start: float, children: float = 0.0) -> dict:
    argv = ["python", *words.split()]
    row = {"argv": argv, "cpu": cpu, "children": children, "start": start, "read": 0.25}
    return {**row, "wall": cpu, "peak_mb": 100.0, "began": 0.0}


def test_kinds_add_up_to_the_whole():
    found = [
        record("-m nefgpt.fit --out a", 2.0, 0.5),
        record("-m nefgpt fit --out b", 1.0, 0.5),
        record("-m nefgpt clouds --out c --table t split --split test", 3.0, 1.0),
        record("-m snakemake all", 4.0, 1.0, children=6.5),
    ]
    frame = pd.DataFrame(found)
    frame["stage"] = frame["argv"].map(run_cost.stage_of)
    table = run_cost.summary(frame)
    assert table.loc["fit", ["jobs", "cpu", "start", "compute"]].tolist() == [2, 3.0, 1.0, 1.5]
    assert table.loc["clouds split", "cpu"] == 3.0
    costs = run_cost.costs({"records": frame, "wall": 5.0})
    assert costs["cpu"] == 10.5
    kinds = ("start", "read", "compute", "scheduling")
    assert sum(costs[kind] for kind in kinds) == pytest.approx(costs["cpu"], abs=0.2)


def test_a_recorded_process_says_what_it_took(tmp_path):
    python = run_cost.overlay(tmp_path / "environment")
    code = "import json, nefgpt.base.files; nefgpt.base.files.read_json('x.json')"
    (tmp_path / "x.json").write_text("{}")
    environment = os.environ | {"RUN_COST": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, check=True)
    (path,) = (path for path in tmp_path.glob("*.json") if path.name != "x.json")
    found = json.loads(path.read_text())
    assert 0 < found["start"] < found["cpu"] and found["read"] >= 0
