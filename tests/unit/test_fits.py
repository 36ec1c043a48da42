"""How well fields keep their shapes, test shapes too: normals, and fields as samples."""

import re

import numpy as np
import pandas as pd
import pytest
import trimesh

from nefgpt.evaluation import fits
from nefgpt.evaluation.metric import Known
from nefgpt.evaluation.score import halves_of, measure_draws, reference_distances
from nefgpt.fields.spec import FieldSpec
from nefgpt.signals import shapes, surface


@pytest.fixture
def sphere(tmp_path) -> dict:
    """A sphere of radius 0.3 as a signal, in units of its own."""
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=3)
    mesh.export(tmp_path / "sphere.ply")
    return {"source_path": "sphere.ply", "center": np.zeros(3), "scale": 0.1}


def found_surface(mesh: trimesh.Trimesh) -> surface.Surface:
    return surface.Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), 1)


@pytest.mark.parametrize(
    ("mesh", "low", "high"),
    [
        (trimesh.creation.icosphere(subdivisions=4, radius=0.3), 0.995, 1.0),
        (trimesh.creation.icosphere(subdivisions=4, radius=0.25), 0.99, 1.0),
        (trimesh.creation.box((0.5, 0.5, 0.5)), 0.75, 0.9),
    ],
)
def test_normals_of_known_surfaces(mesh, low, high, sphere, tmp_path, monkeypatch):
    given = FieldSpec(), np.zeros(1), sphere, 32, tmp_path
    monkeypatch.setattr(surface, "surface", lambda *_: found_surface(mesh))
    assert low < fits.normal_consistency(*given) <= high
    mesh.invert()
    assert low < fits.normal_consistency(*given) <= high, "inside out is the same surface"
    nothing = surface.Surface(np.zeros((0, 3)), np.zeros((0, 3), int), 0)
    monkeypatch.setattr(surface, "surface", lambda *_: nothing)
    assert np.isnan(fits.normal_consistency(*given))


def test_the_worst_are_named():
    rows = [
        {"shape_id": f"s{i}", "split": split, "what": what, "f_score": i / 10}
        for i in range(8)
        for split, what in (("test", "field"), ("train", "quantised"))
    ]
    table = pd.DataFrame(rows)
    table.attrs["by"] = "f_score"
    text = fits.summary(table)
    assert "| test | field | 8 | 0.350 |" in text and "| s0 | test | field | 0.000 |" in text
    assert len(re.findall(r"^\| s\d", text, re.M)) == fits.WORST


def test_fields_of_test_signals_stand_in_for_them():
    rng = np.random.default_rng(0)
    stretch = rng.uniform(0.5, 2, (20, 1, 3))
    reference = (rng.normal(size=(20, 60, 3)) * stretch).astype(np.float32)
    train = (rng.normal(size=(9, 60, 3)) * rng.uniform(0.5, 2, (9, 1, 3))).astype(np.float32)
    found = reference_distances(reference, train, shapes)
    known = Known(reference, found["rr"], found["nearest_train"])
    given = known, pd.DataFrame(index=range(20)), shapes, range(2)
    meshes = measure_draws(halves_of(*given))
    same = measure_draws(halves_of(*given, reference, train))
    pd.testing.assert_frame_equal(same, meshes)
    worse = measure_draws(halves_of(*given, reference + np.float32(9), train))
    values = worse.groupby("metric").value.mean()
    assert values["1-NNA %"] == 100 and values["novelty"] > 50
