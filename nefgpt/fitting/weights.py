"""Tables of fields: `weights.parquet` and every `fields.parquet` have this one layout."""

import argparse
import base64
import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_json
from nefgpt.base.settings import from_dict
from nefgpt.fields.file import how_to_refit, load_field
from nefgpt.fields.fits import Space
from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.kind import kind_of

ROWS_PER_SHARD = 1024


@dataclasses.dataclass
class Fields:
    """A table of fields in memory.

    Attributes
    ----------
    spec : the specification that all fields share.
    template : float32 [W].
    shape_ids, splits : one string per field.
    labels : one int or None per field.
    weights : float32 [n, W].
    measures : float32 [n] by the name of its column: how well each field fits; NaN: not known.
    basis : float32 [k, W]; None where fields were fitted without one.
    coefficients : float32 [n, k]: the weights are template + coefficients @ basis. None where a
        field has none, as in tables of earlier releases.
    """

    spec: FieldSpec
    template: np.ndarray
    shape_ids: list[str]
    splits: list[str]
    labels: list[int | None]
    weights: np.ndarray
    measures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    basis: np.ndarray | None = None
    coefficients: np.ndarray | None = None

    @property
    def space(self) -> Space:
        """Where the fields are."""
        return Space(self.template, self.basis)

    def of_split(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(np.asarray(self.splits) == split)


class Row(NamedTuple):
    """One field of a table: see `Fields`; `quality` has some of `quality_columns`."""

    shape_id: str
    split: str
    label: int | None
    weights: np.ndarray
    quality: dict
    coefficients: np.ndarray | None = None


def quality_columns(spec: FieldSpec) -> tuple[str, ...]:
    """Columns that say how well each field fits."""
    return ("loss", *kind_of(spec).QUALITY, "seconds")


def schema(spec: FieldSpec, template: np.ndarray, basis: np.ndarray | None = None) -> pa.Schema:
    """Arrow schema of a table of fields; its metadata holds what rebuilds them.

    A basis [k, W] is metadata of the column `coefficients`: float32, row by row, in base64.
    """
    about = {
        "field": json.loads(spec.to_json()),
        "layers": spec.slices,
        "template": [float(value) for value in template],
    }
    columns = [
        ("shape_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("weights", pa.list_(pa.float32(), spec.n_weights)),
        *((name, pa.float32()) for name in quality_columns(spec)),
    ]
    if basis is not None:
        numbers = base64.b64encode(basis.astype("<f4").tobytes())
        kind = pa.list_(pa.float32(), len(basis))
        columns.append(pa.field("coefficients", kind, metadata={"basis": numbers}))
    return pa.schema(columns, metadata={"nefgpt": json.dumps(about)})


def write_fields(
    path: Path,
    spec: FieldSpec,
    template: np.ndarray,
    rows: Iterable[Row | tuple],
    basis: np.ndarray | None = None,
) -> None:
    """Write rows shard by shard.

    Parameters
    ----------
    template, basis : float32 [W], [k, W]; without a basis no coefficients are written.
    """
    layout, measures = schema(spec, template, basis), quality_columns(spec)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, layout, write_page_checksum=True) as writer,
    ):
        shard: list[Row] = []

        def flush() -> None:
            flat = np.concatenate([row.weights for row in shard]).astype(np.float32)
            columns = [
                pa.array([row.shape_id for row in shard], pa.string()),
                pa.array([row.split for row in shard], pa.string()),
                pa.array([row.label for row in shard], pa.int32()),
                pa.FixedSizeListArray.from_arrays(pa.array(flat), spec.n_weights),
            ]
            for name in measures:
                found = [row.quality.get(name) for row in shard]
                columns.append(pa.array(found, pa.float32()))
            if basis is not None:
                found = [row.coefficients for row in shard]
                columns.append(pa.array(found, layout.field("coefficients").type))
            writer.write_table(pa.Table.from_arrays(columns, schema=layout))
            shard.clear()

        for row in rows:
            shard.append(Row(*row))
            if len(shard) == ROWS_PER_SHARD:
                flush()
        if shard:
            flush()


