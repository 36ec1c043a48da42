"""What is known of every input: `shapes.parquet`, and `rejected.tsv` of those left out."""

import argparse
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_json, write_text
from nefgpt.signals.file import check_one_size, load_signal

log = logging.getLogger(__name__)

SHAPES_SCHEMA = pa.schema(
    [
        ("shape_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("source_path", pa.string()),
        ("sha256", pa.string()),
        ("n_faces", pa.int64()),
        ("watertight", pa.bool_()),
        ("sign_agreement", pa.float32()),
        ("rejected", pa.string()),
    ]
)
ROWS_PER_SHARD = 4096
_ABOUT = ("source_path", "sha256", "rejected")
_OF_MESHES = ("n_faces", "watertight", "sign_agreement")


def collect(
    entries: list, signal_dir: Path, shapes_out: Path, rejected_out: Path, max_fraction: float
) -> None:
    """Write `shapes.parquet`, one row per input, and `rejected.tsv`, one per unusable input.

    Rows are written shard by shard: memory holds the entries and the unusable inputs alone.

    Parameters
    ----------
    entries : [shape id, split, label] per shape, in the order of the rows.

    Raises
    ------
    InputError
        when more than `max_fraction` of the inputs, or all shapes of a split, are unusable;
        rejected.tsv is written first. Or when images differ in size.
    """
    bad, usable, sizes = [], set(), {}
    rows = _rows(tqdm(entries, desc="shapes", unit="shape", mininterval=1), signal_dir)
    with (
        atomic_path(shapes_out) as temporary,
        pq.ParquetWriter(temporary, SHAPES_SCHEMA) as writer,
    ):
        for shard in iter(lambda: list(islice(rows, ROWS_PER_SHARD)), []):
            writer.write_table(pa.Table.from_pylist(shard, SHAPES_SCHEMA))
            good = [row for row in shard if not row["rejected"]]
            usable |= {row["split"] for row in good}
            for row in good:
                if row["size"]:
                    sizes.setdefault(row["size"], row["source_path"])
            bad += [
                [row["shape_id"], row["source_path"], " ".join(row["rejected"].split())]
                for row in shard
                if row["rejected"]
            ]
        lines = ["\t".join(row) for row in [["shape_id", "source_path", "reason"], *bad]]
        write_text(rejected_out, "\n".join(lines) + "\n")
        if len(bad) > max_fraction * len(entries):
            raise InputError(
                f"{len(bad)} of {len(entries)} inputs cannot be used, more than "
                f"dataset.max_rejected_fraction = {max_fraction:g} allows; first: {bad[0][2]}; "
                f"all reasons are in {rejected_out}"
            )
        for split in sorted({split for _, split, _ in entries} - usable):
            raise InputError(f"no input of the {split} split can be used; see {rejected_out}")
        check_one_size(sizes)
    if bad:
        log.info("%d of %d inputs left out; see %s", len(bad), len(entries), rejected_out)


def _rows(entries: Iterable, signal_dir: Path) -> Iterator[dict]:
    for shape_id, split, label in entries:
        path, more = signal_dir / f"{shape_id}.npz", ("size", *_OF_MESHES)
        cloud = load_signal(path, only=_ABOUT, if_there=more)
        row = {"shape_id": shape_id, "split": split, "label": label}
        row["size"] = tuple(cloud["size"].tolist()) if "size" in cloud else None  # of images
        for name in _ABOUT + _OF_MESHES:
            value = cloud.get(name)
            row[name] = value.item() if isinstance(value, np.ndarray) else value
        yield row


def read_shapes(path: Path) -> list[dict]:
    """Rows of `shapes.parquet`; raise InputError when it is missing or not one."""
    try:
        return pq.read_table(path).select(SHAPES_SCHEMA.names).to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def main() -> None:
    """Command line of the collection."""
    parser = argparse.ArgumentParser(description="Write shapes.parquet and rejected.tsv.")
    parser.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    parser.add_argument("--signal-dir", type=Path, required=True)
    parser.add_argument("--shapes-out", type=Path, required=True)
    parser.add_argument("--rejected-out", type=Path, required=True)
    parser.add_argument("--max-rejected-fraction", type=float, required=True)
    args = parser.parse_args()
    collect(
        list(read_json(args.shapes)),
        args.signal_dir,
        args.shapes_out,
        args.rejected_out,
        args.max_rejected_fraction,
    )
