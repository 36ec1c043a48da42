"""The benchmark of fits: its command runs, and its results say what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fit.py"


@pytest.mark.parametrize("more", [[], ["--no-surfaces"]])
def test_a_small_comparison(more, tmp_path):
    words = ["--fields", "1", "3", "--shapes", "3", "--loop-steps", "3", "--loop-fields", "1"]
    words += [
        "--job-runs",
        "0",
        "--template-steps",
        "9",
        "--out",
        str(tmp_path / "fit.json"),
        "--hardware",
        "a machine",
    ]
    done = subprocess.run([sys.executable, SCRIPT, *words, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "fit.json").read_text())
    assert found["hardware"] == "a machine"
    loop, *ours = found["fidelity"]
    assert loop["steps"] == 3 and ours[-1]["iou"] >= loop["iou"]
    assert all(("chamfer" in row) == (not more) for row in found["fidelity"])
    assert [row["fields"] for row in found["speed"]] == [1, 3]
    for row in found["speed"]:
        # Two operations a product: forward, and both gradients but that of the first inputs.
        per_step = 128 * 2 * (3 * (480 + 3 * 1024 + 32) - 480)
        assert row["GFLOP/s"] * 1e9 == pytest.approx(per_step * row["field-steps/s"])
        assert row["ratio"] == row["s (loop)"] / row["s (ours)"]
    assert "| fields |" in done.stdout and "plain loop" in done.stdout
