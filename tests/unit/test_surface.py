"""Coarse to fine: the mesh of fields with thin parts is that of the whole grid."""

import numpy as np
import pytest
import trimesh

from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.optimise import fit_fields
from nefgpt.signals import surface

FIT = Optimiser(steps=1500, points_per_step=1024, learning_rate=0.01, loss="mse")


def box(points, centre, half):
    """Exact signed distance to a box."""
    apart = np.abs(points - np.asarray(centre)) - np.asarray(half)
    outside = np.linalg.norm(np.maximum(apart, 0), axis=1)
    return outside + np.minimum(apart.max(axis=1), 0)


def torus(points, centre, major, minor):
    x, y, z = (points - np.asarray(centre)).T
    return np.hypot(np.hypot(x, z) - major, y) - minor


SHAPES = {
    # A body, a wing thinner than a grid cell, a rod, and a part of its own.
    "airplane": lambda p: np.minimum.reduce(
        [
            box(p, (0, 0, 0), (0.05, 0.05, 0.42)),
            box(p, (0, 0, 0.05), (0.45, 0.003, 0.06)),
            box(p, (0, 0.2, -0.35), (0.003, 0.16, 0.05)),
            box(p, (0.3, -0.2, 0), (0.01, 0.01, 0.12)),
        ]
    ),
    "ring": lambda p: torus(p, (0.05, 0.02, -0.1), 0.3, 0.02),
    "over the border": lambda p: np.minimum(
        box(p, (0.4, 0, 0), (0.3, 0.1, 0.1)), box(p, (-0.2, 0.5, 0.3), (0.05, 0.1, 0.05))
    ),
}


@pytest.fixture(scope="module")
def trained():
    """Specification and weights of a field of each shape, mirrored for one of them."""
    found = {}
    rng = np.random.default_rng(0)
    for name, distance in SHAPES.items():
        spec = FieldSpec(
            hidden=(24, 24), octaves=3, mirror=2 if name == "over the border" else None
        )
        points = rng.uniform(-0.5, 0.5, (200_000, 3)).astype(np.float32)
        near = np.argsort(np.abs(distance(points)))[:20_000]
        points = np.concatenate([points[:5_000], points[near]])
        if spec.mirror is not None:
            points[:, 2] = np.abs(points[:, 2])
        values = distance(points).astype(np.float32)
        start = random_weights(spec, 0)[None]
        fitted = fit_fields(spec, points[None], values[None], start, Space(start[0]), FIT, 0)
        found[name] = spec, fitted.weights[0]
    return found


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("resolution", [33, 64, 97, 128])
@pytest.mark.parametrize("level", [0.0, 0.002])
def test_mesh_is_that_of_the_whole_grid(trained, name, resolution, level):
    spec, field = trained[name]
    grids = (
        surface.evaluate_near(spec, field, resolution, level),
        surface.evaluate_grid(spec, field, resolution),
    )
    meshes = [surface.marching_cubes(grid, spec.surface_level(level)) for grid in grids]
    assert len(meshes[0][1]) > 100
    for found, expected in zip(*meshes, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_surface_is_followed_where_no_corner_told_of_it(trained, monkeypatch):
    spec, field = trained["ring"]
    whole = surface.evaluate_grid(spec, field, 96)
    monkeypatch.setattr(surface, "_REACH", 0.0)
    near = surface.evaluate_near(spec, field, 96)
    for found, expected in zip(
        *(surface.marching_cubes(grid, spec.surface_level()) for grid in (near, whole)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_few_samples_are_evaluated(trained, monkeypatch):
    spec, field = trained["airplane"]
    seen, values = [], surface.fused.values
    monkeypatch.setattr(
        surface.fused, "values", lambda *args: seen.append(len(args[2])) or values(*args)
    )
    surface.evaluate_near(spec, field, 256)
    assert sum(seen) < 256**3 / 10


ANALYTIC = {
    "sphere": (
        lambda p: np.linalg.norm(p - [0.02, -0.01, 0.03], axis=1) - 0.3,
        4 * np.pi * 0.3**2,
        4 / 3 * np.pi * 0.3**3,
    ),
    "torus": (
        lambda p: torus(p, (0.01, 0.02, -0.02), 0.28, 0.12),
        4 * np.pi**2 * 0.28 * 0.12,
        2 * np.pi**2 * 0.28 * 0.12**2,
    ),
    "sphere cut by the border": (
        lambda p: np.linalg.norm(p - [0.5, 0, 0], axis=1) - 0.3,
        3 * np.pi * 0.3**2,  # half of the sphere, and the disc that closes it
        2 / 3 * np.pi * 0.3**3,
    ),
}


def on_grid(distance, resolution: int) -> np.ndarray:
    """Values float32 [n, n, n] of a signed distance on the corner-exact grid."""
    axis = np.linspace(-0.5, 0.5, resolution)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return distance(points.reshape(-1, 3)).reshape((resolution,) * 3).astype(np.float32)


@pytest.mark.parametrize("name", ["sphere", "torus"])
def test_area_and_volume_converge_at_second_order(name):
    distance, area, volume = ANALYTIC[name]
    errors = []
    for resolution in (25, 49, 97):
        vertices, faces = surface.marching_cubes(on_grid(distance, resolution), 0.0)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent
        errors.append([abs(mesh.area / area - 1), abs(mesh.volume / volume - 1)])
    for coarse, fine in zip(errors[:-1], errors[1:], strict=True):
        for first, second in zip(coarse, fine, strict=True):
            assert 3.2 < first / second < 4.8, "half the cells, a quarter of the error"


def test_a_surface_cut_by_the_border_is_closed_where_it_is_cut():
    distance, area, volume = ANALYTIC["sphere cut by the border"]
    for resolution in (33, 65):
        vertices, faces = surface.marching_cubes(on_grid(distance, resolution), 0.0)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        cell = 1 / (resolution - 1)
        assert mesh.is_watertight
        assert 0.5 <= vertices[:, 0].max() <= 0.5 + cell, "the lid lies within the next cell"
        assert mesh.volume == pytest.approx(volume, abs=np.pi * 0.3**2 * cell)
        assert mesh.area == pytest.approx(area, rel=2 * cell / 0.3 + 0.01)


def test_vertices_are_where_the_grid_says():
    """A plane at any height: exact where values are linear along the edges."""
    for height in (-0.4, -0.123, 0.0, 0.31):
        grid = on_grid(lambda p, height=height: p[:, 2] - height, 17)
        vertices, _ = surface.marching_cubes(grid, 0.0)
        inner = (np.abs(vertices) < 0.5).all(axis=1)
        inner &= vertices[:, 2] > -0.45
        np.testing.assert_allclose(vertices[inner][:, 2], height, atol=1e-6)


def test_a_broken_field_has_no_surface():
    spec = FieldSpec(hidden=(8, 8))
    field = np.full(spec.n_weights, np.nan, np.float32)
    assert not surface.surface(spec, field, 40).valid
