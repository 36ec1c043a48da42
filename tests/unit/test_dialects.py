"""A solid, written in every dialect of every format and read back: its area and volume stay."""

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nefgpt.inputs.meshes import read_mesh

Prism = tuple[np.ndarray, list, float, float]


@st.composite
def prisms(draw) -> Prism:
    """Vertices, polygons, area and volume of a prism over a star-shaped, often concave polygon."""
    n = draw(st.integers(3, 9))
    radii = np.array(draw(st.lists(st.integers(2, 16), min_size=n, max_size=n))) / 8
    angles = 2 * np.pi * (np.arange(n) + 0.25) / n
    flat = np.round(64 * radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)) / 64
    height = draw(st.integers(1, 8)) / 4
    vertices = np.concatenate([np.column_stack([flat, np.full(n, z)]) for z in (0.0, height)])
    after = np.roll(np.arange(n), -1)
    polygons = [list(range(n))[::-1], list(range(n, 2 * n))]
    polygons += [[i, int(after[i]), int(after[i]) + n, i + n] for i in range(n)]
    base = np.cross(flat, flat[after]).sum() / 2
    sides = np.linalg.norm(flat - flat[after], axis=1).sum() * height
    vertices = vertices[:, draw(st.permutations(range(3)))]
    vertices = vertices + np.array(draw(st.tuples(*[st.integers(-4, 4)] * 3)))
    return vertices, polygons, 2 * base + sides, base * height


def check(path, prism: Prism, unit: float = 1.0, rel: float = 1e-5, copies: int = 1) -> None:
    """The mesh in a file is the prism, its faces outward."""
    read = read_mesh(path)
    mesh, (_, polygons, area, volume) = read.mesh, prism
    corners = np.asarray(mesh.vertices)[mesh.faces] / unit
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.reshape(-1, 3).mean(axis=0)
    assert mesh.is_watertight
    assert len(mesh.faces) == copies * sum(len(polygon) - 2 for polygon in polygons)
    assert np.linalg.norm(normals, axis=1).sum() / 2 == pytest.approx(copies * area, rel=rel)
    found = ((corners[:, 0] - middle) * normals).sum() / 6
    assert found == pytest.approx(copies * volume, rel=rel)


def triangles(polygons: list, vertices: np.ndarray) -> np.ndarray:
    """Of a prism: the two caps around their middles would need new points, so ears are cut."""
    from nefgpt.inputs.polygons import soup, triangulate

    return triangulate(soup(vertices.tolist(), polygons, "", 1))


SLASHES = ["{0}", "{0}/1", "{0}//1", "{0}/1/1"]


