from pathlib import Path

import numpy as np
import pytest
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.inputs.meshes import load_mesh, normalise, surface_points

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply", ".stl", ".glb"])
def test_every_format_round_trips(tmp_path, suffix):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.export(tmp_path / f"sphere{suffix}")
    found = load_mesh(tmp_path / f"sphere{suffix}")
    assert len(found.faces) == len(mesh.faces)
    assert found.volume == pytest.approx(mesh.volume, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.obj", "", "empty"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "a.obj"),
        ("a.obj", "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n", "no extent"),
        ("a.obj", "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
        ("a.off", "OFF\n8 12 0\n0 0 0\n", "cannot be read"),
        ("a.txt", "hello", "unknown format"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_mesh(tmp_path / name)


def test_missing_file():
    with pytest.raises(InputError, match="no such file"):
        load_mesh("nowhere.obj")


def test_normalise():
    vertices = np.array([[2.0, 0, 0], [6, 1, 1]])
    center, scale = normalise(vertices, 0.9)
    field = (vertices - center) * scale
    np.testing.assert_allclose(field.max(axis=0) + field.min(axis=0), 0, atol=1e-12)
    assert np.ptp(field, axis=0).max() == pytest.approx(0.9)


def test_surface_points_lie_on_the_surface_and_repeat():
    box = trimesh.creation.box()
    points, faces = surface_points(box, 500, 3)
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.5, atol=1e-6)
    along = (points * box.face_normals[faces]).sum(axis=1)
    np.testing.assert_allclose(along, 0.5, atol=1e-6)
    assert np.array_equal(points, surface_points(box, 500, 3)[0])


@pytest.mark.skipif(not DATA.is_dir(), reason="the real meshes are not on this machine")
def test_real_meshes_load():
    paths = [
        *sorted((DATA / "modelnet").iterdir()),
        *sorted((DATA / "airplanes").glob("*.ply"))[:5],
    ]
    paths += sorted((DATA / "shapenet").rglob("*.obj"))
    for path in paths:
        if path.suffix in (".off", ".obj", ".ply"):
            assert len(load_mesh(path).faces) > 50
