"""Files as programs write them that would be read wrongly without a word."""

import json
import struct

import numpy as np
import pytest

from nefgpt.base.errors import InputError
from nefgpt.inputs.meshes import load_mesh, read_mesh

POINTS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
QUADS = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6)]
TRIANGLES = np.array([part for a, b, c, d in QUADS for part in ((a, b, c), (a, c, d))])
ROWS = "".join("{:g} {:g} {:g}\n".format(*point) for point in POINTS)
V = "".join(f"v {row}\n" for row in ROWS.splitlines())
F = "".join("f " + " ".join(str(i + 1) for i in quad) + "\n" for quad in QUADS)
OFF_F = "".join("4 " + " ".join(map(str, quad)) + "\n" for quad in QUADS)
PLY_V = "element vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
PLY_F = "element face 6\nproperty list uchar int vertex_indices\n"
PLY = f"ply\nformat ascii 1.0\ncomment before end_header\n{PLY_V}{PLY_F}end_header\n"


def is_cube(mesh, sides=(1, 1, 1)):
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), sides, rtol=1e-5)
    return len(mesh.faces) == 12 and mesh.volume == pytest.approx(np.prod(sides), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comment.obj", f"# C:\\models\\\n{V}# C:\\\n{F}"),
        ("names.obj", f"mtllib C:\\m\\\n{V}g a\\\n{F}"),
        ("dots.obj", V.replace("\n", ".# a point\n") + F),
        ("joined.obj", V + F.replace(" ", " \\ \r", 1)),
        ("old.obj", (V + F.replace(" ", " \\\n", 2)).replace("\n", "\r")),
        ("one_line.off", f"OFF 8 6 12 {ROWS}{OFF_F}".replace("\n", " ")),
        ("one_word_a_line.off", f"OFF 8 6 12 {ROWS}{OFF_F}".replace(" ", "\n")),
        ("comment.ply", PLY + ROWS + OFF_F),
    ],
)
def test_text_is_read_however_its_lines_end(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert is_cube(load_mesh(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.obj", V.replace("v 0 1 1", "v 0 1 1.#INF") + F, "1.#INF"),
        ("a.off", f"OFF\n8 6 0\n{ROWS}{OFF_F}".replace("0 1 1\n", "0 1 1.#QNAN\n", 1), "1.#QNAN"),
        ("short.off", f"OFF\n8 6 0\n{ROWS}{OFF_F}".replace("0 1 1\n", "0 1\n", 1), "promised|left"),
        ("longer.ply", PLY + ROWS + OFF_F.replace("\n", " 0\n"), "18 numbers are left"),
    ],
)
def test_numbers_that_are_none_or_too_many_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_mesh(tmp_path / name)


@pytest.mark.parametrize("start", range(6))
def test_a_polygon_that_names_its_concave_corner_twice(tmp_path, start):
    corners = np.roll([(0, 0), (4, 0), (4, 2), (2, 1.5), (2, 1.5), (0, 2)], start, axis=0)
    text = "".join(f"v {x:g} {y:g} 0\n" for x, y in corners) + "f 1 2 3 4 5 6\n"
    (tmp_path / "a.obj").write_text(text)
    assert load_mesh(tmp_path / "a.obj").area == pytest.approx(7)


def stl(n: int, tail: bytes) -> bytes:
    facets = np.zeros(12, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    facets["corners"] = POINTS[TRIANGLES]
    return b"solid".ljust(80) + struct.pack("<I", n) + facets.tobytes() + tail


@pytest.mark.parametrize(
    ("n", "tail"),
    [(12, b" " * 50), (12, b"abcdefghij" * 5), (12, bytes(range(1, 101))), (10, b""), (0, b"")],
)
def test_text_behind_the_facets_is_no_facet(tmp_path, n, tail):
    (tmp_path / "a.stl").write_bytes(stl(n, tail))
    found = read_mesh(tmp_path / "a.stl")
    assert is_cube(found.mesh) and len(found.notes) == 1


def test_what_follows_the_facets_of_a_text(tmp_path):
    facet = "facet normal 0 0 1\nouter loop\n{}endloop\nendfacet\n"
    loops = (
        "".join("vertex {:g} {:g} {:g}\n".format(*POINTS[i]) for i in face) for face in TRIANGLES
    )
    text = "solid a\n" + "".join(map(facet.format, loops))
    for name, end in (("whole.stl", "endsolid a\n" + 9 * "\0"), ("open.stl", "")):
        (tmp_path / name).write_text(text + end)
        assert is_cube(load_mesh(tmp_path / name))
    for name, end in (("cut.stl", "facet nor"), ("solid.stl", "ends")):
        (tmp_path / name).write_text(text + end)
        with pytest.raises(InputError, match="ends within the facet after 12"):
            load_mesh(tmp_path / name)


class Cube:
    """A glTF file of a cube, made by hand; what a test adds goes into `document`."""

    def __init__(self):
        self.blob, self.views, self.accessors = b"", [], []
        position = self.add(POINTS.astype("<f4"), "VEC3")
        indices = self.add(TRIANGLES.ravel().astype("<u2"), "SCALAR")
        self.primitive = {"attributes": {"POSITION": position}, "indices": indices}
        self.node = {"mesh": 0}
        self.document = {
            "meshes": [{"primitives": [self.primitive]}],
            "nodes": [self.node],
            "scenes": [{"nodes": [0]}],
        }

    def add(self, values, kind):
        code = {"u1": 5121, "u2": 5123, "f4": 5126}[values.dtype.str[1:]]
        about = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": values.nbytes}
        self.views.append(about)
        self.blob += values.tobytes()
        self.accessors.append(
            {"bufferView": len(self.views) - 1, "componentType": code, "type": kind}
            | {"count": len(values)}
        )
        return len(self.views) - 1

    def write(self, path, tail=b"", uri=None):
        buffer = {"byteLength": len(self.blob)} | ({"uri": uri} if uri else {})
        parts = {"bufferViews": self.views, "accessors": self.accessors, "buffers": [buffer]}
        text = json.dumps(self.document | parts).encode()
        if uri:
            path.write_bytes(text)
            return path
        chunks = b"".join(
            struct.pack("<I4s", len(data), kind) + data
            for kind, data in ((b"JSON", text), (b"BIN\0", self.blob))
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks + tail)
        return path


def test_what_follows_a_glb_is_none_of_it(tmp_path):
    assert is_cube(load_mesh(Cube().write(tmp_path / "a.glb", tail=b"some more words")))


def test_bytes_as_percents_in_an_address(tmp_path):
    cube = Cube()
    uri = "data:application/octet-stream," + "".join(f"%{byte:02x}" for byte in cube.blob)
    assert is_cube(load_mesh(cube.write(tmp_path / "a.gltf", uri=uri)))


def test_instances_may_have_numbers_alone(tmp_path):
    cube = Cube()
    number = cube.add(np.ones(2, "<f4"), "SCALAR")
    about = {"EXT_mesh_gpu_instancing": {"attributes": {"_FEATURE_ID_0": number}}}
    cube.node["extensions"] = about
    assert is_cube(load_mesh(cube.write(tmp_path / "a.glb")))


def test_hidden_nodes_are_left_out_with_a_note(tmp_path):
    cube = Cube()
    hidden = {"mesh": 0, "translation": [5, 0, 0]}
    hidden["extensions"] = {"KHR_node_visibility": {"visible": False}}
    cube.document |= {"nodes": [cube.node, hidden], "scenes": [{"nodes": [0, 1]}]}
    found = read_mesh(cube.write(tmp_path / "a.glb"))
    assert is_cube(found.mesh) and "1 meshes hidden" in found.notes[0]


@pytest.mark.parametrize("roots", [[0, 1], [1, 0], [1]])
def test_roots_that_are_children_are_placed_by_their_parents(tmp_path, roots):
    cube = Cube()
    cube.document["nodes"] += [{"children": [0], "scale": [2, 1, 1]}]
    cube.document["scenes"] = [{"nodes": roots}]
    assert is_cube(load_mesh(cube.write(tmp_path / "a.glb")), (2, 1, 1))


def test_a_node_with_two_parents_is_refused(tmp_path):
    cube = Cube()
    cube.document["nodes"] += [{"children": [0]}, {"children": [0], "translation": [5, 0, 0]}]
    cube.document["scenes"] = [{"nodes": [1, 2]}]
    with pytest.raises(InputError, match="node 0 is a child twice"):
        load_mesh(cube.write(tmp_path / "a.glb"))


@pytest.mark.parametrize("weights", ["one", "half", "none of some", "no attribute"])
def test_weights_of_skins(tmp_path, weights):
    cube = Cube()
    given = np.zeros((8, 4), "<f4")
    given[:, 0] = 0.5 if weights == "half" else 1
    given[-1] *= weights != "none of some"
    if weights != "no attribute":
        cube.primitive["attributes"] |= {
            "JOINTS_0": cube.add(np.zeros((8, 4), "<u1"), "VEC4"),
            "WEIGHTS_0": cube.add(given, "VEC4"),
        }
    cube.node |= {"skin": 0, "scale": [2, 1, 1]}
    cube.document["nodes"] += [{"scale": [2, 1, 1]}]
    cube.document |= {"skins": [{"joints": [1]}], "scenes": [{"nodes": [0, 1]}]}
    assert is_cube(load_mesh(cube.write(tmp_path / "a.glb")), (2, 1, 1))


def test_joints_outside_of_the_scene_are_refused(tmp_path):
    cube = Cube()
    cube.primitive["attributes"] |= {
        "JOINTS_0": cube.add(np.zeros((8, 4), "<u1"), "VEC4"),
        "WEIGHTS_0": cube.add(np.ones((8, 4), "<f4"), "VEC4"),
    }
    cube.node["skin"] = 0
    cube.document["nodes"] += [{"scale": [2, 1, 1]}]
    cube.document["skins"] = [{"joints": [1]}]
    with pytest.raises(InputError, match="a joint of a skin is not in the scene"):
        load_mesh(cube.write(tmp_path / "a.glb"))


def test_normalised_integers_in_draco(tmp_path):
    draco = pytest.importorskip("DracoPy", reason="the package that decodes Draco is missing")
    cube = Cube()
    packed = draco.encode((POINTS * 255).astype(np.int32), TRIANGLES.astype(np.uint32))
    view = cube.add(np.frombuffer(packed, np.uint8), "SCALAR")
    about = {"bufferView": view, "attributes": {"POSITION": 0}}
    cube.primitive["extensions"] = {"KHR_draco_mesh_compression": about}
    cube.accessors[0] |= {"componentType": 5121, "normalized": True}
    assert is_cube(load_mesh(cube.write(tmp_path / "a.glb")))
