"""Tables of fields: `weights.parquet` and every `fields.parquet` have this one layout."""

import argparse
import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_json
from nefgpt.base.settings import from_dict
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
    """

    spec: FieldSpec
    template: np.ndarray
    shape_ids: list[str]
    splits: list[str]
    labels: list[int | None]
    weights: np.ndarray

    def of_split(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(np.asarray(self.splits) == split)


def quality_columns(spec: FieldSpec) -> tuple[str, ...]:
    """Columns that say how well each field fits."""
    return ("loss", *kind_of(spec).QUALITY, "seconds")


def schema(spec: FieldSpec, template: np.ndarray) -> pa.Schema:
    """Arrow schema of a table of fields; its metadata holds what rebuilds them."""
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
    return pa.schema(columns, metadata={"nefgpt": json.dumps(about)})


def write_fields(
    path: Path,
    spec: FieldSpec,
    template: np.ndarray,
    rows: Iterable[tuple[str, str, int | None, np.ndarray, dict]],
) -> None:
    """Write rows (shape id, split, label, weights [W], quality) shard by shard."""
    layout, measures = schema(spec, template), quality_columns(spec)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, layout, write_page_checksum=True) as writer,
    ):
        shard: list = []

        def flush() -> None:
            flat = np.concatenate([row[3] for row in shard]).astype(np.float32)
            columns = [
                pa.array([row[0] for row in shard], pa.string()),
                pa.array([row[1] for row in shard], pa.string()),
                pa.array([row[2] for row in shard], pa.int32()),
                pa.FixedSizeListArray.from_arrays(pa.array(flat), spec.n_weights),
                *(pa.array([row[4].get(name) for row in shard], pa.float32()) for name in measures),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=layout))
            shard.clear()

        for row in rows:
            shard.append(row)
            if len(shard) == ROWS_PER_SHARD:
                flush()
        if shard:
            flush()


def read_fields(path: Path) -> Fields:
    """Read a table of fields; raise InputError when it is missing or not one."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = json.loads(table.schema.metadata[b"nefgpt"])
        spec = from_dict(FieldSpec, about["field"])
        flat = table["weights"].combine_chunks().flatten().to_numpy()
        return Fields(
            spec,
            np.asarray(about["template"], np.float32),
            table["shape_id"].to_pylist(),
            table["split"].to_pylist(),
            table["label"].to_pylist(),
            # Arrow's own memory is read-only.
            flat.reshape(len(table), spec.n_weights).copy(),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(f"cannot read fields {path}: {error}; delete it and run again") from error


def check_template(path: Path, fields: Fields, template: Path) -> None:
    """Refuse a table of fields that were not fitted from this template.

    Raises
    ------
    InputError
        naming `path`, when its specification or its template is another one.
    """
    from nefgpt.fields.file import load_field

    spec, anchor, _ = load_field(template)
    if fields.spec != spec or not np.array_equal(fields.template, anchor):
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
    from nefgpt.fields.file import load_field

    spec, anchor, _ = load_field(template)

    def rows():
        for shape_id, split, label in entries:
            if split == "test":  # is only compared with, so has no field
                continue
            path = fields_dir / f"{shape_id}.safetensors"
            field_spec, values, record = load_field(path)
            if field_spec != spec:
                raise InputError(f"{path} has another specification than its template; delete it")
            if values is not None:
                yield shape_id, split, label, values, record

    write_fields(out, spec, anchor, rows())


def main() -> None:
    """Command line of the aggregation."""
    parser = argparse.ArgumentParser(description="Gather fields into weights.parquet.")
    parser.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    parser.add_argument("--fields-dir", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    collect(list(read_json(args.shapes)), args.fields_dir, args.template, args.out)
