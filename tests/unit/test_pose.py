"""Shapes that lie turned against the rest of their set are named; others are not."""

import numpy as np
import pytest
import trimesh

from nefgpt.inputs.airplanes.shapes import airplane
from nefgpt.signals.pose import TURNS, Poses, grid


@pytest.fixture(scope="module")
def clouds():
    """Points on airplanes, each in the middle of the cube."""
    found = {}
    for i in range(30):
        points, _ = trimesh.sample.sample_surface(airplane(0, i), 4096, seed=0)
        low, high = points.min(axis=0), points.max(axis=0)
        found[str(i)] = (points - (low + high) / 2) / (high - low).max() * 0.9
    return found


def test_turns_are_the_24_rotations():
    assert len({str(turn) for turn in TURNS}) == 24 and TURNS[0] == ((0, 1, 2), ())
    for order, flips in TURNS:
        matrix = np.eye(3)[list(order)]
        matrix[list(flips)] *= -1
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_airplanes_that_lie_alike(clouds):
    cells = {name: grid(points) for name, points in clouds.items()}
    poses = Poses(cells)
    assert sum(poses.turn(name, cells[name]) != "" for name in cells) <= 1  # a flying wing


@pytest.mark.parametrize("name", ["0", "8", "20"])
def test_a_nose_along_x_is_named(clouds, name):
    cells = {other: grid(points) for other, points in clouds.items()}
    x, y, z = clouds[name].T
    cells[name] = grid(np.stack([-z, y, x], axis=1))
    said = Poses(cells).turn(name, cells[name])
    assert said == "its +z, +y, -x look like the others' x, y, z"
    few = dict([*list(cells.items())[:3], (name, cells[name])])
    assert Poses(few).turn(name, cells[name]) == ""
