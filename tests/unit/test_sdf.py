import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.inputs.settings import Frame
from nefgpt.signals import sdf, shapes
from nefgpt.signals.file import load_signal
from nefgpt.signals.finished import read_note
from nefgpt.signals.kind import Shown
from nefgpt.signals.sdf import (
    mesh_to_sdf_distance,
    on_thin_part,
    prepare,
    prepare_pack,
    sign_agreement,
    signed_distance,
)
from nefgpt.signals.settings import Sampling

SETTINGS = Sampling(n_uniform=1000, n_near=1000, sigma=0.01, extent=0.9)
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


def _thin(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    points, faces = trimesh.sample.sample_surface(mesh, 500, seed=0)
    return points, on_thin_part(mesh, points, mesh.face_normals[faces])


@pytest.mark.parametrize("inverted", [False, True])
def test_both_sides_of_a_thin_plate_are_thin_and_its_rim_is_not(inverted):
    plate = trimesh.creation.box(extents=[0.5, 0.5, 0.019])
    if inverted:
        plate.invert()
    points, thin = _thin(plate)
    rim = np.abs(points[:, :2]).max(axis=1) > 0.25 - 1e-9
    assert rim.any() and (thin == ~rim).all()


def test_a_thick_plate_a_sphere_and_what_faces_a_narrow_gap_are_not_thin():
    thick = trimesh.creation.box(extents=[0.5, 0.5, 0.021])
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    boxes = [trimesh.creation.box(extents=[0.2, 0.2, 0.2]) for _ in range(2)]
    boxes[1].apply_translation([0.21, 0, 0])
    for mesh in (thick, sphere, trimesh.util.concatenate(boxes)):
        assert not _thin(mesh)[1].any()
    assert _thin(trimesh.creation.icosphere(subdivisions=4, radius=0.009))[1].all()


def test_a_sheet_without_volume_is_thin():
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    assert _thin(sheet)[1].mean() > 0.95


def test_round_trip_back_to_mesh_units(tmp_path):
    box = trimesh.creation.box(extents=[4, 2, 1])
    box.apply_translation([10, 0, 0])
    box.export(tmp_path / "box.obj")
    prepare(tmp_path / "box.obj", "box", tmp_path / "box.npz", SETTINGS, 0)
    cloud = load_signal(tmp_path / "box.npz")
    assert len(cloud["points"]) == len(cloud["sdf"]) == 2000
    assert cloud["watertight"] and cloud["n_faces"] == 12
    back = cloud["surface"] / cloud["scale"] + cloud["center"]
    np.testing.assert_allclose(back.max(axis=0), [12, 1, 0.5], atol=0.02)


def test_unusable_mesh_is_recorded_with_its_reason(tmp_path):
    (tmp_path / "a.obj").write_text("")
    prepare(tmp_path / "a.obj", "a", tmp_path / "a.npz", SETTINGS, 0)
    assert "empty" in load_signal(tmp_path / "a.npz")["rejected"]


@pytest.fixture
def pack(tmp_path):
    """Three meshes, one of them unusable, and how to make their clouds."""
    sources = {name: str(tmp_path / f"{name}.off") for name in "abc"}
    for name in "ac":
        trimesh.creation.icosphere(subdivisions=1).export(sources[name])
    (tmp_path / "b.off").write_text("OFF\n1 0 0\n0 0 0\n")
    return lambda **other: prepare_pack(
        sources,
        tmp_path,
        replace(SETTINGS, **other.pop("settings", {})),
        **{"seed": 0, "versions": "1"} | other,
    )


def test_pack_keeps_what_is_finished(pack, tmp_path):
    first = pack()
    assert {n: bool(load_signal(tmp_path / f"{n}.npz")["rejected"]) for n in "abc"} == {
        "a": False,
        "b": True,
        "c": False,
    }
    for damaged in (lambda content: content[:-9], lambda c: c[:900] + b"~" + c[901:]):
        path = tmp_path / "a.npz"
        path.write_bytes(damaged(path.read_bytes()))
        again = pack()
        assert {name for name in first if again[name] != first[name]} == {"a"}
        assert len(load_signal(path)["points"]) == 2000
        first = again
    trimesh.creation.box().export(tmp_path / "c.off")
    again = pack()
    assert {name for name in first if again[name] != first[name]} == {"c"}
    for other in ({"seed": 1}, {"versions": "2"}, {"settings": {"sigma": 0.02}}):
        new = pack(**other)
        assert not set(new.values()) & set(again.values())
        again = new


def test_killed_pack_goes_on(pack, tmp_path, monkeypatch):
    def killed(path, shape_id, *rest):
        if shape_id == "c":
            raise KeyboardInterrupt
        prepare(path, shape_id, *rest)

    monkeypatch.setattr(sdf, "prepare", killed)
    with pytest.raises(KeyboardInterrupt):
        pack()
    before = {name: (tmp_path / f"{name}.npz").read_bytes() for name in "ab"}
    monkeypatch.setattr(sdf, "prepare", prepare)
    pack()
    assert before == {name: (tmp_path / f"{name}.npz").read_bytes() for name in "ab"}
    assert len(load_signal(tmp_path / "c.npz")["points"]) == 2000


def test_truncated_cloud_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match=r"a\.npz"):
        load_signal(tmp_path / "a.npz")


