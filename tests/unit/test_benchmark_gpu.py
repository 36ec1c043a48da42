"""The benchmark for a GPU, at toy size on whatever there is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
# A machine that is lent for its GPU need not have these.
MISSING = ("trimesh", "igl", "mcubes", "manifold3d", "fast_simplification", "matplotlib")
MISSING += ("snakemake", "pydantic", "yaml", "jinja2", "PIL", "sklearn")
FORBID = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))"  # as if not installed


@pytest.fixture
def gpu(monkeypatch):
    """The command as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)  # as when it is called as a script
    spec = importlib.util.spec_from_file_location("gpu", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_all_is_measured_without_the_libraries_of_meshes_workflow_and_figures(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(FORBID)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    asked = [sys.executable, "-c", "import trimesh"]
    assert subprocess.run(asked, env=environment, capture_output=True).returncode, "forbidden"
    out = tmp_path / "gpu.json"
    words = [sys.executable, BENCHMARKS / "gpu.py", "--toy", "--out", out]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    steps = found["steps"]
    assert {name: step["reason"] for name, step in steps.items()} == dict.fromkeys(
        ("machine", "fits", "basis", "train", "sample", "distances", "tests")
    )
    assert found["toy"] and sum(step["seconds"] for step in steps.values()) < found["seconds"]
    (machine,) = steps["machine"]["rows"]
    assert machine["torch"] and machine["float32 TFLOP/s"] > 0 and machine["bf16 TFLOP/s"] > 0
    fits = steps["fits"]["rows"]
    assert fits[0]["way"] == "plain loop" and [row.get("fields") for row in fits[-2:]] == [1, 3]
    assert [row["what"] for row in steps["basis"]["rows"]] == ["learned", *["fitted in it"] * 2]
    assert [row["tokens/s"] > 0 for row in steps["train"]["rows"]]
    assert [row["sequences"] for row in steps["sample"]["rows"]] == [1, 4]
    (tests,) = steps["tests"]["rows"]
    assert tests["passed"] > 3 and tests["failed"] == 0
    assert "| sequences |" in done.stdout and "distances, " in done.stdout


def test_a_step_that_fails_or_takes_too_long_keeps_its_rows_and_says_why(gpu):
    row = "print('{\"a\": 1}', flush=True)"
    fails = gpu.call([sys.executable, "-c", f"{row}; raise MemoryError('all taken')"], 60)
    assert fails["rows"] == [{"a": 1}]
    assert fails["reason"] == "ended with 1: MemoryError: all taken"
    # What it started would hold the time of the others, and a line that is cut off is no row.
    code = f"{row}; import subprocess; print('{{', end='', flush=True); "
    code += "subprocess.run(['sleep', '60'])"
    late = gpu.call([sys.executable, "-c", code], 3)
    assert late["rows"] == [{"a": 1}] and late["reason"] == "ran out of its 3 s"
    assert late["seconds"] < 30


def test_the_file_is_written_when_there_was_no_time(gpu, tmp_path, monkeypatch, capsys):
    out = tmp_path / "gpu.json"
    words = ["gpu.py", "--minutes", "0.0001", "--only", "machine", "tests", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    gpu.main()
    steps = json.loads(out.read_text())["steps"]
    assert list(steps) == ["machine", "tests"]
    for step in steps.values():
        assert step["reason"] == "ran out of its 0 s" and not step["rows"]
    assert "machine, 0 s: ran out of its 0 s" in capsys.readouterr().out


def test_shapes_are_signed_distances_and_half_of_their_points_are_near(gpu):
    made = gpu.shape(3, 4000)
    assert made["points"].dtype == made["values"].dtype == np.float32
    assert np.abs(made["points"]).max() <= 0.5
    assert (made["values"] < 0).mean() > 0.1
    uniform, near = np.abs(made["values"]).reshape(2, -1)
    assert np.median(near) < 0.01 < np.median(uniform) and np.quantile(near, 0.99) < 0.05
    about = np.float64([0.2, 0.2, 0.2]), 0.4, 0.05
    found = gpu.distance(np.array([[0, 0, 0.3], [0.4, 0, 0.1], [0, 0.4, 0]]), *about)
    assert found == pytest.approx([0.1, 0.05, -0.05])
