"""glTF files, 1.0 and 2.0, as one binary file or with buffers beside them: their triangles.

The format's names stand in the specification, https://registry.khronos.org/glTF.
"""

import base64
import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

import numpy as np

from nefgpt.inputs.polygons import Soup, fan, plain, strips

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_POINTS_AND_LINES, _TRIANGLES, _STRIP, _FAN = range(4), 4, 5, 6
_DRACO = "KHR_draco_mesh_compression"
_INSTANCES = "EXT_mesh_gpu_instancing"
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression", "MESHOPT_compression")
_MOST = 50_000_000  # vertices of all instances of a primitive
_VISIBILITY = "KHR_node_visibility"
_KNOWN = {_DRACO, _INSTANCES, _VISIBILITY, "KHR_mesh_quantization", "KHR_binary_glTF"}
# Extensions that say how a surface looks, not where it is.
_LOOKS = ("KHR_materials_", "EXT_materials_", "ADOBE_materials_", "KHR_texture_", "EXT_texture_")
_LOOKS += ("MSFT_texture_", "KHR_lights_", "EXT_lights_", "KHR_techniques_webgl", "KHR_xmp")


class _Placed(NamedTuple):
    """One node: what it holds and where it is.

    Attributes
    ----------
    node : as the file describes it.
    matrix : float64 [4, 4], to the scene.
    """

    node: dict
    matrix: np.ndarray


def read(path: Path) -> Soup:
    """Read the triangles of a glTF file's scene.

    Normalised integers, sparse accessors, strips and fans, instances, skins at rest, morph
    targets with their weights, and Draco are read. Points and lines are left out.

    Raises
    ------
    ValueError
        for extensions that are required and not known here, by their names, and for files that
        break the format.
    """
    document, buffers, name = _open(path)
    _check_extensions(document)
    file = _File(document, buffers, path)
    pieces, notes, skipped, empty = [], [], 0, 0
    for placed in file.scene():
        for primitive, mesh in file.primitives(placed.node):
            if primitive.get("mode", _TRIANGLES) in _POINTS_AND_LINES:
                skipped += 1
            elif "POSITION" not in primitive.get("attributes", {}):
                empty += 1
            else:
                pieces += file.triangles(primitive, mesh, placed)
    outside = file.outside()
    notes += [f"{outside} meshes hidden or outside of the scene left out"] * bool(outside)
    notes += [f"{skipped} primitives of points or lines left out"] * bool(skipped)
    notes += [f"{empty} primitives without positions left out"] * bool(empty)
    starts = np.cumsum([0, *(len(points) for points, _ in pieces)])
    corners = [faces + start for (_, faces), start in zip(pieces, starts, strict=False)]
    faces = np.concatenate([*corners, np.zeros((0, 3), np.int64)])
    vertices = np.concatenate([*(points for points, _ in pieces), np.zeros((0, 3))])
    return Soup(vertices, faces.ravel(), np.full(len(faces), 3), name, len(pieces), tuple(notes))


