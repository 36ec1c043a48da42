"""Copies of faces, mixed orientation and inside-out parts: the inside is where it was."""

import numpy as np
import pytest
import trimesh

from nefgpt.inputs.meshes import read_mesh
from nefgpt.inputs.orient import repair
from nefgpt.inputs.seen import Seen, inside

POINTS = np.random.default_rng(0).uniform(-1.2, 1.2, (3000, 3))
DAMAGES = ("flipped", "twins", "copies", "all twins", "inverted")


def sphere(radius: float = 1.0, inverted: bool = False) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    if inverted:
        mesh.invert()
    return mesh


def joined(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    mesh = trimesh.util.concatenate(meshes)
    mesh.merge_vertices()
    return mesh


def box(low: list, high: list) -> trimesh.Trimesh:
    return trimesh.creation.box(bounds=[low, high]).subdivide()


SOLIDS = {
    "sphere": sphere(),
    "torus": trimesh.creation.torus(0.8, 0.3),
    "hollow": joined(sphere(), sphere(0.6, inverted=True)),
    "overlapping": joined(
        box([-1, -0.2, -0.2], [1, 0.2, 0.2]), box([-0.3, -1, -0.3], [0.3, 1, 0.3])
    ),
    "apart": joined(box([-1, -1, -1], [-0.2, 1, 1]), box([0.2, -1, -1], [1, 1, 1])),
}


def damage(faces: np.ndarray, how: str) -> np.ndarray:
    chosen = np.random.default_rng(1).random(len(faces)) < 0.3
    if how == "flipped":
        return np.where(chosen[:, None], faces[:, ::-1], faces)
    if how == "inverted":
        return faces[:, ::-1]
    if how == "all twins":
        return np.concatenate([faces, faces[:, ::-1]])
    copies = faces[chosen]
    return np.concatenate([faces, copies[:, ::-1] if how == "twins" else copies])


@pytest.mark.parametrize("name", SOLIDS)
def test_what_is_right_stays_as_it_is(name):
    mesh = SOLIDS[name]
    found, notes = repair(mesh.vertices, mesh.faces)
    assert np.array_equal(found, mesh.faces) and not notes


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", SOLIDS)
def test_damaged_faces(name, how):
    mesh = SOLIDS[name]
    given = damage(np.asarray(mesh.faces), how)
    found, notes = repair(mesh.vertices, given)
    assert len(found) == len(mesh.faces) and notes
    truth = inside(mesh.vertices, mesh.faces, POINTS)
    assert (inside(mesh.vertices, found, POINTS) == truth).all()


def test_one_part_inside_out():
    parts = [box([-1, -0.2, -0.2], [1, 0.2, 0.2]), box([-0.3, -1, -0.3], [0.3, 1, 0.3])]
    truth = joined(*parts)
    parts[1].invert()
    given = joined(*parts)
    found, notes = repair(given.vertices, given.faces)
    assert len(notes) == 1 and "turned round" in notes[0]
    expected = inside(truth.vertices, truth.faces, POINTS)
    assert (inside(given.vertices, found, POINTS) == expected).all()


def test_a_wall_between_two_boxes_and_an_open_sheet_keep_both_sides():
    two = joined(box([-1, -1, -1], [0, 1, 1]), box([0, -1, -1], [1, 1, 1]))
    assert len(two.vertices) < 2 * 26  # they share the wall's
    assert np.array_equal(repair(two.vertices, two.faces)[0], two.faces)
    sheet = np.array([[0, 1, 2], [0, 2, 3]])
    corners = np.array([[-1.0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 1, 0]])
    both = np.concatenate([sheet, sheet[:, ::-1]])
    assert np.array_equal(repair(corners, both)[0], both)


def test_what_no_side_is_seen_of_is_hidden():
    mesh = SOLIDS["hollow"]
    seen = Seen(mesh.vertices, np.asarray(mesh.faces)[:, ::-1])
    radii = np.array([0.3, 0.8, 1.05])
    assert seen.hidden(radii[:, None] * np.array([[0, 0.6, 0.8]])).tolist() == [True, True, False]
    near = seen.near(500)
    from_surface = np.minimum(*np.abs(np.linalg.norm(near, axis=1) - np.array([[0.6], [1.0]])))
    assert np.median(from_surface) < 0.03


def test_notes_of_a_file_say_what_was_done(tmp_path):
    mesh = SOLIDS["sphere"]
    faces = damage(np.asarray(mesh.faces), "twins")
    lines = ["v {} {} {}".format(*point) for point in mesh.vertices]
    lines += ["f {} {} {}".format(*face) for face in faces + 1] + ["f 1 1 2", "f 1 2", "l 1 2"]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    read = read_mesh(tmp_path / "a.obj")
    assert (read.format, read.parts) == ("OBJ", 1)
    assert (read.n_vertices, read.n_polygons) == (len(mesh.vertices), len(faces) + 1)
    assert len(read.mesh.faces) == len(mesh.faces)
    said = "; ".join(read.notes)
    for part in (
        "fewer than three corners",
        "lines or points",
        "names a point twice",
        "given twice",
    ):
        assert part.replace("names", "name") in said
