"""IDX, the file format of MNIST."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nefgpt.base.errors import InputError


def _open(path: Path) -> BinaryIO:
    """An open file; some are unpacked and still called .gz."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _header(path: Path, stream: BinaryIO) -> tuple[int, ...]:
    """Shape of the array that follows in an open file."""
    zero, kind, n_dims = struct.unpack(">HBB", stream.read(4))
    if zero or kind != 8 or not 1 <= n_dims <= 3:
        raise InputError(f"{path} is no IDX file of bytes; fetch it again")
    return struct.unpack(f">{n_dims}I", stream.read(4 * n_dims))


def idx_shape(path: str | Path) -> tuple[int, ...]:
    """Shape of an IDX file's array, as its header says; see `read_idx`."""
    path = Path(path)
    try:
        with _open(path) as stream:
            return _header(path, stream)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"cannot read {path}: {error}; fetch it again") from error


def read_idx(path: str | Path) -> np.ndarray:
    """Array uint8 of an IDX file (the format of MNIST), gzipped or not.

    Raises
    ------
    InputError
        naming the file when it is missing, truncated or no IDX file of bytes.
    """
    path = Path(path)
    try:
        with _open(path) as stream:
            shape = _header(path, stream)
            values = np.frombuffer(stream.read(), np.uint8)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"cannot read {path}: {error}; fetch it again") from error
    expected = int(np.prod(shape, dtype=object))
    if len(values) != expected:
        raise InputError(f"{path} is truncated: {len(values)} of {expected} values; fetch it again")
    return values.reshape(shape)
