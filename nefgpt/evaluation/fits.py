"""How well fields keep their signals, by shape: train, val and test, quantised or not.

Test signals are only compared with, so they have no field; here they get one, from the run's
template and settings, which no generator sees.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, write_text
from nefgpt.fields.file import load_field
from nefgpt.fields.settings import Optimiser
from nefgpt.fitting.fit import fit_shapes
from nefgpt.fitting.weights import Fields, Row, read_fields, write_fields
from nefgpt.generators.components import differences
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import kind_of, name_of

WORST = 5  # shapes that are named
N_NORMALS = 8192  # surface points of each side


def fit_tests(
    entries: list, signal_dir: Path, template: Path, settings: Optimiser, seed: int, work: Path
) -> list[Row]:
    """Fit the test signals together; one row each, but for rejected ones.

    Parameters
    ----------
    entries : [shape id, split, label] of all signals.
    work : folder of the fields' files.
    """
    labels = {shape_id: label for shape_id, split, label in entries if split == "test"}
    paths = {
        name: (signal_dir / f"{name}.npz", work / f"{name}.safetensors") for name in sorted(labels)
    }
    fit_shapes(load_field(template).spec, paths, settings, seed, template)
    found = [(name, load_field(out)) for name, (_, out) in paths.items()]
    return [
        Row(name, "test", labels[name], field.weights, field.record, field.coefficients)
        for name, field in found
        if field.weights is not None
    ]


def normal_consistency(spec, field: np.ndarray, signal: dict, resolution: int, root: Path) -> float:
    """Mean |cosine| between normals of nearest points of a field's surface and of its mesh.

    Of both directions, as in occupancy networks (Mescheder et al. 2019); NaN without a surface.
    The mesh is read, as a cloud has no normals; its faces' orientation does not matter.
    """
    import trimesh
    from scipy.spatial import cKDTree

    from nefgpt.inputs.meshes import load_mesh, surface_points
    from nefgpt.signals.surface import surface

    found = surface(spec, field, resolution)
    if not found.valid:
        return float("nan")
    mesh = load_mesh(root / signal["source_path"])
    vertices = (mesh.vertices - signal["center"]) * signal["scale"]
    sides = []
    for one in ((found.vertices, found.faces), (vertices, mesh.faces)):
        solid = trimesh.Trimesh(*one, process=False)
        points, faces = surface_points(solid, N_NORMALS, seed=0)
        sides.append((points, solid.face_normals[faces]))
    (a, normals), (b, others) = sides
    to_b, to_a = cKDTree(b).query(a)[1], cKDTree(a).query(b)[1]
    cosines = (normals * others[to_b]).sum(axis=1), (others * normals[to_a]).sum(axis=1)
    return float(np.mean([np.abs(part).mean() for part in cosines]))


def measure(
    fields: Fields, tokenizer: Tokenizer, signal_dir: Path, resolution: int, root: Path
) -> pd.DataFrame:
    """A row per shape and `what` of it is measured, field or quantised.

    Parameters
    ----------
    root : folder that the paths of inputs start from.
    """
    kind, shapes = kind_of(fields.spec), name_of(fields.spec) == "shapes"
    ways = {
        "field": fields.weights,
        "quantised": tokenizer.decode(tokenizer.encode(differences(fields))),
    }
    rows = []
    for i, name in enumerate(tqdm(fields.shape_ids, desc="fits", unit="shape", mininterval=1)):
        signal = load_signal(signal_dir / f"{name}.npz")
        for what, weights in ways.items():
            found = kind.quality(fields.spec, weights[i], signal, resolution)
            if shapes:
                given = fields.spec, weights[i], signal, resolution, root
                found["normals"] = normal_consistency(*given)
            rows.append({"shape_id": name, "split": fields.splits[i], "what": what} | found)
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> str:
    """Medians by split and kind of field, and the worst shapes, as Markdown."""
    measures = table.columns[3:]
    lines = ["| split | of | shapes | " + " | ".join(measures) + " |"]
    lines.append("|---|---|--:|" + "--:|" * len(measures))
    for (split, what), part in table.groupby(["split", "what"], sort=True):
        values = " | ".join(f"{part[name].median():.3f}" for name in measures)
        lines.append(f"| {split} | {what} | {len(part)} | {values} |")
    lines += ["", f"The worst by {table.attrs['by']}:", ""]
    lines += ["| shape | split | of | " + " | ".join(measures) + " |"]
    lines.append("|---|---|---|" + "--:|" * len(measures))
    for row in table.head(WORST).itertuples(index=False):
        values = " | ".join(f"{value:.3f}" for value in row[3:])
        lines.append(f"| {row.shape_id} | {row.split} | {row.what} | {values} |")
    return "Medians:\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Command line of the fits' measures."""
    parser = argparse.ArgumentParser(
        description="Fit the test signals, and measure all fields and quantised fields by shape."
    )
    parser.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    parser.add_argument("--signal-dir", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="fit settings, JSON or @file")
    parser.add_argument("--root", type=Path, default=Path(), help="where inputs' paths start")
    parser.add_argument("--work-dir", type=Path, required=True, help="of the test fields' files")
    parser.add_argument("--fields", type=Path, required=True, help="write the test fields' table")
    parser.add_argument("--out", type=Path, required=True, help="CSV, with a .md beside it")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = cli.settings_argument(Optimiser, args.settings)
    entries = list(read_json(args.shapes))
    given = args.signal_dir, args.template, settings, args.seed, args.work_dir
    tests = fit_tests(entries, *given)
    if not tests:
        raise InputError("there is no usable test signal to fit")
    known = read_fields(args.weights)
    write_fields(args.fields, known.spec, known.template, tests, known.basis)
    tables = []
    for fields in (known, read_fields(args.fields)):
        tokenizer = load_tokenizer(args.codebook)
        resolution = settings.quality_resolution
        tables.append(measure(fields, tokenizer, args.signal_dir, resolution, args.root))
    by = "f_score" if "f_score" in tables[0] else "ssim"
    table = pd.concat(tables).sort_values(by, kind="stable").reset_index(drop=True)
    table.attrs["by"] = by
    write_text(args.out, table.to_csv(index=False))
    write_text(args.out.with_suffix(".md"), summary(table))
