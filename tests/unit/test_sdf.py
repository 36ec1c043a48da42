import numpy as np
import pytest
import trimesh

from nefgpt.errors import InputError
from nefgpt.sdf import load_sdf, prepare, signed_distance

SETTINGS = {
    "backend": "libigl",
    "method": "scan",
    "n_uniform": 1000,
    "n_near": 1000,
    "sigma": 0.01,
    "extent": 0.9,
}
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3))


def test_sphere():
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
    expected = np.linalg.norm(POINTS, axis=1) - 0.4
    np.testing.assert_allclose(signed_distance(sphere, POINTS), expected, atol=1e-3)


def test_torus():
    torus = trimesh.creation.torus(0.3, 0.1, major_sections=256, minor_sections=128)
    ring = np.hypot(POINTS[:, 0], POINTS[:, 1]) - 0.3
    expected = np.hypot(ring, POINTS[:, 2]) - 0.1
    np.testing.assert_allclose(signed_distance(torus, POINTS), expected, atol=1e-3)


def test_inside_out_is_the_same_shape():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    expected = signed_distance(sphere, POINTS)
    sphere.invert()
    np.testing.assert_allclose(signed_distance(sphere, POINTS), expected, atol=1e-5)


def test_round_trip_back_to_mesh_units(tmp_path):
    box = trimesh.creation.box(extents=[4, 2, 1])
    box.apply_translation([10, 0, 0])
    box.export(tmp_path / "box.obj")
    prepare(tmp_path / "box.obj", "box", tmp_path / "box.npz", SETTINGS, 0)
    cloud = load_sdf(tmp_path / "box.npz")
    assert len(cloud["points"]) == len(cloud["sdf"]) == 2000
    assert cloud["watertight"] and cloud["n_faces"] == 12
    back = cloud["surface"] / cloud["scale"] + cloud["center"]
    np.testing.assert_allclose(back.max(axis=0), [12, 1, 0.5], atol=0.02)


def test_unusable_mesh_is_recorded_with_its_reason(tmp_path):
    (tmp_path / "a.obj").write_text("")
    prepare(tmp_path / "a.obj", "a", tmp_path / "a.npz", SETTINGS, 0)
    assert "empty" in load_sdf(tmp_path / "a.npz")["rejected"]


def test_truncated_cloud_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match=r"a\.npz"):
        load_sdf(tmp_path / "a.npz")