def beside(path: Path) -> list[Path]:
    """The files that a .gltf file takes its buffers from; none of one that cannot be read."""
    try:
        document = json.loads(plain(path.read_bytes()))
        named = document.get("buffers", [])
        every = named.values() if isinstance(named, dict) else named
        uris = [one["uri"] for one in every if "uri" in one]
        return [_named(path, uri) for uri in uris if not uri.startswith("data:")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []  # it is refused, with a reason, where it is read


def _named(path: Path, uri: str) -> Path:
    """The file that a buffer's address names, which lies with the .gltf or below it."""
    found = path.parent / unquote(uri)
    if ".." in Path(unquote(uri)).parts or Path(unquote(uri)).is_absolute() or "://" in uri:
        raise ValueError(f"a buffer is outside of its folder: {uri[:80]!r}")
    return found


def _open(path: Path) -> tuple[dict, dict | list, str]:
    """The document, its buffers' bytes, by the document's keys, and the format's name."""
    content = path.read_bytes()
    if content[:4] == b"glTF":
        document, body, version = _chunks(content)
        name = f"glTF {version}.0, binary"
    else:
        document, body, name = json.loads(plain(content)), None, "glTF in text"
    if not isinstance(document, dict):
        raise ValueError("holds no glTF document")
    named = document.get("buffers", [])
    items = list(named.items() if isinstance(named, dict) else enumerate(named))
    buffers = {}
    for key, about in items:
        uri = about.get("uri")
        own = key in ("binary_glTF", "KHR_binary_glTF") or (uri is None and key == 0)
        if body is not None and own:
            buffers[key] = body
        elif uri is None:
            buffers[key] = None  # of an extension, which has bytes of its own
        elif uri.startswith("data:"):
            head, _, data = uri.partition(",")
            binary = head.endswith(";base64")
            buffers[key] = base64.b64decode(data) if binary else unquote_to_bytes(data)
        else:
            file = _named(path, uri)
            if not file.is_file():
                raise ValueError(f"its buffer {uri!r} is not beside it")
            buffers[key] = file.read_bytes()
        found = buffers[key]
        if found is not None and len(found) < about.get("byteLength", 0):
            raise ValueError(
                f"a buffer of {about['byteLength']} bytes is promised, {len(found)} found"
            )
    return document, buffers, name


def _chunks(content: bytes) -> tuple[dict, bytes | None, int]:
    """The document and the first buffer of a binary file, and its version."""
    if len(content) < 20:
        raise ValueError("the file ends in its header")
    version, length, first, kind = struct.unpack("<IIII", content[4:20])
    if version not in (1, 2):
        raise ValueError(f"glTF {version} is not known; versions 1 and 2 are")
    if length > len(content):
        raise ValueError(f"{length} bytes are promised, {len(content)} found; truncated?")
    if version == 1:
        if kind != 0:
            raise ValueError(f"glTF 1.0 with content of kind {kind}; 0 (JSON) is known")
        end = 20 + first
        if end > len(content):
            raise ValueError("its content is longer than the file")
        return json.loads(content[20:end]), content[end:length], 1
    chunks, start = [], 12
    content = content[:length]  # what follows is none of it
    while start + 8 <= len(content):
        size = int.from_bytes(content[start : start + 4], "little")
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + size]))
        start += 8 + size
    if start > len(content):
        raise ValueError("its chunks are longer than the file")
    if not chunks or chunks[0][0] != b"JSON":
        raise ValueError("its first chunk is no JSON")
    body = next((data for kind, data in chunks[1:] if kind == b"BIN\0"), None)
    return json.loads(chunks[0][1]), body, 2


def _check_extensions(document: dict) -> None:
    for name in sorted(map(str, document.get("extensionsRequired", []))):
        if name in _MESHOPT:
            raise ValueError(f"{name} is not read: write the file without that compression")
        if name not in _KNOWN and not name.startswith(_LOOKS):
            raise ValueError(f"it requires {name}, an extension that is not known here")
    if "WEB3D_quantized_attributes" in document.get("extensionsUsed", []):
        raise ValueError("WEB3D_quantized_attributes is not read: write the file without it")


