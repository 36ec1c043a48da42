"""Fields to surfaces: grid evaluation, marching cubes, meshes and point clouds."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from tqdm import tqdm

from nefgpt import cli
from nefgpt.field import FieldSpec, evaluate_grid
from nefgpt.io import atomic_path, load_sdf, stable_seed, write_text

N_POINTS = 2048  # per cloud, DESIGN.md section 3


@dataclasses.dataclass
class Surface:
    """A triangle mesh in field coordinates.

    Attributes
    ----------
    vertices : float64 [V, 3].
    faces : int64 [F, 3], counter-clockwise seen from outside.
    n_components : connected parts before small ones were dropped.
    """

    vertices: np.ndarray
    faces: np.ndarray
    n_components: int

    @property
    def valid(self) -> bool:
        """Whether there is a surface with a positive area."""
        return len(self.faces) > 0 and bool(self._areas().sum() > 0)

    def _areas(self) -> np.ndarray:
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Area-uniform points, float32 [n, 3]."""
        rng = np.random.default_rng(seed)
        cumulative = np.cumsum(self._areas())
        chosen = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        chosen = np.minimum(chosen, len(self.faces) - 1)
        root, v = np.sqrt(rng.random((n, 1))), rng.random((n, 1))
        a, b, c = (self.vertices[self.faces[chosen, i]] for i in range(3))
        return (a * (1 - root) + b * root * (1 - v) + c * root * v).astype(np.float32)


def marching_cubes(grid: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Level set of a corner-exact grid over [-0.5, 0.5]^3, closed at the cube's border."""
    import mcubes

    padded = np.pad(grid, 1, constant_values=1.0)
    vertices, faces = mcubes.marching_cubes(padded, level)
    vertices = (vertices - 1) / (len(grid) - 1) - 0.5
    return vertices, faces.astype(np.int64)[:, ::-1]


def surface(
    spec: FieldSpec,
    field: Tensor,
    resolution: int,
    min_component: float = 0.0,
    level: float = 0.0,
) -> Surface:
    """Extract the surface of one field [W].

    Parameters
    ----------
    resolution : grid samples per axis.
    min_component : drop connected parts with fewer faces than this share of the largest.
    level : signed distance, in field units, of the surface that is extracted; a little above
        zero keeps parts that are thinner than a grid cell.
    """
    grid = evaluate_grid(spec, field, resolution)
    if not np.isfinite(grid).all():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64), 0)
    vertices, faces = marching_cubes(grid, spec.surface_level(level))
    if not len(faces):
        return Surface(vertices, faces, 0)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges), bool), edges.T), shape=(len(vertices),) * 2)
    n_components, part = connected_components(graph, directed=False)
    part_of_face = part[faces[:, 0]]
    sizes = np.bincount(part_of_face, minlength=n_components)
    faces = faces[sizes[part_of_face] >= min_component * sizes.max()]
    used, index = np.unique(faces, return_inverse=True)
    return Surface(vertices[used], index.reshape(faces.shape), n_components)


def normalise_cloud(points: np.ndarray) -> np.ndarray:
    """Centre on the mean, divide by the standard deviation of all coordinates."""
    points = points - points.mean(axis=0)
    return (points / points.std()).astype(np.float32)


def extract_all(
    fields: Path, out_dir: Path, settings: dict, seed: int, sdf_dir: Path | None = None
) -> None:
    """Write `meshes/<i>.ply`, `clouds.npy` [n, N_POINTS, 3] and `surfaces.csv`.

    A field without a surface keeps its row: NaN in the clouds, `valid` false in the CSV.

    Parameters
    ----------
    sdf_dir : for fields of real shapes: `<shape_id>.npz` here says how to go back to the mesh's
        own units. Generated fields have no others than field coordinates.
    """
    # Fits need no tables and no mesh files, and start sooner without their packages.
    import pandas as pd
    import trimesh

    from nefgpt import weights

    table = weights.read_fields(fields)
    (out_dir / "meshes").mkdir(parents=True, exist_ok=True)
    for old in (out_dir / "meshes").glob("*.ply"):
        old.unlink()
    clouds, rows = np.full((len(table.weights), N_POINTS, 3), np.nan, np.float32), []
    for i, field in enumerate(tqdm(table.weights, desc="surfaces", unit="field", mininterval=1)):
        found = surface(table.spec, torch.from_numpy(field), **settings)
        row = {"sample": i, "shape_id": table.shape_ids[i], "valid": found.valid}
        row |= {"n_components": found.n_components, "n_faces": len(found.faces)}
        if found.valid:
            vertices = found.vertices
            if sdf_dir is not None:
                frame = load_sdf(sdf_dir / f"{table.shape_ids[i]}.npz", only=("center", "scale"))
                vertices = vertices / frame["scale"] + frame["center"]
            mesh = trimesh.Trimesh(vertices, found.faces, process=False)
            row["watertight"] = bool(mesh.is_watertight)
            clouds[i] = normalise_cloud(found.sample(N_POINTS, stable_seed(seed, i)))
            with atomic_path(out_dir / "meshes" / f"{i}.ply") as temporary:
                mesh.export(temporary)
        else:
            row["watertight"] = False
        rows.append(row)
    with atomic_path(out_dir / "clouds.npy") as temporary:
        np.save(temporary, clouds)
    write_text(out_dir / "surfaces.csv", pd.DataFrame(rows).to_csv(index=False))


def main() -> None:
    """Command line of the extraction."""
    parser = argparse.ArgumentParser(
        prog="python -m nefgpt.extract", description="Turn fields into meshes and point clouds."
    )
    parser.add_argument("--fields", type=Path, required=True, help="fields.parquet")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="extract block, JSON or @file")
    parser.add_argument("--sdf-dir", type=Path, help="write meshes in the units of these shapes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = cli.json_argument(args.settings)
    extract_all(args.fields, args.out_dir, settings, args.seed, args.sdf_dir)


if __name__ == "__main__":
    cli.run(main)