@settings(max_examples=60, deadline=None)
@given(prisms(), st.data())
def test_obj(tmp_path_factory, prism, data):
    vertices, polygons, *_ = prism
    draw, path = data.draw, tmp_path_factory.mktemp("obj") / "mesh.obj"
    gap = draw(st.sampled_from([" ", "\t", "  ", " \t"]))
    indent = draw(st.sampled_from(["", " ", "\t"]))
    end = draw(st.sampled_from(["\n", "\r\n", " # note\n", "\n\n# note\n"]))
    slash, unit = draw(st.sampled_from(SLASHES)), 10.0 ** draw(st.integers(-9, 12))
    split, relative = draw(st.integers(0, len(polygons))), draw(st.booleans())
    wrap = draw(st.booleans())

    def face(polygon: list, known: int) -> str:
        numbers = [i - known if relative else i + 1 for i in polygon]
        words = [slash.format(i) for i in numbers]
        text = gap.join(["f", *words])
        return text.replace(gap + words[2], f" \\\n{gap}{words[2]}", 1) if wrap else text

    lines = ["vt 0 0", "vn 0 0 1", "o one"]
    lines += [gap.join(["v", *(repr(float(x * unit)) for x in point)]) for point in vertices]
    lines += [face(polygon, len(vertices)) for polygon in polygons[:split]]
    lines += ["g two", gap.join(["v", "7", "7", "7"])]
    lines += [face(polygon, len(vertices) + 1) for polygon in polygons[split:]]
    text = "".join(indent + line + end for line in lines)
    path.write_bytes(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    check(path, prism, unit, rel=1e-9)


PLY_KINDS = {"uchar": "B", "int": "i", "ushort": "H", "uint": "I", "float": "f", "double": "d"}


@settings(max_examples=60, deadline=None)
@given(prisms(), st.data())
def test_ply(tmp_path_factory, prism, data):
    vertices, polygons, *_ = prism
    draw, path = data.draw, tmp_path_factory.mktemp("ply") / "mesh.ply"
    order = draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    real = draw(st.sampled_from(["float", "double"]))
    length, index = draw(st.sampled_from(["uchar", "int"])), draw(st.sampled_from(["int", "uint"]))
    name = draw(st.sampled_from(["vertex_indices", "vertex_index"]))
    colour, flags, edges = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    first = draw(st.booleans())  # the faces stand before the vertices
    strip = draw(st.booleans())  # the sides are one strip

    def element(title: str, properties: list, rows: list) -> tuple[list, list]:
        head = [f"element {title} {len(rows)}", *(f"property {one}" for one in properties)]
        return head, rows

    points = [[(real, x) for x in point] + [("uchar", 9)] * colour for point in vertices]
    n = len(vertices) // 2
    some = polygons[:2] if strip else polygons
    faces = [[("uchar", 1)] * flags + [(length, len(p)), *((index, i) for i in p)] for p in some]
    at = element("vertex", [f"{real} x", f"{real} y", f"{real} z"] + ["uchar red"] * colour, points)
    about = ["uchar flags"] * flags + [f"list {length} {index} {name}"]
    blocks = [element("face", about, faces), at] if first else [at, element("face", about, faces)]
    if strip:
        around = [i for k in [*range(n), 0] for i in (k + n, k)]
        row = [("int", 2 * n + 3), *(("int", i) for i in [*around, -1])]
        blocks.append(element("tristrips", ["list int int vertex_indices"], [row]))
    if edges:
        blocks.append(element("edge", ["int vertex1"], [[("int", 0)], [("int", 1)]]))
    head = ["ply", f"format {order} 1.0", "comment written by hand"]
    head += [line for lines, _ in blocks for line in lines]
    content = ("\n".join([*head, "end_header"]) + "\n").encode()
    for _, rows in blocks:
        for row in rows:
            if order == "ascii":
                content += (
                    " ".join(repr(float(v)) if k == real else str(v) for k, v in row) + "\n"
                ).encode()
            else:
                mark = ">" if "big" in order else "<"
                content += b"".join(struct.pack(mark + PLY_KINDS[k], v) for k, v in row)
    path.write_bytes(content)
    check(path, prism)


@settings(max_examples=40, deadline=None)
@given(prisms(), st.data())
def test_off(tmp_path_factory, prism, data):
    vertices, polygons, *_ = prism
    draw, path = data.draw, tmp_path_factory.mktemp("off") / "mesh.off"
    kind = draw(st.sampled_from(["OFF", "off", "COFF", "NOFF", "STOFF", "CNOFF", ""]))
    letters = kind.upper().removesuffix("OFF")
    tail = {"": "", "C": " 255 0 0 255", "N": " 0 0 1", "ST": " 0.5 0.5", "CN": " 0 0 1 1 1 1 1"}
    colour = draw(st.sampled_from(["", " 255 0 0", " 0.1 0.2 0.3 1", "  # red"]))
    gap = draw(st.sampled_from(["\n", " ", "\n# by hand\n\n"])) if kind else ""
    fused = draw(st.booleans()) and kind == "OFF"
    lines = [f"{kind}{'' if fused else gap}{len(vertices)} {len(polygons)} 0"]
    lines += [" ".join(repr(float(x)) for x in point) + tail[letters] for point in vertices]
    lines += [" ".join(map(str, [len(p), *p])) + colour for p in polygons]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    path.write_text(end.join(lines) + end, newline="")
    check(path, prism, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(prisms(), st.data())
def test_stl(tmp_path_factory, prism, data):
    vertices, polygons, *_ = prism
    draw, path = data.draw, tmp_path_factory.mktemp("stl") / "mesh.stl"
    corners = vertices[triangles(polygons, vertices)]
    if draw(st.booleans()):
        title = draw(st.sampled_from([b"", b"solid by hand", b"made by a program"]))
        count = draw(st.sampled_from([len(corners), 0, 2**32 - 1]))
        rest = (
            draw(st.sampled_from([b"", b"\0" * 100, b"the end"])) if count == len(corners) else b""
        )
        facets = b"".join(struct.pack("<12fH", 0, 0, 0, *c.ravel(), 0) for c in corners)
        path.write_bytes(title.ljust(80, b" ") + struct.pack("<I", count) + facets + rest)
    else:
        indent, upper = draw(st.sampled_from(["", "  ", "\t"])), draw(st.booleans())
        text = "solid by hand\n"
        for corner in corners:
            text += f"{indent}facet normal 0 0 0\n{indent}outer loop\n"
            text += "".join(f"{indent}vertex {x:.9e} {y:.9e} {z:.9e}\n" for x, y, z in corner)
            text += f"{indent}endloop\n{indent}endfacet\n"
        text += draw(st.sampled_from(["endsolid by hand\n", "endsolid", ""]))
        path.write_text(text.upper() if upper else text)
    check(path, prism)


def gltf(draw, prism: Prism, folder, version: int = 2):
    """Write a prism as one of many glTF files; its path, and how many copies it shows."""
    vertices, polygons, *_ = prism
    document = {"asset": {"version": f"{version}.0"}, "bufferViews": [], "accessors": []}
    blob = b""

    def view(array: np.ndarray) -> int:
        nonlocal blob
        blob += b"\0" * (-len(blob) % 4)
        data = np.ascontiguousarray(array).tobytes()
        document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(blob), "byteLength": len(data)}
        )
        blob += data
        return len(document["bufferViews"]) - 1

    def accessor(array: np.ndarray, kind: str, **more) -> int:
        code = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
        about = {"bufferView": view(array), "count": len(array), "type": kind}
        about["componentType"] = code[array.dtype.str[1:]]
        document["accessors"].append(about | more)
        return len(document["accessors"]) - 1

    node, required = {"mesh": 0}, set()
    storage = draw(st.sampled_from(["float", "int16", "sparse", "strided"]))
    reach = float(np.abs(vertices).max())
    if storage == "int16":
        # Coordinates are multiples of 1/64, so that nothing is lost.
        whole = np.zeros((len(vertices), 4), "<i2")
        whole[:, :3] = np.round(vertices * 64)
        node["scale"] = [32767 / 64] * 3
        position = accessor(whole, "VEC3", normalized=True)
        document["bufferViews"][-1]["byteStride"] = 8
        required.add("KHR_mesh_quantization")
    elif storage == "sparse":
        moved = vertices.astype("<f4").copy()
        moved[1::2] = 0
        rows = np.arange(1, len(vertices), 2).astype("<u2")
        sparse = {"count": len(rows), "indices": {"bufferView": view(rows), "componentType": 5123}}
        sparse["values"] = {"bufferView": view(vertices[1::2].astype("<f4"))}
        position = accessor(moved, "VEC3", sparse=sparse)
    elif storage == "strided":
        wide = np.full((len(vertices), 6), 9, "<f4")
        wide[:, 3:] = vertices
        position = accessor(wide, "VEC3", byteOffset=12)
        document["bufferViews"][-1]["byteStride"] = 24
    else:
        position = accessor(vertices.astype("<f4"), "VEC3")
    n, number = len(vertices) // 2, draw(st.sampled_from(["<u1", "<u2", "<u4"]))
    caps = triangles(polygons[:2], vertices).ravel()
    around = np.array([i for k in [*range(n), 0] for i in (k + n, k)])
    parts = (
        [(4, caps), (5, around)]
        if draw(st.booleans())
        else [(4, caps), *((6, np.array(polygon)) for polygon in polygons[2:])]
    )
    primitives = [
        {
            "attributes": {"POSITION": position},
            "mode": mode,
            "indices": accessor(indices.astype(number), "SCALAR"),
        }
        for mode, indices in parts
    ]
    primitives += [{"attributes": {}}] * draw(st.booleans())
    primitives += [{"attributes": {"POSITION": position}, "mode": 1}] * draw(st.booleans())
    document["meshes"] = [{"primitives": primitives}]
    copies = 1
    if draw(st.booleans()):
        node |= {"scale": [-x for x in node.get("scale", [1, 1, 1])]}
    if draw(st.booleans()):
        copies = 3
        places = np.array([[0, 0, 0], [40, 0, 0], [0, 40, 0]], "<f4") / node.get("scale", [1])[0]
        turns = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0]], "<f4")
        attributes = {
            "TRANSLATION": accessor(places.astype("<f4"), "VEC3"),
            "ROTATION": accessor(turns, "VEC4"),
        }
        node["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
        required |= {"EXT_mesh_gpu_instancing"} if draw(st.booleans()) else set()
    node["rotation"], node["translation"] = [0.5, 0.5, 0.5, 0.5], [1, 2, reach]
    root = {"children": [1], "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]}
    document |= {"nodes": [root, node], "scenes": [{"nodes": [0]}], "scene": 0}
    document["extensionsRequired"] = sorted(required)
    buffer = {"byteLength": len(blob)}
    document["buffers"] = [buffer]
    packing = draw(st.sampled_from(["glb", "beside", "data"]))
    if packing == "glb":
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        blob += b"\0" * (-len(blob) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(blob), b"BIN\0") + blob
        path = folder / "mesh.glb"
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path, copies
    if packing == "beside":
        (folder / "the buffer.bin").write_bytes(blob)
        buffer["uri"] = "the%20buffer.bin"
    else:
        coded = base64.b64encode(blob).decode()
        buffer["uri"] = f"data:application/octet-stream;base64,{coded}"
    path = folder / "mesh.gltf"
    path.write_text(json.dumps(document))
    return path, copies


@settings(max_examples=80, deadline=None)
@given(prisms(), st.data())
def test_gltf(tmp_path_factory, prism, data):
    path, copies = gltf(data.draw, prism, tmp_path_factory.mktemp("gltf"))
    check(path, prism, copies=copies)


@settings(max_examples=20, deadline=None)
@given(prisms(), st.booleans())
def test_gltf_1(tmp_path_factory, prism, binary):
    vertices, polygons, *_ = prism
    faces = triangles(polygons, vertices).astype("<u2")
    points = vertices.astype("<f4").tobytes()
    blob = points + faces.tobytes()
    name = "binary_glTF" if binary else "data"
    document = {
        "asset": {"version": "1.0"},
        "buffers": {name: {"byteLength": len(blob), "type": "arraybuffer"}},
        "bufferViews": {
            "points": {"buffer": name, "byteOffset": 0, "byteLength": len(points)},
            "faces": {"buffer": name, "byteOffset": len(points), "byteLength": faces.nbytes},
        },
        "accessors": {
            "a": {"bufferView": "points", "byteOffset": 0, "byteStride": 12, "count": len(vertices),
                  "componentType": 5126, "type": "VEC3"},
            "b": {"bufferView": "faces", "byteOffset": 0, "count": faces.size,
                  "componentType": 5123, "type": "SCALAR"},
        },
        "meshes": {"m": {"primitives": [
            {"attributes": {"POSITION": "a"}, "indices": "b", "mode": 4}]}},
        "nodes": {"n": {"meshes": ["m"], "children": [], "translation": [1, 2, 3]}},
        "scenes": {"s": {"nodes": ["n"]}},
        "scene": "s",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("gltf1")
    if binary:
        text = json.dumps(document).encode()
        length = 20 + len(text) + len(blob)
        head = struct.pack("<4sIIII", b"glTF", 1, length, len(text), 0)
        path = folder / "mesh.glb"
        path.write_bytes(head + text + blob)
    else:
        document["buffers"][name]["uri"] = "data.bin"
        (folder / "data.bin").write_bytes(blob)
        path = folder / "mesh.gltf"
        path.write_text(json.dumps(document))
    check(path, prism)
