"""tokens.parquet: the fields' codes."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path


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


def read_tokens(path: Path) -> np.ndarray:
    """Tokens uint16 [n, L] of a tokens table."""
    try:
        table = pq.read_table(path, columns=["tokens"], page_checksum_verification=True)
        values = table["tokens"].combine_chunks().flatten().to_numpy()
        lengths = set(pc.list_value_length(table["tokens"]).to_pylist())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"cannot read tokens {path}: {error}; delete it and run again") from error
    if len(lengths) != 1:
        raise InputError(f"cannot read tokens {path}: no rows, or of unequal length; delete it")
    return values.reshape(len(table), -1)
