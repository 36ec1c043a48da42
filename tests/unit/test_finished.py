"""A finished point cloud says what it was made from, and is told from any other."""

import os

import numpy as np
import pytest

from nefgpt.signals.finished import is_finished, made_from, read_note, state_of, write_note
from nefgpt.signals.settings import Sampling

WANTED = made_from("mesh ünïcode.obj", Sampling(n_near=1000, sigma=0.01), 0, "sdf version 1")


@pytest.fixture
def made(tmp_path):
    """A mesh and the cloud that was made from it."""
    mesh, cloud = tmp_path / "mesh.obj", tmp_path / "cloud.npz"
    mesh.write_text("one")
    np.savez(cloud, points=np.arange(6).reshape(2, 3))
    write_note(cloud, WANTED | {"mesh": state_of(mesh)})
    return mesh, cloud


def test_note_leaves_the_arrays(made):
    _, cloud = made
    with np.load(cloud, allow_pickle=False) as stored:
        assert stored.files == ["points"]
        assert np.array_equal(stored["points"], np.arange(6).reshape(2, 3))


def test_only_the_same_settings_are_finished(made):
    mesh, cloud = made
    assert is_finished(cloud, WANTED, mesh) and is_finished(cloud, WANTED)
    for key, value in {
        "seed": 1,
        "versions": "sdf version 2",
        "source": "x",
        "settings": {},
    }.items():
        assert not is_finished(cloud, WANTED | {key: value}, mesh)


def test_a_mesh_counts_by_its_content(made):
    mesh, cloud = made
    os.utime(mesh)
    assert is_finished(cloud, WANTED, mesh)
    mesh.write_text("two")
    os.utime(mesh, (0, 0))
    assert not is_finished(cloud, WANTED, mesh)
    mesh.unlink()
    assert not is_finished(cloud, WANTED, mesh)


def test_a_mesh_that_was_not_there(tmp_path):
    mesh, cloud = tmp_path / "mesh.obj", tmp_path / "cloud.npz"
    np.savez(cloud)
    write_note(cloud, WANTED | {"mesh": state_of(mesh)})
    assert is_finished(cloud, WANTED, mesh)
    mesh.write_text("now it is")
    assert not is_finished(cloud, WANTED, mesh)


@pytest.mark.parametrize("n", [0, 1, 30, 100, -1])
def test_what_is_cut_off_or_has_no_note_is_not_finished(n, made):
    mesh, cloud = made
    cloud.write_bytes(cloud.read_bytes()[:n])
    assert read_note(cloud) == {} and not is_finished(cloud, WANTED, mesh)
    np.savez(cloud)
    assert read_note(cloud) == {} and not is_finished(cloud, WANTED, mesh)
    cloud.unlink()
    assert read_note(cloud) == {}


def test_buffers_beside_a_mesh_belong_to_it(tmp_path):
    mesh, buffer, cloud = tmp_path / "a.gltf", tmp_path / "a b.bin", tmp_path / "cloud.npz"
    mesh.write_text('{"buffers": [{"uri": "a%20b.bin"}, {"uri": "data:,x"}, {"byteLength": 3}]}')
    buffer.write_text("one")
    np.savez(cloud)
    write_note(cloud, WANTED | {"mesh": state_of(mesh)})
    assert is_finished(cloud, WANTED, mesh)
    buffer.write_text("two")
    os.utime(buffer, (0, 2e9))
    assert not is_finished(cloud, WANTED, mesh)
