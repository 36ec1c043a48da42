"""The software renderer."""

import numpy as np
import pytest
import trimesh

from nefgpt.signals import render, shapes
from nefgpt.signals.kind import Shown


def reddish(image: np.ndarray) -> float:
    shown = image[image[..., 3] == 255].astype(int)
    return float((shown[:, 0] > shown[:, 2] + 10).mean())


def test_sphere_is_round_and_lit():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.8)
    image = render.render(ball.vertices, ball.faces, 128)
    assert image.shape == (128, 128, 4) and image.dtype == np.uint8
    covered = image[..., 3].sum() / 255
    assert covered == pytest.approx(np.pi * (0.8 * 64) ** 2, rel=0.01)
    np.testing.assert_array_less(np.abs(image[..., 3].astype(int) - image[:, ::-1, 3]).mean(), 2)
    brightness = image[..., :3].mean(axis=2)
    assert brightness[30, 50] > brightness[98, 78] + 40  # key light: up and left
    assert reddish(image) == 0


def test_inside_out_is_red():
    box = trimesh.creation.box((1, 1, 1))
    box.invert()
    assert reddish(render.render(box.vertices, box.faces, 64)) == 1
    assert reddish(render.render(box.vertices, box.faces, 64, tint_back=False)) == 0


def test_nearer_face_wins_in_any_order():
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.5
    vertices = np.concatenate([square, square * 0.5 + np.array([0, 0, -0.3])])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6]])  # the nearer faces the nose
    images = [
        render.render(vertices, order, 64, azimuth=0, elevation=0) for order in (faces, faces[::-1])
    ]
    np.testing.assert_array_equal(*images)
    middle, edge = images[0][32, 32].astype(int), images[0][18, 32].astype(int)
    assert middle[2] > middle[0] and edge[0] > edge[2]


def test_orientation_nose_up_side():
    """From azimuth 0 a shape's +X lies left and +Y up; azimuth 90 sees +X, the nose right."""

    def spot(center, azimuth):
        ball = trimesh.creation.icosphere(subdivisions=1, radius=0.1)
        image = render.render(ball.vertices + center, ball.faces, 64, azimuth, 0)
        rows, columns = np.nonzero(image[..., 3])
        return rows.mean(), columns.mean()

    assert spot([0.6, 0, 0], 0)[1] < 20
    assert spot([0, 0.6, 0], 0)[0] < 20
    assert spot([0, 0, -0.6], 90)[1] > 44


@pytest.mark.parametrize(
    ("vertices", "faces"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3), int)),
        (np.full((3, 3), np.nan), [[0, 1, 2]]),
        (np.zeros((3, 3)), [[0, 1, 7]]),
    ],
)
def test_nothing_is_drawn_of_what_is_invalid(vertices, faces):
    assert render.render(vertices, faces, 48) is None


def test_degenerate_and_outside_faces_draw_nothing():
    assert not render.render(np.zeros((3, 3)), [[0, 1, 2]], 32)[..., 3].any()
    far = np.eye(3) + np.array([40, 0, 0])
    assert not render.render(far, [[0, 1, 2]], 32)[..., 3].any()


def test_unreadable_and_missing_files_are_empty(tmp_path):
    path = tmp_path / "broken.ply"
    path.write_bytes(b"not a mesh")
    assert shapes.pictures([Shown(path), Shown(tmp_path / "gone.ply")], 32) == [None, None]


def test_meshes_share_one_scale():
    spheres = [trimesh.creation.icosphere(radius=radius) for radius in (0.2, 0.8)]
    both = [(sphere.vertices, sphere.faces) for sphere in spheres]
    half = render.common_half_extent(both)
    small, large = (render.render(*mesh, 64, half_extent=half) for mesh in both)
    assert large[..., 3].sum() / small[..., 3].sum() == pytest.approx(16, rel=0.1)
