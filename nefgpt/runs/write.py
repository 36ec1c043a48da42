"""Fields as a folder of files: meshes or images, a table, and a contact sheet."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, write_text
from nefgpt.fitting.weights import Row, write_fields
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.runs.field import NeuralField
from nefgpt.runs.run import Run
from nefgpt.signals.kind import KINDS, Shown, kind_of
from nefgpt.signals.settings import Extract

if TYPE_CHECKING:
    import trimesh

FORMATS = ("glb", "ply", "obj", "stl")
SHOWN = 240  # pictures of a contact sheet at most
ACROSS = 12  # of them in a row
_PICTURED = 128  # grid samples per axis of a mesh that is drawn at a few hundred pixels
_GREY = (168, 186, 209, 255)


def check_new(path: Path) -> None:
    """Refuse a folder that holds something: files of two commands cannot be told apart."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: name a new folder")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} is not empty: name another folder, or rm -r {path}")


def new_folder(path: Path) -> Path:
    """A folder for what a command writes; see `check_new`."""
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def check_names(names: Sequence[str]) -> None:
    """Refuse names of files of which two are the same."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"two fields would be called {twice[0]}: rename one of the files")


def save_mesh(mesh: "trimesh.Trimesh", path: Path) -> None:
    """Write a mesh in the format of its file's suffix, GLB and OBJ with normals.

    GLB has a plain grey material: the format's own default is a metal, black in most viewers.
    """
    import trimesh

    options = {"include_normals": True} if path.suffix in (".glb", ".obj") else {}
    if path.suffix == ".glb":
        material = trimesh.visual.material.PBRMaterial(
            name="grey", baseColorFactor=_GREY, metallicFactor=0.0, roughnessFactor=0.6
        )
        mesh = mesh.copy()
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
    with atomic_path(path) as temporary:
        mesh.export(temporary, **options)


def save_signal(field: NeuralField, path: Path, resolution: int | None) -> dict:
    """Write the mesh or image of a field; what there is to say of it.

    Parameters
    ----------
    path : its suffix names the format.
    resolution : grid samples per axis, or pixels of the longer side; the run's when None.
    """
    if field.signals == "images":
        from PIL import Image

        image = field.image(resolution)
        if not np.isfinite(image).all():
            return {"valid": False}
        with atomic_path(path) as temporary:
            Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(temporary)
        return {"valid": True, "file": path.name}
    from nefgpt.signals.parts import connected_parts

    mesh = field.mesh(resolution)
    if not len(mesh.faces):
        return {"valid": False, "n_faces": 0}
    save_mesh(mesh, path)
    return {
        "valid": True,
        "file": path.name,
        "n_components": connected_parts(np.asarray(mesh.faces), len(mesh.vertices))[0],
        "n_faces": len(mesh.faces),
        "watertight": bool(mesh.is_watertight),
    }


def save_sheet(
    fields: Sequence[NeuralField], path: Path, title: str, across: int | None = None
) -> None:
    """A contact sheet of the first fields, row by row; a cross stands for an empty one.

    Parameters
    ----------
    across : pictures in a row, where more than one fits.
    """
    from nefgpt.report.pictures import columns_of, sheet
    from nefgpt.report.style import DPI

    kind, files = kind_of(fields[0].spec), KINDS[fields[0].signals]
    across = min(columns_of(kind), across or ACROSS)
    with tempfile.TemporaryDirectory(prefix="nefgpt-") as folder:
        shown = []
        for i, field in enumerate(fields[:SHOWN]):
            picture = Path(folder) / f"{i}{files.suffix}"
            settings = Extract(**vars(field.extract) | {"resolution": _PICTURED})
            found = kind.decode(field.spec, field.weights, settings, 0, kind.COMPARED or field.size)
            if found.save is not None:
                found.save(picture)
            shown.append(Shown(picture))
        rows = {i: shown[i : i + across] for i in range(0, len(shown), across)}
        figure = sheet(kind, rows, title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def save_tables(run: Run, fields: Sequence[NeuralField], folder: Path) -> None:
    """`fields.parquet`, and `tokens.parquet` where all fields have codes, as the run has them."""
    basis = run.template.basis
    if any(field.coefficients is None for field in fields):
        basis = None
    rows = (Row(f.name, "sample", f.label, f.weights, f.record, f.coefficients) for f in fields)
    write_fields(folder / "fields.parquet", run.spec, run.template.weights, rows, basis)
    if all(field.tokens is not None for field in fields):
        about = {
            "shape_id": [field.name for field in fields],
            "split": ["sample"] * len(fields),
            "label": [field.label for field in fields],
        }
        tokens = np.stack([field.tokens for field in fields])
        write_tokens(folder / "tokens.parquet", about, tokens, len(run.tokenizer.codes))


def write(
    run: Run,
    fields: Sequence[NeuralField],
    folder: Path,
    suffix: str,
    resolution: int | None,
    title: str,
    names: Sequence[str] | None = None,
    across: int | None = None,
) -> list[dict]:
    """Write fields to a folder that `new_folder` made.

    Files are `<name>.<suffix>`, `samples.csv` with a row for each field, `fields.parquet`,
    `tokens.parquet` and `sheet.png`.

    Parameters
    ----------
    names : of the files; 0000, 0001, ... when not given.
    across : see `save_sheet`.

    Returns
    -------
    The rows of `samples.csv`.
    """
    import pandas as pd

    suffix = "png" if fields[0].signals == "images" else suffix
    names = names or [f"{i:04}" for i in range(len(fields))]
    rows = []
    bar = tqdm(zip(names, fields, strict=True), total=len(fields), desc="decode", unit="field")
    for name, field in bar:
        found = save_signal(field, folder / f"{name}.{suffix}", resolution)
        rows.append({"sample": field.name, "label": field.label} | found | field.quality)
    save_tables(run, fields, folder)
    frame = pd.DataFrame(rows).astype({"label": "Int64"})
    write_text(folder / "samples.csv", frame.to_csv(index=False))
    save_sheet(fields, folder / "sheet.png", title, across)
    return rows
