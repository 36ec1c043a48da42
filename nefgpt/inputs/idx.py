"""IDX, the file format of MNIST."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from nefgpt.base.errors import InputError


def read_idx(path: str | Path) -> np.ndarray:
    """Array uint8 of an IDX file (the format of MNIST), gzipped or not.

    Raises
    ------
    InputError
        naming the file when it is missing, truncated or no IDX file of bytes.
    """
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, n_dims = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{n_dims}I", data[4 : 4 + 4 * n_dims])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"cannot read {path}: {error}; fetch it again") from error
    if zero or kind != 8 or not 1 <= n_dims <= 3:
        raise InputError(f"{path} is no IDX file of bytes; fetch it again")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * n_dims)
    expected = int(np.prod(shape, dtype=object))
    if len(values) != expected:
        raise InputError(f"{path} is truncated: {len(values)} of {expected} values; fetch it again")
    return values.reshape(shape)
