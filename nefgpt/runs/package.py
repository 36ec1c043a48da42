"""An exported model as files: what is in it, checked before it is used."""

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, sha256_of
from nefgpt.generators.kind import KINDS

ABOUT = "nefgpt.json"  # what it says of itself, with the hash of every other file
FORMAT = 1
LARGEST = 1 << 34  # bytes of all files together: a billion weights have a quarter of it
_KEYS = {"models": dict, "block": int, "files": dict, "size": list | None}
_SUFFIXES = {".json", ".safetensors", ".csv", ".md"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def is_safe(name: str) -> bool:
    """Whether a file of this name stays within its folder, and is of a kind that models have."""
    return bool(_NAME.fullmatch(name)) and PurePosixPath(name).suffix in _SUFFIXES


def read_about(folder: Path) -> dict:
    """What an exported model says of itself.

    Raises
    ------
    InputError
        when it is of another format than this release reads, or broken.
    """
    path = folder / ABOUT
    about = read_json(path)
    if not isinstance(about, dict) or "format" not in about:
        raise InputError(f"{path} is not of an exported model")
    if about["format"] != FORMAT:
        raise InputError(
            f"{path} is of format {about['format']!r:.40}, and this release reads format {FORMAT}: "
            "install the release that wrote it, or a later one"
        )
    wrong = [key for key, kind in _KEYS.items() if not isinstance(about.get(key), kind)]
    wrong = wrong or [name for name in about["files"] if not is_safe(name)]
    if wrong:
        raise InputError(f"{path} is broken at {wrong[0]!r:.80}; export the model again")
    for model, kind in about["models"].items():
        if kind not in KINDS:
            raise InputError(
                f"{path} has a model of the kind {kind!r:.40}, and this release knows "
                f"{', '.join(KINDS)}: install the release that wrote it"
            )
        if f"{kind}/{model}/model.safetensors" not in about["files"]:
            raise InputError(f"{path} has no file of its model {model!r:.80}; export it again")
    return about


def check_package(folder: Path) -> dict:
    """Compare an exported model's files with their hashes; returns what it says of itself.

    Raises
    ------
    InputError
        naming a file that is missing or was changed.
    """
    about = read_about(folder)
    for name, expected in about["files"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"the exported model {folder} lacks {name}; get it again")
        if sha256_of(path) != expected:
            raise InputError(f"{path} was changed after it was exported; get it again")
    return about


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an exported model; only what is named in it, and nothing outside of `folder`.

    Raises
    ------
    InputError
        when the archive is none, holds names that lead elsewhere, or is too large.
    """
    try:
        with zipfile.ZipFile(archive) as stored:
            names = [name for name in stored.namelist() if not name.endswith("/")]
            if bad := next((name for name in names if not is_safe(name)), None):
                raise InputError(f"{archive} holds {bad!r:.80}, which no exported model does")
            if ABOUT not in names:
                raise InputError(f"{archive} is no exported model: there is no {ABOUT} in it")
            if sum(entry.file_size for entry in stored.infolist()) > LARGEST:
                raise InputError(f"{archive} would unpack to more than {LARGEST >> 30} GiB")
            for name in names:
                stored.extract(name, folder)
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {archive}: {error}; get it again") from error
