"""Broken meshes and configurations: a right result or one clear message, in bounded memory and
time.

One process with little memory left handles all cases; hypothesis breaks good files for it, and
the hand-made cases are those that random breakage does not find.
"""

import json
import math
import multiprocessing
import resource
import struct
import traceback
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nefgpt import config
from nefgpt.base.errors import InputError
from nefgpt.inputs import listing, meshes
from nefgpt.signals import sdf
from nefgpt.signals.settings import Sampling

ROOT = Path(__file__).parents[2]
SDF = Sampling(n_uniform=1000, n_near=1000, sigma=0.01, extent=0.9)
SPARE = 400 << 20  # bytes that a case may take
SECONDS = 30.0  # that a case may take
CLAIM = 10_000_000


def check_mesh(path: str) -> None:
    """Load and sample; what is accepted lies between bounds that need no triangle."""
    mesh = meshes.load_mesh(path)
    try:
        cloud = sdf.sample_sdf(mesh, SDF, seed=0)
    except InputError as error:  # of a mesh, which knows no file
        raise InputError(f"{path}: {error}") from error
    points, distance = cloud["points"][::10].astype(float), np.abs(cloud["sdf"][::10])
    corners = (np.asarray(mesh.vertices)[np.unique(mesh.faces)] - cloud["center"]) * cloud["scale"]
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert math.isclose((high - low).max(), SDF.extent, rel_tol=1e-6)
    assert np.abs(cloud["surface"]).max() <= SDF.extent / 2 + 1e-6
    nearest = np.linalg.norm(points[:, None] - corners[:500], axis=2).min(axis=1)
    box = np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=1)
    assert (distance <= nearest + 1e-4).all() and (distance >= box - 1e-4).all()


def check_config(path: str) -> None:
    """Load; what is accepted is a fixed point, and its shapes can be listed."""
    values = config.load(Path(path))
    assert config.validate(asdict(values)) == values
    if (values.dataset.n_shapes or 0) < 10_000:
        assert listing.list_shapes(values.dataset, Path("results"), values.seed)


