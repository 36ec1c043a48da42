"""Inputs that are kept in spite of a doubt are named, on the terminal and in the table."""

import numpy as np
import pytest
import trimesh

from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.doubts import doubts_of
from nefgpt.fitting.weights import write_fields
from nefgpt.signals.sdf import prepare
from nefgpt.signals.settings import Sampling
from nefgpt.signals.table import collect, read_shapes

SETTINGS = Sampling(n_uniform=1000, n_near=1000, sigma=0.01, extent=0.9)


@pytest.fixture
def run(tmp_path):
    """A ball, half a ball without its flat side, a lopsided solid and a sheet, sampled."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    half = ball.copy()
    half.update_faces(half.triangles_center[:, 1] > 0)
    arm = trimesh.creation.box(bounds=[[0, -0.2, -0.2], [3, 0.2, 0.2]])
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    made = {"ball": ball, "half": half, "sheet": sheet}
    made["lopsided"] = trimesh.util.concatenate([ball, arm])
    for name, mesh in made.items():
        mesh.export(tmp_path / f"{name}.stl")
        prepare(tmp_path / f"{name}.stl", name, tmp_path / f"{name}.npz", SETTINGS, 0)
    entries = [[name, "train", None] for name in made]

    def gathered(mirror=None) -> dict:
        out, rejected = tmp_path / "shapes.parquet", tmp_path / "rejected.tsv"
        collect(entries, tmp_path, out, rejected, 0.5, mirror)
        return {row["shape_id"]: row for row in read_shapes(out)}

    return gathered


def test_doubtful_signs_and_broken_symmetry(run, caplog):
    rows = run(mirror=0)
    assert rows["ball"]["doubts"] == rows["sheet"]["doubts"] == ""
    assert "signs agree at" in rows["half"]["doubts"] and rows["half"]["sign_agreement"] < 0.8
    assert "not symmetric in x" in rows["lopsided"]["doubts"]
    assert rows["lopsided"]["asymmetry_x"] > 0.1 > rows["lopsided"]["asymmetry_z"]
    assert rows["ball"]["inside"] == pytest.approx(0.9**3 * np.pi / 6, abs=0.05)
    assert "encloses nothing" in rows["sheet"]["rejected"]
    for said in ("half: inside and outside are doubtful", "lopsided: is not", "sheet: ", "1 of 4"):
        assert said in caplog.text
    assert run()["lopsided"]["doubts"] == run(mirror=2)["lopsided"]["doubts"] == ""


def test_what_a_finished_run_says(run, tmp_path):
    assert doubts_of(tmp_path) == []
    run(mirror=0)
    spec = FieldSpec(hidden=(2,))
    rows = [
        (name, "train", None, random_weights(spec, 0), {"iou": iou})
        for name, iou in (("ball", 0.9), ("half", 0.0))
    ]
    write_fields(tmp_path / "weights.parquet", spec, random_weights(spec, 0), rows)
    said = "\n".join(doubts_of(tmp_path))
    assert "1 inputs are left out" in said and "sheet: " in said and "encloses nothing" in said
    assert "2 inputs are doubtful" in said and "half: inside and outside" in said
    assert "1 fields hold nothing" in said and "half: IoU 0" in said and "ball" not in said


def test_a_broken_table_is_said_and_ends_no_run(tmp_path):
    (tmp_path / "shapes.parquet").write_bytes(b"")
    (said,) = doubts_of(tmp_path)
    assert said.startswith(f"cannot read {tmp_path}/shapes.parquet") and said.endswith("run again")
