"""Which point clouds are finished: each says in a note at its end what it was made from.

The workflow asks this of every cloud when it builds its DAG, so that a look costs one small read
and imports stay light.
"""

import hashlib
import json
import os
import zipfile
from pathlib import Path

from nefgpt.base.files import sha256_of
from nefgpt.inputs.settings import Frame
from nefgpt.signals.settings import Sampling

_TAIL = 1 << 13  # bytes; no note is longer, since no path is longer than 4096
_END = b"PK\x05\x06"  # begins the record at a zip file's end: 22 bytes, then its comment


def write_note(path: Path, note: dict) -> None:
    """Add a note to an .npz file; its arrays stay as they are."""
    text = json.dumps(note, sort_keys=True, ensure_ascii=False).encode()
    with zipfile.ZipFile(path, "a") as stream:
        stream.comment = text


def read_note(path: Path) -> dict:
    """The note of an .npz file; {} when it has none, is cut off or is not there."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            tail = stream.read()
        note = json.loads(tail[tail.rindex(_END) + 22 :])
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def made_from(
    source: str | Path,
    settings: Sampling,
    seed: int,
    versions: str,
    frame: Frame = Frame(),  # noqa: B008 (it is frozen)
) -> dict:
    """What a cloud depends on besides its mesh's content."""
    made = {
        "source": str(source),
        "settings": settings.used(),
        "seed": seed,
        "versions": versions,
    }
    return made | ({"frame": frame.given} if frame.given else {})


def _files(mesh: Path) -> list[Path]:
    """The files of a mesh: its own, and the buffers beside a .gltf."""
    if mesh.suffix.lower() != ".gltf":
        return [mesh]
    from nefgpt.inputs.gltf import beside  # few meshes need it, and all jobs start sooner without

    return [mesh, *(path for path in beside(mesh) if path.is_file())]


def time_of(mesh: Path) -> int:
    """When the youngest of a mesh's files was written, in nanoseconds."""
    return max(path.stat().st_mtime_ns for path in _files(mesh))


def _content_of(mesh: Path) -> str:
    """Hex SHA-256 of a mesh's file; of several, of their hashes."""
    hashes = [sha256_of(path) for path in _files(mesh)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def state_of(mesh: Path) -> dict:
    """Content and time of a mesh's files; nothing of one that is not there."""
    if not mesh.is_file():
        return {"sha256": "", "mtime_ns": 0}
    return {"mtime_ns": time_of(mesh), "sha256": _content_of(mesh)}


def is_finished(cloud: Path, wanted: dict, mesh: Path | None = None) -> bool:
    """Whether a cloud was made from exactly this.

    Parameters
    ----------
    wanted : see `made_from`.
    mesh : its file, which is hashed only when its time is another one; None when a rule makes it.
    """
    note = read_note(cloud)
    made = note.pop("mesh", None)
    if made is None or note != wanted:
        return False
    if mesh is None:
        return True
    if not mesh.is_file():
        return not made["sha256"]
    return made["mtime_ns"] == time_of(mesh) or made["sha256"] == _content_of(mesh)