def serve(pipe) -> None:
    """Answer each path with None, a refusal's message or a traceback's text."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, size + SPARE))
    while True:
        path = pipe.recv()
        try:
            (check_config if path.endswith(".yaml") else check_mesh)(path)
            pipe.send(("accepted", ""))
        except InputError as error:
            pipe.send(("refused", str(error)))
        except BaseException:
            pipe.send(("raised", traceback.format_exc()))


class Worker:
    """The process that is fed with broken files."""

    def __init__(self, folder: Path):
        self.folder = folder
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def feed(self, name: str, content: bytes) -> tuple[str, str]:
        """What becomes of a file: ("accepted", "") or ("refused", message)."""
        path = self.folder / name
        path.write_bytes(content)
        self.pipe.send(str(path))
        assert self.pipe.poll(SECONDS), f"{name} hangs"
        verdict, message = self.pipe.recv()
        assert verdict != "raised" and "MemoryError" not in message, message
        if verdict == "refused":
            assert len(message) < 3000
            assert str(path) in message or name.endswith(".yaml"), message
        return verdict, message


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("broken"))
    yield worker
    worker.process.kill()
    worker.process.join()


def good_meshes() -> dict[str, bytes]:
    sphere = trimesh.creation.icosphere(subdivisions=1)
    made = {name: sphere.export(file_type=name) for name in ("obj", "off", "ply", "stl", "glb")}
    made["ascii.ply"] = sphere.export(file_type="ply", encoding="ascii")
    made["ascii.stl"] = sphere.export(file_type="stl_ascii")
    return {n: text.encode() if isinstance(text, str) else text for n, text in made.items()}


GOOD = good_meshes()
TINY = (ROOT / "config/tiny.yaml").read_text()
ODD_TEXT = [
    b"nan",
    b"-inf",
    b"1e308",
    b"1e-320",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"4294967296",
]
ODD_TEXT += [b"10000000", b"", b"x", b"\0", b"1/0/0", b"\xff\xfe", b"[", b"{", b"&a *a", b"!!int x"]
ODD_BYTES = [struct.pack("<I", value) for value in (0, 1, CLAIM, 2**31, 2**32 - 1)]
ODD_BYTES += [struct.pack("<f", value) for value in (math.nan, math.inf, -3e38, 1e-40)]
MUTATION = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.none()),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 200)),
    st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 200)),
    st.tuples(st.just("word"), st.floats(0, 1), st.sampled_from(ODD_TEXT)),
    st.tuples(st.just("bytes"), st.floats(0, 1), st.sampled_from(ODD_BYTES)),
)


def mutate(content: bytes, mutations: list) -> bytes:
    for kind, where, value in mutations:
        at = int(where * max(len(content) - 1, 0))
        if kind == "cut":
            content = content[:at]
        elif kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
        elif kind == "drop":
            content = content[:at] + content[at + value :]
        elif kind == "repeat":
            content = content[: at + value] + content[at:]
        elif kind == "word":
            words = content.split(b" ")
            words[int(where * (len(words) - 1))] = value
            content = b" ".join(words)
        elif kind == "bytes":
            at -= at % 2
            content = content[:at] + value + content[at + 4 :]
    return content


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.lists(MUTATION, min_size=1, max_size=4))
def test_broken_meshes(worker, kind, mutations):
    worker.feed(f"mesh.{kind}", mutate(GOOD[kind], mutations))


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_whole_meshes_are_accepted(worker, kind):
    assert worker.feed(f"whole.{kind}", GOOD[kind]) == ("accepted", "")


CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4")
FACES = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]], "<u4")


def glb(**changes) -> bytes:
    """A tetrahedron with parts of its description replaced."""
    vectors = {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}
    numbers = {"bufferView": 1, "componentType": 5125, "count": 12, "type": "SCALAR"}
    vectors |= changes.pop("vectors", {})
    numbers |= changes.pop("numbers", {})
    document = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 96}],
        "bufferViews": [{"buffer": 0, "byteOffset": i, "byteLength": 48} for i in (0, 48)],
        "accessors": [{k: v for k, v in a.items() if v is not None} for a in (vectors, numbers)],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    } | changes
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    blob = CORNERS.tobytes() + FACES.tobytes()
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def ply(kind: str, n_vertices: int, n_faces: int, length: str = "uchar") -> bytes:
    head = f"ply\nformat {kind} 1.0\nelement vertex {n_vertices}\nproperty float x\n"
    head += f"property float y\nproperty float z\nelement face {n_faces}\n"
    head += f"property list {length} int vertex_indices\nend_header\n"
    if kind == "ascii":
        return head.encode() + b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n"
    return head.encode() + CORNERS.tobytes() + b"\3" + FACES[0].tobytes()


LITTLE = "binary_little_endian"
FALSE_CLAIMS = {
    "faces.off": f"OFF\n4 {CLAIM} 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n".encode(),
    "fused.off": f"OFF4 {CLAIM} 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n".encode(),
    "vertices.off": f"OFF\n{CLAIM} 1 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n".encode(),
    "cut.off": GOOD["off"][: len(GOOD["off"]) * 3 // 4].rsplit(b"\n", 1)[0],
    "faces.ply": ply(LITTLE, 4, CLAIM),
    "vertices.ply": ply(LITTLE, CLAIM, 1),
    "list.ply": ply(LITTLE, 4, 1, "uint"),
    "negative.ply": ply(LITTLE, -4, -1),
    "ascii-faces.ply": ply("ascii", 4, CLAIM),
    "ascii-vertices.ply": ply("ascii", CLAIM, 1),
    "faces.stl": bytes(80) + struct.pack("<I", CLAIM) + bytes(200),
    "face.obj": f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 {CLAIM}\n".encode(),
    "far.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 " + b"9" * 40 + b"\n",
    "huge.obj": b"v -1.7e308 0 0\nv 1.7e308 0 0\nv 0 1 0\nf 1 2 3\n",
    "minute.obj": b"v 0 0 0\nv 1e-310 0 0\nv 0 1e-310 0\nf 1 2 3\n",
    "vectors.glb": glb(vectors={"count": CLAIM}),
    "numbers.glb": glb(numbers={"count": 3 * CLAIM}),
    "zero-vectors.glb": glb(vectors={"count": CLAIM, "bufferView": None}),
    "zero-numbers.glb": glb(numbers={"count": 3 * CLAIM, "bufferView": None}),
    "outside.glb": glb(buffers=[{"byteLength": 96, "uri": "../../../../../../etc/passwd"}]),
    "buffer.glb": glb(bufferViews=[{"buffer": 7, "byteLength": 48}]),
    "chunk.glb": glb()[:12] + struct.pack("<I", 2**32 - 1) + glb()[16:],
    "deep.glb": glb(extras=None).replace(b"null", b"[" * 4),
}


@pytest.mark.parametrize("name", FALSE_CLAIMS)
def test_false_claims_are_refused(worker, name):
    assert worker.feed(name, FALSE_CLAIMS[name])[0] == "refused"


NODES = {
    "loop": [{"mesh": 0, "children": [1]}, {"children": [0]}],
    "doubling": [*({"children": [i + 1, i + 1]} for i in range(60)), {"mesh": 0}],
}


@pytest.mark.parametrize(("name", "answer"), [("loop", "accepted"), ("doubling", "refused")])
def test_odd_scenes_end(worker, name, answer):
    assert worker.feed(f"{name}.glb", glb(nodes=NODES[name]))[0] == answer


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.sampled_from([0, -1, 10**6, 10**9, 10**30, 10**400, 1e-320]),
    st.integers(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), st.integers(), max_size=2),
    st.recursive(st.just(0), lambda inner: st.lists(inner, max_size=3), max_leaves=50),
)


def paths_of(block: dict, prefix: tuple = ()) -> list[tuple]:
    inner = [p for k, v in block.items() if isinstance(v, dict) for p in paths_of(v, (*prefix, k))]
    return [*((*prefix, name) for name in block), *inner]


FULL = asdict(config.load(ROOT / "config/tiny.yaml"))
PATHS = paths_of(FULL)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(PATHS), ODD_VALUES), min_size=1, max_size=3))
def test_odd_values_in_configurations(worker, changes):
    values = yaml.safe_load(yaml.safe_dump(FULL))
    for (*parents, last), value in changes:
        block = values
        for name in parents:
            block = block.get(name) if isinstance(block, dict) else None
        if isinstance(block, dict):
            block[last] = value
    worker.feed("values.yaml", yaml.safe_dump(values, sort_keys=False).encode())


@settings(max_examples=150)
@given(st.lists(MUTATION, min_size=1, max_size=4))
def test_broken_configurations(worker, mutations):
    worker.feed("broken.yaml", mutate(TINY.encode(), mutations))


def laughs(key: str) -> str:
    """Aliases of aliases: 4 ** 40 words when written out."""
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 4)}]" for i in range(1, 41)]
    return "\n".join([*lines, TINY, f"{key}: *a40"])


ODD_YAML = {
    "aliases": laughs("seed"),
    "unknown aliases": laughs("lol"),
    "itself": TINY + "\nseed: &a [*a]\n",
    "depth": TINY + "\nseed: " + "[" * 5000,
    "closed depth": TINY + "\nseed: " + "[" * 3000 + "]" * 3000,
    "date": TINY + "\nseed: 2024-13-45\n",
    "zone": TINY + "\nseed: 2001-12-14t21:59:43+99:99\n",
    "digits": TINY + "\nseed: " + "9" * 5000,
    "many shapes": TINY.replace("n_shapes: 14", "n_shapes: 1000000000000"),
    "many steps": TINY.replace("steps: 40", "steps: 1000000000000000000000"),
    "nan": TINY + "\nfield: {frequency: .nan}\n",
    "infinite": TINY + "\nfield: {frequency: .inf}\n",
    "code": TINY + "\nseed: !!python/object/apply:os.system ['exit 1']\n",
    "number": TINY + "\nseed: !!int ''\n",
    "truth": TINY + "\nseed: !!bool maybe\n",
    "time": TINY + "\nseed: !!timestamp foo\n",
    "key": TINY + "\n? [1, 2]\n: 3\n",
    "keys": TINY + "\n1: 2\nnull: 3\n",
    "list": "- 1\n",
    "nothing": "",
    "null byte": "name: \0",
    "surrogate": TINY.replace("name: tiny", 'name: "\\ud800"'),
    "two documents": TINY + "\n---\n" + TINY,
    "folder": TINY.replace("name: tiny", "name: ../elsewhere"),
    "command": TINY.replace("name: tiny", "name: $(reboot)"),
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_odd_yaml_is_refused(worker, name):
    verdict, message = worker.feed("odd.yaml", ODD_YAML[name].encode())
    assert verdict == "refused" and "configuration" in message
