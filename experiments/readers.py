"""Which readers of meshes get which files right.

    python experiments/readers.py --out experiments/results/readers.csv [FILE_OR_FOLDER ...]

Reads every case of `tests/cases`, and whatever else is named, with each reader that is installed,
and compares area and extent with what is right: of the cases by hand, of other files by
`nefgpt.inputs.meshes`. Each reading is a process of its own, as some readers end it.

    pip install assimp-py tinyobjloader meshio pymeshlab open3d
"""

import argparse
import csv
import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nefgpt.base.files import atomic_path

ROOT = Path(__file__).parents[1]
MESHES = {".obj", ".off", ".ply", ".stl", ".glb", ".gltf"}
SECONDS = 60
# Area and extent of the cases; None: to be refused.
CASES = {
    "01_relative_indices.obj": (1, 6),
    "03a_concave_ngon.obj": (30, 3),
    "04a_normalised_ints.glb": (12, 4),
    "04b_instancing.glb": (18, 7),
    "04c_draco_one_part.glb": None,
    "04f_draco.glb": None,
    "04g_meshopt.glb": None,
    "04h_required_unknown.glb": None,
    "05a_mixed_binary.ply": (1.70711, 2),
    "05b_pentagon.off": (10.63314, 1.902114),
    "07a_cube_1e-9.obj": (6e-18, 1e-9),
    "07c_octahedron_1e12.obj": (6.9282032e24, 2e12),
    "07d_octahedron_1e9.obj": (6.9282032e18, 2e9),
    "08a_double_sided_cube.obj": (12, 1),  # a reader need not know that one side is enough
}
CUBE = (6, 1)


def _nefgpt(path: str) -> tuple:
    from nefgpt.inputs import meshes, polygons

    found = meshes._soup(Path(path))
    return found.vertices, polygons.triangulate(found)


def _trimesh(path: str) -> tuple:
    import trimesh

    mesh = trimesh.load(path, force="mesh", process=False, skip_materials=True)
    return mesh.vertices, mesh.faces


def _assimp(path: str) -> tuple:
    import assimp_py

    flags = assimp_py.Process_Triangulate | assimp_py.Process_PreTransformVertices
    parts = assimp_py.import_file(path, flags).meshes
    return _joined([(np.array(m.vertices).reshape(-1, 3), np.array(m.indices)) for m in parts])


def _tinyobj(path: str) -> tuple:
    import tinyobjloader

    reader = tinyobjloader.ObjReader()
    if not reader.ParseFromFile(path, tinyobjloader.ObjReaderConfig()):
        raise ValueError(reader.Error())
    points = np.array(reader.GetAttrib().vertices).reshape(-1, 3)
    faces = [index.vertex_index for s in reader.GetShapes() for index in s.mesh.indices]
    return points, np.array(faces).reshape(-1, 3)


def _meshio(path: str) -> tuple:
    import meshio

    found = meshio.read(path)
    faces = [
        np.asarray(block.data)[:, [0, i, i + 1]]
        for block in found.cells
        for i in range(1, np.shape(block.data)[1] - 1)
    ]
    return found.points, np.concatenate(faces)


def _pymeshlab(path: str) -> tuple:
    import pymeshlab

    meshes = pymeshlab.MeshSet()
    meshes.load_new_mesh(path)
    meshes.generate_by_merging_visible_meshes()
    found = meshes.current_mesh()
    return found.transformed_vertex_matrix(), found.face_matrix()


def _open3d(path: str) -> tuple:
    import open3d

    found = open3d.io.read_triangle_mesh(path)
    return np.asarray(found.vertices), np.asarray(found.triangles)


def _igl(path: str) -> tuple:
    import igl

    vertices, faces = igl.read_triangle_mesh(path)
    return vertices, faces


def _joined(parts: list) -> tuple:
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    faces = [f.reshape(-1, 3) + start for (_, f), start in zip(parts, starts, strict=False)]
    return np.concatenate([points for points, _ in parts]), np.concatenate(faces)


# The reader, and the package that its version is of.
READERS = {
    "nefgpt": (_nefgpt, "nefgpt"),
    "trimesh": (_trimesh, "trimesh"),
    "assimp": (_assimp, "assimp-py"),
    "tinyobjloader": (_tinyobj, "tinyobjloader"),
    "meshio": (_meshio, "meshio"),
    "pymeshlab": (_pymeshlab, "pymeshlab"),
    "Open3D": (_open3d, "open3d"),
    "libigl": (_igl, "libigl"),
}


def measure(reader: str, path: str) -> dict:
    """What one reader makes of one file: faces, area, extent and seconds."""
    began = time.perf_counter()
    vertices, faces = READERS[reader][0](path)
    seconds = time.perf_counter() - began
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    if not len(faces):
        return {"refused": "no faces"}
    corners = vertices[faces]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2
    extent = np.ptp(corners.reshape(-1, 3), axis=0).max()
    return {"faces": len(faces), "area": area, "extent": extent, "seconds": seconds}


def outcome(reader: str, path: Path) -> dict:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", reader, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"refused": f"hangs for {SECONDS} s"}
    if done.returncode < 0:
        return {"refused": f"ends the process (signal {-done.returncode})"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"refused": "no answer"}


def verdict(found: dict, right: tuple | None) -> str:
    """Whether a reading is "right", "WRONG" without a word, or "refused"."""
    if "refused" in found:
        return "refused"
    if right is None:
        return "WRONG"
    close = np.allclose([found["area"], found["extent"]], right, rtol=1e-4, atol=0)
    return "right" if close else "WRONG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--one", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", type=Path, help="other files, or folders of them")
    args = parser.parse_args()
    if args.one:
        try:
            print(json.dumps(measure(*args.one)))  # noqa: T201
        # Each reader has errors of its own; all of them are refusals.
        except Exception as error:
            print(json.dumps({"refused": repr(error)[:200]}))  # noqa: T201
        return
    names = []
    for name, (_, package) in READERS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if name != "nefgpt":
                continue
            version = ""
        there = outcome(name, ROOT / "tests/cases/02c_tabs.obj").get("refused", "")
        if ("Error" in there and "import" in there.lower()) or "No module" in there:
            print(f"{name} {version} is left out: {there}")  # noqa: T201
            continue
        names.append((name, version))
    files = sorted(p for p in (ROOT / "tests/cases").iterdir() if p.suffix in MESHES)
    for place in args.more:
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        files += [path for path in found if path.suffix.lower() in MESHES]
    rows = []
    for path in files:
        ours = outcome("nefgpt", path)
        if path.parent == ROOT / "tests/cases":
            right = CASES.get(path.name, CUBE)
        else:
            right = None if "refused" in ours else (ours["area"], ours["extent"])
        for name, version in names:
            found = ours if name == "nefgpt" else outcome(name, path)
            row = {"file": path.name, "reader": name, "version": version}
            row["verdict"] = verdict(found, right)
            for key in ("faces", "area", "extent", "seconds"):
                row[key] = f"{found[key]:.6g}" if key in found else ""
            rows.append(row)
    with atomic_path(args.out) as temporary, temporary.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    for name, version in names:
        mine = [row["verdict"] for row in rows if row["reader"] == name]
        counts = ", ".join(f"{mine.count(v)} {v}" for v in ("right", "refused", "WRONG"))
        print(f"{name} {version}: {counts}")  # noqa: T201


if __name__ == "__main__":
    main()