def gives(space: Space, coefficients: np.ndarray, weights: np.ndarray) -> bool:
    """Whether coefficients [..., k] are those of the weights [..., W], but for rounding."""
    if space.basis is None or coefficients.shape[-1] != len(space.basis):
        return False
    found = space.anchor + coefficients @ space.basis
    # Not-a-number is close to nothing.
    return bool(np.abs(found - weights).max(initial=0) <= 1e-3 * np.abs(weights).max(initial=1))


def _coefficients(table: pa.Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Basis and coefficients of a table of fields, None where it has none."""
    if "coefficients" not in table.column_names:
        return None, None
    about = table.schema.field("coefficients")
    numbers = base64.b64decode(about.metadata[b"basis"], validate=True)
    basis = np.frombuffer(numbers, "<f4").reshape(about.type.list_size, -1).copy()
    column = table["coefficients"].combine_chunks()
    if column.null_count:
        return basis, None
    return basis, column.flatten().to_numpy().reshape(len(table), len(basis)).copy()


def read_fields(path: Path) -> Fields:
    """Read a table of fields.

    Raises
    ------
    InputError
        naming the file when it is missing, no such table, or coefficients are not those of their
        weights.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = json.loads(table.schema.metadata[b"nefgpt"])
        spec = from_dict(FieldSpec, about["field"])
        flat = table["weights"].combine_chunks().flatten().to_numpy()
        known = [name for name in quality_columns(spec) if name in table.column_names]
        fields = Fields(
            spec,
            np.asarray(about["template"], np.float32),
            table["shape_id"].to_pylist(),
            table["split"].to_pylist(),
            table["label"].to_pylist(),
            # Arrow's own memory is read-only.
            flat.reshape(len(table), spec.n_weights).copy(),
            {name: table[name].to_numpy() for name in known},
            *_coefficients(table),
        )
        if fields.coefficients is not None:
            parts = [slice(i, i + ROWS_PER_SHARD) for i in range(0, len(table), ROWS_PER_SHARD)]
            both = [(fields.coefficients[part], fields.weights[part]) for part in parts]
            if not all(gives(fields.space, *pair) for pair in both):
                raise ValueError("its coefficients do not give its weights")
        return fields
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(f"cannot read fields {path}: {error}; delete it and run again") from error


def check_template(path: Path, fields: Fields, template: Path) -> None:
    """Refuse a table of fields that were not fitted from this template.

    Raises
    ------
    InputError
        naming `path`, when its specification or its template is another one.
    """
    shared = load_field(template)
    same = fields.spec == shared.spec and np.array_equal(fields.template, shared.weights)
    if not same or (fields.basis is not None and not np.array_equal(fields.basis, shared.basis)):
        raise InputError(
            f"{path} is of another configuration: its fields were not fitted from {template}; "
            f"rm {shlex.quote(str(path))} and run Snakemake again"
        )


def collect(entries: list, fields_dir: Path, template: Path, out: Path) -> None:
    """Gather fields into `weights.parquet`, one row per shape that was not rejected.

    Parameters
    ----------
    entries : [shape id, split, label] per field, in the order of the rows.
    """
    shared = load_field(template)

    def rows():
        for shape_id, split, label in entries:
            if split == "test":  # is only compared with, so has no field
                continue
            path = fields_dir / f"{shape_id}.safetensors"
            field = load_field(path)
            if field.spec != shared.spec:
                raise InputError(f"{path} has another specification than its template; delete it")
            if field.weights is None:
                continue
            known = field.coefficients
            if known is not None and not gives(shared.space, known, field.weights):
                raise InputError(
                    f"{path} was not fitted in the basis of {template}; {how_to_refit(path)}"
                )
            yield Row(shape_id, split, label, field.weights, field.record, known)

    write_fields(out, shared.spec, shared.weights, rows(), shared.basis)


def main() -> None:
    """Command line of the aggregation."""
    parser = argparse.ArgumentParser(description="Gather fields into weights.parquet.")
    parser.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    parser.add_argument("--fields-dir", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    collect(list(read_json(args.shapes)), args.fields_dir, args.template, args.out)