class _File:
    """A document and its buffers, by the keys of version 2 (numbers) or 1 (names)."""

    def __init__(self, document: dict, buffers: dict, path: Path) -> None:
        self.document, self.buffers, self.path = document, buffers, path
        self.size = sum(len(data) for data in buffers.values() if data) + path.stat().st_size
        nodes = document.get("nodes", [])
        self.nodes = nodes if isinstance(nodes, dict) else dict(enumerate(nodes))
        self.matrices: dict[Any, np.ndarray] = {}

    def item(self, kind: str, key: object) -> dict:
        """One entry of a table of the document."""
        table = self.document.get(kind, [])
        named = isinstance(table, dict) and isinstance(key, str) and key in table
        if named or (isinstance(table, list) and type(key) is int and 0 <= key < len(table)):
            return table[key]
        raise ValueError(f"there is no entry {key!r:.60} in its {kind}")

    def scene(self) -> list[_Placed]:
        """All nodes that the scene shows; a root that is also a node's child is only that.

        Raises
        ------
        ValueError
            where a node is a child twice, so that it has no one place.
        """
        children = Counter(key for node in self.nodes.values() for key in node.get("children", []))
        if twice := [key for key, n in children.items() if n > 1]:
            raise ValueError(f"node {twice[0]!r:.60} is a child twice; write a copy for each place")
        scenes = self.document.get("scenes")
        if scenes:
            first = next(iter(scenes)) if isinstance(scenes, dict) else 0
            roots = self.item("scenes", self.document.get("scene", first)).get("nodes", [])
        else:
            roots = [key for key in self.nodes if key not in children]
        roots = sorted(roots, key=lambda key: key in children)
        found, rest = [], [(root, np.eye(4)) for root in reversed(roots)]
        while rest:
            key, above = rest.pop()
            if key in self.matrices:
                continue
            node = self.item("nodes", key)
            if not node.get("extensions", {}).get(_VISIBILITY, {}).get("visible", True):
                continue
            self.matrices[key] = above @ _matrix(node)
            found.append(_Placed(node, self.matrices[key]))
            rest += [(child, self.matrices[key]) for child in reversed(node.get("children", []))]
        return found

    def outside(self) -> int:
        """How many nodes with meshes the scene does not hold or show."""
        rest = (node for key, node in self.nodes.items() if key not in self.matrices)
        return sum("mesh" in node or bool(node.get("meshes")) for node in rest)

    def primitives(self, node: dict) -> list[tuple[dict, dict]]:
        """The primitives of a node, each with its mesh."""
        keys = node.get("meshes", [node["mesh"]] if "mesh" in node else [])
        if "instanceSkin" in node:
            raise ValueError("skins of glTF 1.0 are not read")
        meshes = [self.item("meshes", key) for key in keys]
        return [(primitive, mesh) for mesh in meshes for primitive in mesh.get("primitives", [])]

    def triangles(self, primitive: dict, mesh: dict, placed: _Placed) -> list[tuple]:
        """Vertices [V, 3] in the scene and faces [F, 3] of a primitive, once per instance."""
        points, faces = self._geometry(primitive)
        weights = placed.node.get("weights", mesh.get("weights", []))
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                points = points + weight * self.values(target["POSITION"])
        if len(faces) and (faces.min() < 0 or faces.max() >= len(points)):
            raise ValueError("a face names a vertex that is not there")
        if "skin" in placed.node and "WEIGHTS_0" in primitive["attributes"]:
            return [(self._skinned(points, primitive, placed.node["skin"]), faces)]
        found, instances = [], self._instances(placed.node)
        if len(points) * len(instances) > _MOST:
            raise ValueError(f"{len(instances)} instances of {len(points)} vertices are too many")
        for instance in instances:
            matrix = placed.matrix @ instance
            moved = points @ matrix[:3, :3].T + matrix[:3, 3]
            mirrored = np.linalg.det(matrix[:3, :3]) < 0
            found.append((moved, faces[:, ::-1] if mirrored else faces))
        return found

    def _geometry(self, primitive: dict) -> tuple[np.ndarray, np.ndarray]:
        packed = primitive.get("extensions", {}).get(_DRACO)
        mode = primitive.get("mode", _TRIANGLES)
        if packed:
            points, faces = self._draco(packed)
            about = self.item("accessors", primitive["attributes"]["POSITION"])
            return _fractions(points, about), faces
        points = self.values(primitive["attributes"]["POSITION"])
        if points.shape[1:] != (3,):
            raise ValueError("its positions have not three numbers each")
        order = primitive.get("indices")
        indices = np.arange(len(points)) if order is None else self.values(order).ravel()
        indices = indices.astype(np.int64)
        if mode == _STRIP:
            return points, strips(indices)
        if mode == _FAN:
            return points, fan(indices)
        if mode != _TRIANGLES or len(indices) % 3:
            raise ValueError(f"{len(indices)} indices of mode {mode} are no triangles")
        return points, indices.reshape(-1, 3)

    def _draco(self, packed: dict) -> tuple[np.ndarray, np.ndarray]:
        try:
            import DracoPy

            decoded = DracoPy.decode(self.view(packed["bufferView"]))
            return np.asarray(decoded.points, np.float64), np.asarray(decoded.faces, np.int64)
        # Its errors are of many types; each is the file's fault.
        except Exception as error:
            raise ValueError(f"{_DRACO}: cannot be decoded ({error})") from error

    def _instances(self, node: dict) -> list[np.ndarray]:
        about = node.get("extensions", {}).get(_INSTANCES)
        if not about:
            return [np.eye(4)]
        found = {name: self.values(key) for name, key in about["attributes"].items()}
        names = [name for name in ("TRANSLATION", "ROTATION", "SCALE") if name in found]
        if not names:
            return [np.eye(4)]
        rows = [
            dict(zip(map(str.lower, names), values, strict=True))
            for values in zip(*(found[name] for name in names), strict=True)
        ]
        return [_matrix(row) for row in rows]

    def _skinned(self, points: np.ndarray, primitive: dict, key: object) -> np.ndarray:
        """Vertices in the scene, moved by the joints at rest."""
        skin, attributes = self.item("skins", key), primitive["attributes"]
        if not set(skin["joints"]) <= set(self.matrices):
            raise ValueError("a joint of a skin is not in the scene")
        joints = np.stack([self.matrices[joint] for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            inverse = self.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            joints = joints @ inverse.swapaxes(1, 2)[: len(joints)]
        moved, total = np.zeros((len(points), 4, 4)), np.zeros((len(points), 1, 1))
        for name in sorted(name for name in attributes if name.startswith("WEIGHTS_")):
            weights = self.values(attributes[name])
            chosen = self.values(attributes[name.replace("WEIGHTS", "JOINTS")]).astype(np.int64)
            moved += np.einsum("vk,vkij->vij", weights, joints[chosen])
            total += weights.sum(axis=1)[:, None, None]
        # Weights add up to one, or should; a vertex without any follows its first joint.
        first = joints[self.values(attributes["JOINTS_0"])[:, 0].astype(np.int64)]
        moved = np.where(total > 0, moved / np.where(total > 0, total, 1), first)
        return np.einsum("vij,vj->vi", moved[:, :3, :3], points) + moved[:, :3, 3]

    def view(self, key: object) -> bytes:
        """The bytes of a view of a buffer."""
        about = self.item("bufferViews", key)
        data = self.buffers.get(about.get("buffer"))
        if data is None:
            packed = [name for name in about.get("extensions", {}) if name in _MESHOPT]
            raise ValueError(f"its bytes are in {packed[0]}" if packed else "a buffer is missing")
        start = about.get("byteOffset", 0)
        size = about.get("byteLength", 0)
        if start < 0 or size < 0 or start + size > len(data):
            raise ValueError("a view is longer than its buffer")
        return data[start : start + size]

    def values(self, key: object) -> np.ndarray:
        """The values of an accessor, float64 [n, width]; normalised integers as fractions."""
        about = self.item("accessors", key)
        kind, n = np.dtype(_TYPES[about["componentType"]]), about["count"]
        if not 0 <= n <= self.size:
            raise ValueError(f"an accessor claims {n} elements")
        width = _WIDTHS[about["type"]]
        if "bufferView" in about:
            stride = about.get("byteStride") or self.item("bufferViews", about["bufferView"]).get(
                "byteStride"
            )
            values = self._array(about, kind, n, width, stride)
        else:
            if "sparse" not in about and n:
                raise ValueError("an accessor has no bytes")
            values = np.zeros((n, width), kind)
        if "sparse" in about:
            sparse = about["sparse"]
            where = sparse["indices"]
            rows = self._array(where, np.dtype(_TYPES[where["componentType"]]), sparse["count"], 1)
            if rows.size and rows.max() >= n:
                raise ValueError("a sparse accessor names an element that is not there")
            values = values.copy()
            values[rows[:, 0]] = self._array(sparse["values"], kind, sparse["count"], width)
        return _fractions(values.astype(np.float64), about)

    def _array(
        self, about: dict, kind: np.dtype, n: int, width: int, stride: int | None = None
    ) -> np.ndarray:
        data, start = self.view(about["bufferView"]), about.get("byteOffset", 0)
        step = stride or kind.itemsize * width
        end = start + step * (n - 1) + kind.itemsize * width if n else start
        if start < 0 or n < 0 or step < kind.itemsize * width or end > len(data):
            raise ValueError("an accessor is longer than its view")
        if not n:
            return np.zeros((0, width), kind)
        return np.ndarray((n, width), kind, data, start, (step, kind.itemsize))


def _fractions(values: np.ndarray, about: dict) -> np.ndarray:
    """Values of the accessor `about`, as fractions where they are normalised integers."""
    kind = np.dtype(_TYPES[about["componentType"]])
    if about.get("normalized") and kind.kind in "iu":
        return np.maximum(values / np.iinfo(kind).max, -1)
    return values


def _matrix(node: dict) -> np.ndarray:
    """A node's matrix, or its scale, rotation (a quaternion, x y z w) and translation."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    turn = np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64)
    x, y, z, w = turn / (np.linalg.norm(turn) or 1)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.asarray(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
