"""How well surfaces keep the thin parts of shapes."""

import numpy as np
import pytest
import trimesh

from nefgpt.signals import sdf, shapes
from nefgpt.signals.settings import Sampling
from nefgpt.signals.surface import Surface

SETTINGS = Sampling(n_uniform=1000, n_near=1000)


def box(extents: list[float], centre: list[float]) -> trimesh.Trimesh:
    return trimesh.creation.box(extents, trimesh.transformations.translation_matrix(centre))


BODY = box([0.3, 0.3, 0.3], [-0.3, 0, 0])
FIN = box([0.6, 0.01, 0.3], [0.15, 0, 0])
BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.45)
NOTHING = trimesh.Trimesh()


def thin_of(found: trimesh.Trimesh, mesh: trimesh.Trimesh) -> float:
    """The share of a mesh's thin parts that a surface, in the same coordinates, has."""
    signal = sdf.sample_sdf(mesh, SETTINGS, 0)
    vertices = (found.vertices - signal["center"]) * signal["scale"]
    found = Surface(np.asarray(vertices), np.asarray(found.faces), 1)
    return shapes.closeness(found, signal["surface"], shapes.thin_points(signal))["thin"]


def test_a_fin_is_found_or_cut_off():
    plane = trimesh.util.concatenate([BODY, FIN])
    assert thin_of(plane, plane) == 1
    assert thin_of(BODY, plane) < 0.05  # what is near the fin's root
    assert thin_of(NOTHING, plane) == 0
    half = trimesh.util.concatenate([BODY, box([0.3, 0.01, 0.3], [0, 0, 0])])
    assert thin_of(half, plane) == pytest.approx(0.5, abs=0.1)


def test_a_ball_has_no_thin_part():
    assert np.isnan(thin_of(BALL, BALL)) and np.isnan(thin_of(NOTHING, BALL))


def test_clouds_of_earlier_releases_know_no_thin_parts():
    signal = sdf.sample_sdf(FIN, SETTINGS, 0)
    assert signal["thin"].shape == (sdf.N_THIN,) and len(shapes.thin_points(signal))
    del signal["thin"]
    assert shapes.thin_points(signal).shape == (0, 3)
