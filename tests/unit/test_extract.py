"""Surfaces of known shapes: place, volume, orientation, closed borders."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from nefgpt.evaluation import decode
from nefgpt.fields import fused
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting import weights
from nefgpt.signals import surface
from nefgpt.signals.settings import Extract
from nefgpt.signals.shapes import N_POINTS, normalise_cloud

AXIS = np.linspace(-0.5, 0.5, 65)
X, Y, Z = np.meshgrid(AXIS, AXIS, AXIS, indexing="ij")


def sphere(radius=0.3, centre=(0, 0, 0)) -> np.ndarray:
    return np.sqrt((X - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (Z - centre[2]) ** 2) - radius


def mesh_of(grid, level=0.0) -> trimesh.Trimesh:
    return trimesh.Trimesh(*surface.marching_cubes(grid, level), process=False)


def test_sphere_is_in_place():
    centre = np.array([0.05, -0.1, 0.12])
    mesh = mesh_of(sphere(0.3, centre))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.02), "outward faces"
    np.testing.assert_allclose(mesh.center_mass, centre, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - centre, axis=1), 0.3, atol=1e-3)


def test_level_is_a_distance():
    assert mesh_of(sphere(), 0.05).extents.max() == pytest.approx(0.7, abs=0.005)


def test_shape_over_the_border_is_closed():
    mesh = mesh_of(sphere(0.3, (0.4, 0, 0)))
    assert mesh.is_watertight and mesh.volume > 0
    assert mesh.vertices.max() <= 0.5 + 1 / 64


def test_axes_are_not_swapped():
    grid = np.maximum(np.maximum(np.abs(X) - 0.4, np.abs(Y) - 0.2), np.abs(Z) - 0.1)
    np.testing.assert_allclose(mesh_of(grid).extents, [0.8, 0.4, 0.2], atol=0.02)


SPEC = FieldSpec(hidden=(8, 8))


@pytest.mark.parametrize("mirror", [None, 0, 1, 2])
@pytest.mark.parametrize("n", [8, 9])
def test_grid_equals_points(mirror, n):
    spec = dataclasses.replace(SPEC, mirror=mirror)
    field = random_weights(spec, 1)
    axis = np.linspace(-0.5, 0.5, n, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    expected = fused.values(spec, field, points).reshape(n, n, n)
    np.testing.assert_array_equal(surface.evaluate_grid(spec, field, n), expected)


@pytest.fixture
def grid(monkeypatch):
    """Let every field have this grid of values."""

    def use(values):
        monkeypatch.setattr(surface, "evaluate_near", lambda *args: values)

    return use


def test_small_parts(grid):
    grid(np.minimum(sphere(0.3), sphere(0.05, (0.42, 0.42, 0.42))))
    field = np.zeros(SPEC.n_weights, np.float32)
    level = -SPEC.surface_level()  # the grid above is a distance, whose surface is at zero
    assert level > 0
    spec = FieldSpec(hidden=(8, 8), offset=0.0)
    whole = surface.surface(spec, field, 65)
    kept = surface.surface(spec, field, 65, min_component=0.5)
    assert whole.n_components == kept.n_components == 2
    assert 0 < len(kept.faces) < len(whole.faces)
    assert np.linalg.norm(kept.vertices, axis=1).max() < 0.31


@pytest.mark.parametrize("values", [np.ones((20,) * 3), np.full((20,) * 3, np.nan)])
def test_no_surface_is_invalid(grid, values):
    grid(values)
    assert not surface.surface(SPEC, np.zeros(SPEC.n_weights, np.float32), 20).valid


def test_surface_on_grid_planes():
    mesh = mesh_of(np.maximum(np.maximum(np.abs(X), np.abs(Y)) - 0.25, np.abs(Z) - 0.125))
    assert mesh.is_watertight and mesh.volume == pytest.approx(0.5 * 0.5 * 0.25, rel=1e-6)


def test_full_cube_is_closed():
    mesh = mesh_of(np.full((20,) * 3, -1.0))
    assert mesh.is_watertight and 1 < mesh.volume < (1 + 2 / 19) ** 3


def test_points_are_uniform_in_area():
    vertices = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [10, 0, 0], [16, 0, 0], [10, 1, 0.0]])
    found = surface.Surface(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 2)
    points = found.sample(20_000, seed=0)
    assert (points[:, 0] > 5).mean() == pytest.approx(0.75, abs=0.01)
    small = points[points[:, 0] < 5]
    np.testing.assert_allclose(small.mean(axis=0), [2 / 3, 1 / 3, 0], atol=0.02)
    np.testing.assert_array_equal(points, found.sample(20_000, seed=0))


def test_normalised_cloud():
    cloud = normalise_cloud(np.random.default_rng(0).normal(3, 5, (2048, 3)))
    np.testing.assert_allclose(cloud.mean(axis=0), 0, atol=1e-5)
    assert cloud.std() == pytest.approx(1, abs=1e-5) and cloud.dtype == np.float32


def test_files(tmp_path, monkeypatch):
    good = random_weights(SPEC, 0)
    assert surface.evaluate_grid(SPEC, good, 24).min() < SPEC.surface_level() < 0.99
    broken = np.full_like(good, np.nan)
    rows = [
        (name, "train", None, field, {})
        for name, field in [("a", good), ("b", broken), ("c", good)]
    ]
    weights.write_fields(tmp_path / "fields.parquet", SPEC, good, rows)
    for name in "abc":
        frame = {"center": np.array([10.0, 0, 0]), "scale": np.float64(0.1)}
        np.savez(tmp_path / f"{name}.npz", **frame)
    settings = dataclasses.asdict(Extract(resolution=24, min_component=0.0, level=0.0))
    words = ["extract", "--fields", str(tmp_path / "fields.parquet"), "--out-dir"]
    words += [str(tmp_path / "out"), "--settings", json.dumps(settings)]
    monkeypatch.setattr("sys.argv", words)
    decode.main()
    clouds = np.load(tmp_path / "out/clouds.npy")
    assert clouds.shape == (3, N_POINTS, 3)
    assert np.isfinite(clouds).all(axis=(1, 2)).tolist() == [True, False, True]
    assert sorted(path.name for path in (tmp_path / "out/meshes").iterdir()) == ["0.ply", "2.ply"]
    lines = (tmp_path / "out/samples.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[2].startswith("1,b,,False")
    here = trimesh.load(tmp_path / "out/meshes/0.ply")
    monkeypatch.setattr("sys.argv", [*words, "--signal-dir", str(tmp_path)])
    decode.main()
    own_units = trimesh.load(tmp_path / "out/meshes/0.ply")
    np.testing.assert_allclose(own_units.vertices, here.vertices * 10 + [10, 0, 0], atol=1e-4)
    code = "import sys; from nefgpt.evaluation import decode; decode.main(); "
    code += "print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words[1:]], capture_output=True, check=True)
    assert done.stdout == b"False\n", "all that it runs is compiled by now"
