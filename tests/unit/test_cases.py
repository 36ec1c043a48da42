"""Small files that readers get wrong without a word: each is right, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.inputs.listing import SUFFIXES
from nefgpt.inputs.meshes import load_mesh, read_mesh
from nefgpt.signals import sdf
from nefgpt.signals.settings import Sampling

CASES = Path(__file__).parents[1] / "cases"
UNIT = (1, 1, 1)
PENTAGON = 2.5 * np.sin(0.4 * np.pi)

# Faces, extent, area and volume (None: open).
RIGHT = {
    "01_relative_indices.obj": (2, (6, 1, 0), 1, None),
    "02a_indented_faces.obj": (12, UNIT, 6, 1),
    "02b_tab_vertex.obj": (12, UNIT, 6, 1),
    "02c_tabs.obj": (12, UNIT, 6, 1),
    "02e_bom.obj": (12, UNIT, 6, 1),
    "03a_concave_ngon.obj": (28, (3, 3, 1), 30, 7),
    "04a_normalised_ints.glb": (24, (4, 1, 1), 12, 2),
    "04b_instancing.glb": (36, (7, 1, 1), 18, 3),
    "04i_empty_primitive.glb": (12, UNIT, 6, 1),
    "05a_mixed_binary.ply": (3, (2, 1, 1), 1 + np.sqrt(2) / 2, None),
    "05b_pentagon.off": (
        16,
        (1.809017, 1.902114, 1),
        10 * np.sin(np.pi / 5) + 2 * PENTAGON,
        PENTAGON,
    ),
    "05c_tristrips.ply": (12, UNIT, 6, 1),
    "06a_trailing_bytes.stl": (12, UNIT, 6, 1),
    "06c_no_endsolid.stl": (12, UNIT, 6, 1),
    "07a_cube_1e-9.obj": (12, (1e-9,) * 3, 6e-18, 1e-27),
    "07c_octahedron_1e12.obj": (8, (2e12,) * 3, 4 * np.sqrt(3) * 1e24, 4e36 / 3),
    "07d_octahedron_1e9.obj": (8, (2e9,) * 3, 4 * np.sqrt(3) * 1e18, 4e27 / 3),
    "08a_double_sided_cube.obj": (12, UNIT, 6, 1),
}
REFUSED = {
    "04c_draco_one_part.glb": "KHR_draco_mesh_compression",
    "04f_draco.glb": "KHR_draco_mesh_compression",
    "04g_meshopt.glb": "EXT_meshopt_compression",
    "04h_required_unknown.glb": "EXT_unknown_geometry",
}


def test_every_case_has_its_line():
    meshes = {path.name for path in CASES.iterdir() if path.suffix in SUFFIXES}
    assert meshes == set(RIGHT) | set(REFUSED)


@pytest.mark.parametrize("name", RIGHT)
def test_right(name):
    n_faces, extent, area, volume = RIGHT[name]
    mesh = load_mesh(CASES / name)
    corners = mesh.vertices[mesh.faces]
    sides = corners[:, 1:] - corners[:, :1]
    normals = np.cross(sides[:, 0], sides[:, 1])
    assert len(mesh.faces) == n_faces
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), extent, rtol=1e-5)
    assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(area, rel=1e-4, abs=0)
    if volume is not None:
        assert mesh.is_watertight
        found = (corners[:, 0] * normals).sum() / 6
        assert found == pytest.approx(volume, rel=1e-4, abs=0)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    with pytest.raises(InputError, match=rf"{name}.*{REFUSED[name]}"):
        read_mesh(CASES / name)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("07a_cube_1e-9.obj", 0.9**3),
        ("07c_octahedron_1e12.obj", 0.9**3 / 6),
        ("07d_octahedron_1e9.obj", 0.9**3 / 6),
        ("08a_double_sided_cube.obj", 0.9**3),
    ],
)
def test_solid(name, share):
    cloud = sdf.sample_sdf(load_mesh(CASES / name), Sampling(n_uniform=20000, n_near=1000), 0)
    assert cloud["inside"] == pytest.approx(share, abs=0.01)
    assert cloud["sign_agreement"] > 0.98


def test_the_gap_of_a_concave_polygon_is_outside():
    mesh = load_mesh(CASES / "03a_concave_ngon.obj")
    assert sdf.inside(mesh, np.array([[1.5, 2, 0.5], [0.5, 2, 0.5]])).tolist() == [False, True]
