"""Atomic writes and checked reads: a killed job leaves no half file."""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nefgpt.base.errors import InputError

NEARLY_FULL = 1 << 16  # bytes: less than this is left when a writer has filled the disk
TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.[^.]+)?")  # the names that `atomic_path` makes


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    The temporary name keeps the suffix, since many writers choose their format by it.

    Raises
    ------
    InputError
        naming `path`, when the disk is full or refuses.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except InputError:
        raise
    except Exception as error:
        # Some writers hide the system's reason behind an exception of their own; numpy's OSError
        # only counts bytes.
        if isinstance(error, OSError) and (error.errno or "errno" in str(error)):
            reason = str(error)
        elif shutil.disk_usage(path.parent).free < NEARLY_FULL:
            reason = "the disk is full"
        elif isinstance(error, OSError):
            reason = str(error)
        else:
            raise
        raise InputError(
            f"cannot write {path}: {reason}; once it can be written, run Snakemake again: it goes "
            "on where it was"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | Path) -> None:
    """Raise InputError when a folder, or what of its path exists, is read-only or full."""
    existing = next(p for p in [Path(folder), *Path(folder).absolute().parents] if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(bytes(NEARLY_FULL))
    except OSError as error:
        raise InputError(f"cannot write to {existing.absolute()}: {error.strerror}") from error


def clock_advice(folder: str | Path) -> str | None:
    """What to do when the clock was moved back: Snakemake stops at files of the future."""
    now = time.time()
    if not any(path.stat().st_mtime > now for path in Path(folder).rglob("*") if path.is_file()):
        return None
    command = f"find {shlex.quote(str(folder))} -newermt now -exec touch {{}} +"
    return f"{folder} holds files of the future, as after a clock moved back: {command}"


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed jobs left of `atomic_path`'s temporary files below a folder."""
    for path in Path(folder).rglob(".*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | Path) -> object:
    """Read a JSON file; raise InputError naming the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def sha256_of(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_table(path: str | Path, columns: Iterable[str], separator: str = ","):
    """A CSV file as a pandas frame of text (ids may look like numbers) that has `columns`.

    Raises
    ------
    InputError
        naming the file when it is missing, broken or lacks a column.
    """
    import pandas as pd  # fits read no tables, and start sooner without it

    try:
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path} lacks the columns {missing}; delete it and run again")
    return frame
