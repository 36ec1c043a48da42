import re
import sys

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, sha256_of
from nefgpt.inputs.airplanes import shapes, write


@pytest.mark.parametrize("index", range(12))
def test_closed_symmetric_normalised(index):
    mesh = shapes.airplane(0, index)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.volume > 1e-4
    assert 1000 <= len(mesh.faces) <= 8000
    np.testing.assert_allclose(mesh.bounds.sum(0), 0, atol=1e-6)
    assert np.linalg.norm(mesh.extents) == pytest.approx(1, abs=1e-6)
    mirrored = mesh.triangles_center * [-1, 1, 1]
    distance, _ = cKDTree(mesh.vertices).query(mesh.vertices * [-1, 1, 1])
    assert np.median(distance) < 1e-6
    weight = mesh.area_faces / mesh.area
    np.testing.assert_allclose(weight @ mirrored, weight @ mesh.triangles_center, atol=1e-5)
    assert mesh.center_mass[0] == pytest.approx(0, abs=1e-5)


def test_nose_points_to_minus_z_and_fin_up():
    for index in range(20):
        if shapes.kind_of(0, index) == "airliner":
            points = shapes.airplane(0, index).vertices
            assert points[points[:, 1].argmax(), 2] > 0.2
            assert abs(points[points[:, 2].argmin(), 0]) < 0.05


def test_same_arguments_give_the_same_mesh():
    for index in (0, 3):
        one, two = shapes.airplane(5, index), shapes.airplane(5, index)
        np.testing.assert_array_equal(one.vertices, two.vertices)
        np.testing.assert_array_equal(one.faces, two.faces)
    other = shapes.airplane(6, 0)
    assert other.vertices.shape != one.vertices.shape or not np.array_equal(
        other.vertices, one.vertices
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_kinds_occur_early(seed):
    assert {shapes.kind_of(seed, index) for index in range(40)} == set(shapes.KINDS)


def test_ids_are_distinct_hex():
    ids = [write.shape_id(seed, index) for seed in (0, 1, 11) for index in range(200)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in ids)


def test_longer_packs_keep_earlier_files(tmp_path):
    short = write.write_pack(tmp_path / "a", 1, 0, 2)
    long = write.write_pack(tmp_path / "b", 1, 0, 4)
    late = write.write_pack(tmp_path / "c", 1, 2, 4)
    assert [sha256_of(path) for path in short + late] == [sha256_of(path) for path in long]


def test_written_file_loads_closed(tmp_path):
    # Parts of 19 and 112 touch edge on edge before they are shifted.
    for index in (0, 1, 2, 3, 19, 112):
        path = write.write_mesh(tmp_path, 0, index)
        name = write.shape_id(0, index)
        assert path == tmp_path / f"02691156/{name}/models/model_normalized.obj"
        loaded, mesh = trimesh.load(path, force="mesh"), shapes.airplane(0, index)
        assert loaded.is_watertight
        assert loaded.volume == pytest.approx(mesh.volume, rel=1e-4)
        assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_command_line_writes_manifest(tmp_path, monkeypatch):
    manifest = tmp_path / "manifest.json"
    arguments = ["--root", str(tmp_path), "--seed", "2", "--start", "3", "--n-shapes"]
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "2", "--manifest", str(manifest)])
    write.main()
    shapes = read_json(manifest)["shapes"]
    assert list(shapes) == [write.shape_id(2, 3), write.shape_id(2, 4)]
    for name, digest in shapes.items():
        assert sha256_of(tmp_path / f"02691156/{name}/models/model_normalized.obj") == digest
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "0"])
    with pytest.raises(InputError):
        write.main()