def test_signs_agree_on_a_closed_mesh_and_not_where_faces_are_flipped_or_missing():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    near = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True) * 0.4
    near += np.random.default_rng(1).normal(0, 0.01, near.shape)
    assert sign_agreement(sphere, near, signed_distance(sphere, near)) == 1
    flipped, half = sphere.copy(), sphere.copy()
    flipped.faces[::2] = flipped.faces[::2, ::-1]
    assert sign_agreement(flipped, near, signed_distance(flipped, near)) < 0.9
    half.update_faces(half.triangles_center[:, 0] > 0)
    assert sign_agreement(half, near, signed_distance(half, near)) < 0.9


def test_parts_that_overlap_agree_too():
    cross = trimesh.util.concatenate([trimesh.creation.box([0.8, 0.2, 0.2]), BAR])
    near = trimesh.sample.sample_surface(cross, 1000, seed=0)[0]
    near = near + np.random.default_rng(1).normal(0, 0.01, near.shape)
    assert sign_agreement(cross, near, signed_distance(cross, near)) == 1


BAR = trimesh.creation.box([0.2, 0.8, 0.2])


def test_a_sheet_has_nothing_to_fit(tmp_path, caplog):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    prepare(tmp_path / "a.obj", "a", tmp_path / "a.npz", SETTINGS, 0)
    reason = load_signal(tmp_path / "a.npz")["rejected"]
    assert "a.obj: encloses nothing" in reason and reason in caplog.text


def test_asymmetry_is_the_share_that_is_no_surface_once_mirrored():
    lopsided = trimesh.util.concatenate(
        [BAR, trimesh.creation.box(bounds=[[0, -0.1, -0.1], [0.4, 0.1, 0.1]])]
    )
    points, _ = trimesh.sample.sample_surface(lopsided, 2000, seed=0)
    x, y, z = sdf.asymmetry(lopsided, points)
    assert 0.2 < x < 0.4 and y == z == 0


@pytest.mark.parametrize(("up", "forward"), [("+z", "+x"), ("-x", "+y"), ("+y", "-z")])
def test_a_frame_turns_the_mesh_and_back(tmp_path, up, forward):
    frame = Frame(up=up, forward=forward)
    turn = np.array(frame.turn)
    assert np.linalg.det(turn) == pytest.approx(1)
    axis = {name: sign * np.eye(3)["xyz".index(a)] for a in "xyz" for name, sign in
            ((f"+{a}", 1), (f"-{a}", -1))}  # fmt: skip
    np.testing.assert_array_equal(turn @ axis[up], [0, 1, 0])
    np.testing.assert_array_equal(turn @ axis[forward], [0, 0, -1])
    box = trimesh.creation.box(bounds=np.stack([np.zeros(3), np.array([1.0, 2, 3]) @ turn]))
    box.export(tmp_path / "a.stl")
    prepare(tmp_path / "a.stl", "a", tmp_path / "a.npz", SETTINGS, 0, frame=frame)
    cloud = load_signal(tmp_path / "a.npz")
    np.testing.assert_allclose(cloud["surface"].max(axis=0), [0.15, 0.3, 0.45], atol=1e-3)
    vertices, _ = shapes.mesh_of(Shown(None, tmp_path / "a.npz"))
    np.testing.assert_allclose(vertices.max(axis=0), [0.15, 0.3, 0.45], atol=1e-6)
    note = read_note(tmp_path / "a.npz")
    assert note.get("frame") == (None if frame == Frame() else {"up": up, "forward": forward})


def test_up_and_forward_differ():
    with pytest.raises(ValueError, match=r"along one axis"):
        Frame(up="+z", forward="-z")


def test_other_backend():
    pytest.importorskip("mesh_to_sdf", reason="the mesh-to-sdf extra is not installed")
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    found = mesh_to_sdf_distance(sphere, POINTS[:200], "sample")
    np.testing.assert_allclose(found, signed_distance(sphere, POINTS[:200]), atol=5e-3)


def test_scan_without_opengl_says_what_is_missing(monkeypatch):
    def scan(*args, **kwargs):
        raise OSError("no EGL")

    fake = types.SimpleNamespace(mesh_to_sdf=scan)
    monkeypatch.setitem(sys.modules, "mesh_to_sdf", fake)
    with pytest.raises(InputError, match=r"EGL or OSMesa.*sdf\.method: sample"):
        mesh_to_sdf_distance(trimesh.creation.box(), POINTS[:5], "scan")
    monkeypatch.setitem(sys.modules, "mesh_to_sdf", None)
    with pytest.raises(InputError, match="mesh-to-sdf extra"):
        mesh_to_sdf_distance(trimesh.creation.box(), POINTS[:5], "scan")
