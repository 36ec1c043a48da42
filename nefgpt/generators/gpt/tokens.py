"""tokens.parquet: the fields' codes."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path

_COLUMNS = ("shape_id", "split", "label", "tokens")


class TokenTable(NamedTuple):
    """A table of tokens in memory.

    Attributes
    ----------
    shape_ids, splits : one string per field.
    labels : one int or None per field.
    tokens : uint16 [n, L], each below `n_codes`.
    measures : float32 [n] by the name of its column; NaN: not known.
    """

    shape_ids: list[str]
    splits: list[str]
    labels: list[int | None]
    tokens: np.ndarray
    measures: dict[str, np.ndarray]
    n_codes: int

    def of_split(self, split: str) -> np.ndarray:
        """Row numbers of a split."""
        return np.flatnonzero(np.asarray(self.splits) == split)


def write_tokens(path: Path, rows: dict[str, list], tokens: np.ndarray, n_codes: int) -> None:
    """Write a tokens table: shape_id, split, label, tokens list<uint16>, more float columns."""
    flat = pa.array(tokens.astype(np.uint16).ravel())
    offsets = pa.array(np.arange(len(tokens) + 1, dtype=np.int32) * tokens.shape[1])
    columns = {
        "shape_id": pa.array(rows["shape_id"], pa.string()),
        "split": pa.array(rows["split"], pa.string()),
        "label": pa.array(rows["label"], pa.int32()),
        "tokens": pa.ListArray.from_arrays(offsets, flat),
    }
    more = [name for name in rows if name not in columns]
    columns |= {name: pa.array(rows[name], pa.float32()) for name in more}
    about = {"n_codes": n_codes, "sequence_length": tokens.shape[1]}
    table = pa.table(columns).replace_schema_metadata({"nefgpt": json.dumps(about)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_tokens(path: Path) -> TokenTable:
    """Read a table of tokens; raise InputError when it is missing, empty or not one."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = json.loads(table.schema.metadata[b"nefgpt"])
        length, n_codes = int(about["sequence_length"]), int(about["n_codes"])
        ids, splits, labels = (table[name].to_pylist() for name in _COLUMNS[:3])
        column = table["tokens"].combine_chunks()
        lengths = set(column.value_lengths().to_pylist())
        if lengths != {length}:
            raise ValueError(f"sequences of {lengths} codes where {length} were promised")
        tokens = column.flatten().to_numpy().astype(np.uint16).reshape(-1, length)
        more = [name for name in table.column_names if name not in _COLUMNS]
        measures = {name: table[name].to_numpy() for name in more}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read tokens {path}: {error}; delete it and run again") from error
    if tokens.max(initial=0) >= n_codes:
        raise InputError(f"{path}: token {tokens.max()} is no code, there are {n_codes}")
    return TokenTable(ids, splits, labels, tokens, measures, n_codes)
