"""How often the sign is right where a closed mesh's faces are flipped, doubled or removed.

    python experiments/signs.py --out experiments/results/signs.csv

Takes 30 closed meshes (procedural airplanes and plain solids), damages a random 30 % of each
one's faces, writes it, and compares inside and outside at points in the cube and near the
surface with those of the whole mesh: of the file as it stands, and as `read_mesh` repairs it.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import trimesh

from nefgpt.base.files import atomic_path
from nefgpt.inputs import meshes
from nefgpt.inputs.airplanes.shapes import airplane
from nefgpt.signals.sdf import inside

SHARE = 0.3
N_POINTS = 2000  # in the cube, and as many near the surface
SIGMA = 0.01


def solids() -> dict[str, trimesh.Trimesh]:
    """The meshes by name, each in field coordinates."""
    made = trimesh.creation
    hollow = made.icosphere(subdivisions=3, radius=0.5)
    hole = made.icosphere(subdivisions=3, radius=0.3)
    hole.invert()
    found = {
        "box": made.box().subdivide().subdivide(),
        "long box": made.box([4, 1, 0.2]).subdivide().subdivide(),
        "sphere": made.icosphere(subdivisions=4),
        "torus": made.torus(0.7, 0.2),
        "capsule": made.capsule(),
        "cylinder": made.cylinder(0.5, 2).subdivide(),
        "cone": made.cone(1, 2).subdivide(),
        "annulus": made.annulus(0.5, 1, 0.4).subdivide(),
        "hollow sphere": trimesh.util.concatenate([hollow, hole]),
        "two boxes": trimesh.util.concatenate(
            [made.box().subdivide(), made.box([3, 0.3, 0.3]).subdivide()]
        ),
    }
    found |= {f"airplane {i}": airplane(1, i) for i in range(20)}
    for mesh in found.values():
        mesh.merge_vertices()
        assert mesh.is_watertight
        centre, scale = meshes.normalise(np.asarray(mesh.vertices))
        mesh.apply_translation(-centre).apply_scale(scale)
    return found


def damaged(mesh: trimesh.Trimesh, how: str, rng: np.random.Generator) -> np.ndarray:
    """Faces int64 [F, 3] of a mesh, of which a share is not as it was."""
    faces = np.asarray(mesh.faces, np.int64).copy()
    chosen = rng.random(len(faces)) < SHARE
    if how == "removed":
        return faces[~chosen]
    if how == "flipped":
        faces[chosen] = faces[chosen, ::-1]
        return faces
    copies = faces[chosen]
    if how != "all double-sided":
        return np.concatenate([faces, copies if how == "copied" else copies[:, ::-1]])
    return np.concatenate([faces, faces[:, ::-1]])


DAMAGES = ("none", "flipped", "doubled", "copied", "removed", "all double-sided", "inside out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shares = {how: {"before": [], "after": []} for how in DAMAGES}
    with tempfile.TemporaryDirectory() as folder:
        for seed, mesh in enumerate(solids().values()):
            rng = np.random.default_rng(seed)
            points = meshes.surface_points(mesh, N_POINTS, seed)[0]
            points = points + rng.normal(0, SIGMA, points.shape)
            points = np.concatenate([rng.uniform(-0.5, 0.5, (N_POINTS, 3)), points])
            truth = inside(mesh, points)
            for how in DAMAGES:
                faces = np.asarray(mesh.faces) if how == "none" else damaged(mesh, how, rng)
                if how == "inside out":
                    faces = np.asarray(mesh.faces)[:, ::-1]
                given = trimesh.Trimesh(mesh.vertices, faces, process=False)
                path = Path(folder) / "mesh.ply"
                given.export(path, vertex_normal=False)
                read = meshes.load_mesh(path)
                for name, one in (("before", given), ("after", read)):
                    shares[how][name].append((inside(one, points) == truth).mean())
    with atomic_path(args.out) as temporary, temporary.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["damage", "read", "mean", "worst"])
        for how, found in shares.items():
            for name, values in found.items():
                table.writerow([how, name, f"{np.mean(values):.4f}", f"{min(values):.4f}"])
    print(args.out.read_text())  # noqa: T201


if __name__ == "__main__":
    main()
