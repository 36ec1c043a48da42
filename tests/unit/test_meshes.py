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
        ("a.off", "4OFF\n1 0 0\n0 0 0 0\n", "4OFF is not read"),
        ("a.off", "nOFF\n4\n1 0 0\n0 0 0 0\n", "nOFF is not read"),
        ("a.off", "OFF BINARY\n\1", "BINARY is not read"),
        ("a.obj", "v 0 0 0\nf 0 1 1\n", "line 2, 'f 0 1 1': there is no vertex 0"),
        ("a.obj", "v 0 0\n", "line 1"),
        ("a.gltf", '{"buffers": [{"uri": "../b.bin"}]}', "outside of its folder"),
        ("a.gltf", '{"buffers": [{"uri": "b.bin"}]}', "not beside it"),
        ("a.gltf", '{"extensionsRequired": ["A_B"]}', "requires A_B"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 9\nend_header\n", "no x, y, z"),
        ("a.stl", "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\n", "truncated"),
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


def test_draco(tmp_path):
    pytest.importorskip("DracoPy", reason="the package that decodes Draco is not installed")
    mesh = trimesh.creation.icosphere(subdivisions=2)
    (tmp_path / "a.glb").write_bytes(mesh.export(file_type="glb", extension_draco=True))
    assert b"KHR_draco_mesh_compression" in (tmp_path / "a.glb").read_bytes()
    found = load_mesh(tmp_path / "a.glb")
    assert len(found.faces) == len(mesh.faces) and found.is_watertight
    assert found.volume == pytest.approx(mesh.volume, rel=1e-3)
