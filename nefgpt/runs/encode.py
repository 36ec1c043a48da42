"""New meshes and images as fields of a run, fitted as it fits its own."""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.file import load_field
from nefgpt.fields.settings import Optimiser
from nefgpt.fitting.fit import fit_shapes
from nefgpt.inputs.listing import safe_id
from nefgpt.runs.field import NeuralField
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import name_of

if TYPE_CHECKING:
    import trimesh

    from nefgpt.runs.run import Run

EXAMPLES = """
    nefgpt encode results/airplanes mine.obj --out encoded
    nefgpt encode airplanes.nefgpt mine.obj yours.stl --format ply --out others
    nefgpt encode results/digits seven.png --out sevens
"""


def encode(
    run: "Run", what: "str | Path | trimesh.Trimesh | np.ndarray", name: str | None, seed: int
) -> NeuralField:
    """See `nefgpt.runs.run.Run.encode`."""
    is_file = isinstance(what, str | Path)
    name = name or (_name_of(what) if is_file else "field")
    settings = {f.name: getattr(run.config.fit, f.name) for f in dataclasses.fields(Optimiser)}
    with tempfile.TemporaryDirectory(prefix="nefgpt-") as folder:
        signal, out = Path(folder) / f"{name}.npz", Path(folder) / f"{name}.safetensors"
        if is_file:
            _signal_of_file(run, Path(what), name, signal, seed)
        elif hasattr(what, "faces"):
            np.savez(signal, rejected="", **_distances(run, what, name, seed))
        else:
            np.savez(signal, rejected="", **_pixels(run, np.asarray(what)))
        about = load_signal(signal)
        if about["rejected"]:
            raise InputError(about["rejected"])
        template = run.file("fields/template.safetensors")
        fit_shapes(run.spec, {name: (signal, out)}, Optimiser(**settings), seed, template)
        found = load_field(out)
    record = dict(found.record)
    if "center" in about:  # of the mesh's own units: field = (mesh - center) * scale
        record |= {"center": about["center"].tolist(), "scale": float(about["scale"])}
    extract, size = run.config.extract, about["size"].tolist() if "size" in about else None
    field = NeuralField(
        run.spec,
        found.weights,
        name,
        coefficients=found.coefficients,
        record=record,
        extract=extract,
        size=None if size is None else tuple(size),
    )
    return dataclasses.replace(field, tokens=run.tokens_of(field))


def _name_of(path: str | Path) -> str:
    return safe_id(Path(Path(path).name))


def _signal_of_file(run: "Run", path: Path, name: str, out: Path, seed: int) -> None:
    """Sample a file as the run samples its inputs."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if name_of(run.spec) == "images":
        from nefgpt.signals import images

        channels = run.spec.out_dim if run.config.dataset.kind == "images" else None
        pack = {name: str(path)}, out.parent, out.parent / "pack.json"
        images.prepare(*pack, channels, run.config.dataset.background)
    else:
        from nefgpt.signals import sdf

        sdf.prepare(path, name, out, run.config.sdf, seed, frame=run.config.dataset.frame)


def _distances(run: "Run", mesh: "trimesh.Trimesh", name: str, seed: int) -> dict:
    """A mesh in memory, sampled as the run samples its inputs."""
    from nefgpt.signals.sdf import sample_sdf

    if name_of(run.spec) != "shapes":
        raise InputError(f"the run {run.config.name!r} is of images, and a mesh is none")
    used = np.asarray(mesh.vertices)[np.unique(mesh.faces)]
    if not len(used) or not np.isfinite(used).all() or not np.ptp(used, axis=0).max() > 0:
        raise InputError(f"{name}: the mesh has no faces, no extent, or vertices that are NaN")
    return sample_sdf(mesh, run.config.sdf, stable_seed(seed, name))


def _pixels(run: "Run", image: np.ndarray) -> dict:
    """An image in memory as a signal."""
    if name_of(run.spec) != "images":
        raise InputError(f"the run {run.config.name!r} is of shapes, and an image is none")
    from nefgpt.signals.images import pixel_centres

    if image.dtype == np.uint8:
        image = image / np.float32(255)
    image = np.asarray(image, np.float32)
    wanted = run.spec.signal_shape
    if image.ndim != 2 + len(wanted) or image.shape[2:] != wanted or not image.size:
        shape = ", ".join(["height", "width", *map(str, wanted)])
        raise InputError(f"an image of this run is an array [{shape}], got {image.shape}")
    if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise InputError("the numbers of an image are in [0, 1], or 0 to 255 as uint8")
    points = pixel_centres(*image.shape[:2])
    values = image.reshape(-1, *wanted)
    return {"points": points, "values": values, "size": np.array(image.shape)}


def main() -> None:
    """Command line: fit fields to files, write them and what they hold."""
    from nefgpt.runs import options
    from nefgpt.runs.run import open
    from nefgpt.runs.write import check_names, new_folder, write

    parser = options.parser(
        "Fit fields to new meshes or images as the run fits its own, without touching the run. "
        "For each FILE a field (.safetensors) and the mesh or image that it holds, in field "
        "coordinates; samples.csv says how well it keeps the file (IoU, Chamfer ×10², F-score, "
        "PSNR), fields.parquet has weights and coefficients, tokens.parquet the tokens.",
        EXAMPLES,
    )
    options.add_run(parser)
    parser.add_argument("files", metavar="FILE", nargs="+", help="meshes or images")
    parser.add_argument("--seed", type=int, help="of points and fit (the run's)")
    options.add_files(parser)
    args = parser.parse_args()
    run = open(args.run)
    check_names([_name_of(path) for path in args.files])
    resolution, folder = options.resolution_of(args, run), new_folder(args.out)
    fields, problems = [], []
    for path in args.files:
        try:
            field = run.encode(path, seed=args.seed)
        except InputError as error:  # the other files are encoded all the same
            problems.append(str(error))
            continue
        field.save(folder / f"{field.name}.safetensors")
        fields.append(field)
    if not fields:
        raise InputError("; ".join(problems))
    names, title = [field.name for field in fields], f"{run.config.name}: encoded"
    rows = write(run, fields, folder, args.format, resolution, title, names)
    for field in fields:
        measured = ", ".join(f"{name} {value:.3f}" for name, value in field.quality.items())
        sys.stdout.write(f"{field.name}: {measured}\n")
    sys.stdout.write(options.outcome(fields, rows, folder))
    if problems:
        left = f"{len(problems)} of {len(args.files)} files were left out"
        raise InputError(f"{left}: {'; '.join(problems)}")
