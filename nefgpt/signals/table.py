"""What is known of every input: `shapes.parquet`, and `rejected.tsv` of those left out.

Inputs that are kept in spite of a doubt have it in the column `doubts`.
"""

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
from nefgpt.signals.pose import KNOWN, Poses

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
        ("inside", pa.float32()),
        *((f"asymmetry_{axis}", pa.float32()) for axis in "xyz"),
        ("repaired", pa.string()),
        ("doubts", pa.string()),
        ("rejected", pa.string()),
    ]
)
ROWS_PER_SHARD = 4096
_ABOUT = ("source_path", "sha256", "rejected")
_OF_MESHES = ("n_faces", "watertight", "sign_agreement", "inside", "repaired")
_POSE = ("cells", "asymmetry")
DOUBTFUL = 0.8  # a lower agreement of signs is a doubt
MIRRORED = 0.1  # and so is a larger share of the surface that a mirror moves off it
FEW = 5  # doubts and reasons that are said on the terminal, each


def collect(
    entries: list,
    signal_dir: Path,
    shapes_out: Path,
    rejected_out: Path,
    max_fraction: float,
    mirror: int | None = None,
) -> None:
    """Write `shapes.parquet`, one row per input, and `rejected.tsv`, one per unusable input.

    Rows are written shard by shard: memory holds the entries and the unusable inputs alone.

    Parameters
    ----------
    entries : [shape id, split, label] per shape, in the order of the rows.
    mirror : the coordinate whose plane mirrors the fields, if one does.

    Raises
    ------
    InputError
        when more than `max_fraction` of the inputs, or all shapes of a split, are unusable;
        rejected.tsv is written first. Or when images differ in size.
    """
    bad, doubtful, usable, sizes = [], [], set(), {}
    poses = _poses(entries, signal_dir)
    bar = tqdm(entries, desc="shapes", unit="shape", mininterval=1)
    rows = _rows(bar, signal_dir, poses, mirror)
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
            doubtful += [(row["shape_id"], row["doubts"]) for row in good if row["doubts"]]
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
    _say(f"of {len(entries)} inputs are doubtful; see {shapes_out}", doubtful)
    reasons = [(shape_id, reason) for shape_id, _, reason in bad]
    _say(f"of {len(entries)} inputs are left out; see {rejected_out}", reasons)


def _say(what: str, found: list[tuple[str, str]]) -> None:
    if found:
        log.warning("%d %s", len(found), what)
    for shape_id, reason in found[:FEW]:
        log.warning("  %s: %s", shape_id, reason)


def _poses(entries: list, signal_dir: Path) -> Poses:
    """How up to `KNOWN` of the shapes lie; none of images, which cannot be turned."""
    known = {}
    for shape_id, _, _ in entries[:: max(len(entries) // KNOWN, 1)]:
        path = signal_dir / f"{shape_id}.npz"
        cloud = load_signal(path, only=("rejected",), if_there=("cells",))
        if "cells" in cloud and not cloud["rejected"]:
            known[shape_id] = cloud["cells"]
    return Poses(known)


def _rows(entries: Iterable, signal_dir: Path, poses: Poses, mirror: int | None) -> Iterator[dict]:
    for shape_id, split, label in entries:
        path, more = signal_dir / f"{shape_id}.npz", ("size", *_OF_MESHES, *_POSE)
        cloud = load_signal(path, only=_ABOUT, if_there=more)
        row = {"shape_id": shape_id, "split": split, "label": label}
        row["size"] = tuple(cloud["size"].tolist()) if "size" in cloud else None  # of images
        for name in _ABOUT + _OF_MESHES:
            value = cloud.get(name)
            row[name] = value.item() if isinstance(value, np.ndarray) else value
        for axis, value in zip("xyz", cloud.get("asymmetry", ()), strict=False):
            row[f"asymmetry_{axis}"] = float(value)
        row["doubts"] = "; ".join(_doubts(row, cloud, poses, mirror))
        yield row


def _doubts(row: dict, cloud: dict, poses: Poses, mirror: int | None) -> list[str]:
    """What speaks against an input that can be used, a sentence each."""
    if row["rejected"] or "cells" not in cloud:
        return []
    found = []
    if row["sign_agreement"] < DOUBTFUL:
        share = f"{row['sign_agreement']:.0%}"
        found.append(f"inside and outside are doubtful: signs agree at {share} of points")
    if turn := poses.turn(row["shape_id"], cloud["cells"]):
        found.append(f"lies turned against the rest: {turn}")
    if mirror is not None and cloud["asymmetry"][mirror] > MIRRORED:
        share, axis = f"{cloud['asymmetry'][mirror]:.0%}", "xyz"[mirror]
        found.append(f"is not symmetric in {axis}, as field.mirror says: {share} of its surface")
    return found


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
    parser.add_argument("--mirror", type=int, help="field.mirror, against which shapes are held")
    args = parser.parse_args()
    collect(
        list(read_json(args.shapes)),
        args.signal_dir,
        args.shapes_out,
        args.rejected_out,
        args.max_rejected_fraction,
        args.mirror,
    )
