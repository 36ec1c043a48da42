"""The command `nefgpt decode`: what fields or tokens hold, in any form and at any resolution."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.gpt.tokens import read_tokens
from nefgpt.runs import options
from nefgpt.runs.field import FINEST, MOST_POINTS, NeuralField, within
from nefgpt.runs.run import Run, open
from nefgpt.runs.write import check_names, new_folder, write

EXAMPLES = """
    nefgpt decode results/airplanes planes/fields.parquet --resolution 128 --out finer
    nefgpt decode results/airplanes planes/tokens.parquet --format stl --out printed
    nefgpt decode results/airplanes encoded/mine.safetensors --points 4096 --out cloud
    nefgpt decode airplanes.nefgpt encoded/mine.safetensors --grid 64 --slices --out inside
    nefgpt decode results/digits sevens/seven.safetensors --resolution 128 --out large
"""


def fields_of(run: Run, source: str) -> list[NeuralField]:
    """Fields of a table of fields or of tokens, or one that `Run.field` knows.

    Raises
    ------
    InputError
        naming the source, when it is none or of another run.
    """
    path = Path(source)
    if path.suffix != ".parquet":
        return [run.field(source)]
    try:
        columns = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if "tokens" in columns:
        table = read_tokens(path)
        if table.n_codes != len(run.tokenizer.codes):
            raise InputError(
                f"{path} has tokens of {table.n_codes} codes, and the run {run.config.name!r} has "
                f"{len(run.tokenizer.codes)}"
            )
        found = run.decode(table.tokens)
        about = zip(found, table.shape_ids, table.labels, strict=True)
        return [dataclasses.replace(field, name=name, label=label) for field, name, label in about]
    table = read_fields(path)
    known = table.coefficients
    found = [
        NeuralField(
            table.spec, weights, name, label, coefficients=None if known is None else known[i]
        )
        for i, (weights, name, label) in enumerate(
            zip(table.weights, table.shape_ids, table.labels, strict=True)
        )
    ]
    return [run.checked(field, str(path)) for field in found]


def save_slices(field: NeuralField, path: Path, resolution: int = 256) -> None:
    """The field's values on the three planes through the middle, and its surface as a line."""
    from nefgpt.report.style import DPI, grid

    axis = np.linspace(-0.5, 0.5, resolution, dtype=np.float32)
    figure, plots = grid(1, 3, 9, 3.2)
    level, names = field.spec.surface_level(field.extract.level), "xyz"
    # From the side, from above, and from the front: what goes right and up in each.
    for ax, (right, up) in zip(plots[0], ((2, 1), (0, 2), (0, 1)), strict=True):
        across = 3 - right - up
        points = np.zeros((resolution, resolution, 3), np.float32)
        points[..., right], points[..., up] = axis, axis[:, None]
        values = field(points)
        ax.imshow(values, origin="lower", extent=(-0.5, 0.5) * 2, cmap="RdBu", vmin=-1, vmax=1)
        if values.min() < level < values.max():
            ax.contour(
                axis,
                axis,
                values,
                levels=[level],
                colors="black",
                linewidths=0.8,
                linestyles="solid",
            )
        ax.set_title(f"{names[across]} = 0")
        ax.set_xlabel(names[right])
        ax.set_ylabel(names[up])
        ax.grid(visible=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _save_array(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def main() -> None:
    """Command line: decode fields, tables of fields, or tables of tokens."""
    parser = options.parser(
        "Turn fields or tokens into meshes or images. SOURCE is a field (.safetensors), a table "
        "of fields or of tokens (.parquet), the id of a shape that the run was fitted to, or a "
        "mesh or an image, which is encoded first. All lengths are in field units.",
        EXAMPLES,
    )
    options.add_run(parser)
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="fields or tokens")
    more = parser.add_argument_group("beside meshes")
    more.add_argument("--points", type=int, help="NAME-points.npy: float32 [POINTS, 3] on it")
    more.add_argument("--grid", type=int, help="NAME-grid.npy: signed distances [GRID] * 3")
    more.add_argument("--slices", action="store_true", help="NAME-slices.png: three planes")
    options.add_files(parser)
    args = parser.parse_args()
    run = open(args.run)
    resolution = options.resolution_of(args, run)
    asked = {"--points": (args.points, MOST_POINTS), "--grid": (args.grid, FINEST)}
    asked = {name: pair for name, pair in asked.items() if pair[0] is not None}
    if run.size is not None and (asked or args.slices):
        raise InputError("--points, --grid and --slices are of shapes, and these are images")
    for name, (value, most) in asked.items():
        within(name, value, 2, most)
    fields = [field for source in args.sources for field in fields_of(run, source)]
    names = [field.name for field in fields]
    check_names(names)
    folder = new_folder(args.out)
    rows = write(run, fields, folder, args.format, resolution, run.config.name, names)
    for field, row in zip(fields, rows, strict=True):
        if args.points is not None and row["valid"]:
            points = field.points(args.points, resolution=resolution)
            _save_array(folder / f"{field.name}-points.npy", points)
        if args.grid is not None:
            _save_array(folder / f"{field.name}-grid.npy", field.grid(args.grid))
        if args.slices:
            save_slices(field, folder / f"{field.name}-slices.png")
    sys.stdout.write(options.outcome(fields, rows, folder))
