"""What lies below a folder: hidden names left out, linked folders followed once."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from nefgpt.base.errors import InputError


class Below(NamedTuple):
    """What `below` found.

    Attributes
    ----------
    files : paths of the files, sorted; links that lead nowhere among them.
    hidden : paths of the files whose names begin with a dot.
    hidden_folders : how many folders' names do; they are not looked into.
    """

    files: list[Path]
    hidden: list[str]
    hidden_folders: int

    def of(self, suffixes: set[str]) -> list[Path]:
        """The files of these suffixes, in lower case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def left_out(self, suffixes: set[str], unread: set[str] = frozenset()) -> str:
        """What is not listed and might have been meant, in words; empty when nothing is."""
        n = sum(os.path.splitext(path)[1].lower() in suffixes for path in self.hidden)
        words = [f"{n} hidden files skipped"] if n else []
        if self.hidden_folders:
            words.append(f"{self.hidden_folders} hidden folders skipped")
        kinds = Counter(path.suffix.lower() for path in self.files)
        words += [f"{kinds[end]} {end} files are not read" for end in sorted(unread & set(kinds))]
        return "; ".join(words)

    def kinds(self) -> str:
        """The commonest suffixes of the files, in words."""
        kinds = Counter(path.suffix.lower() or "no suffix" for path in self.files)
        return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4)) or "no files"


def resolved(path: str | Path) -> Path:
    """A path of the configuration, `~` resolved."""
    return Path(os.path.expanduser(path))


def named(key: str, root: str | Path) -> str:
    """A folder of the configuration as errors name it: as it is written, and in full."""
    full = resolved(root).absolute()
    return f"{key} = {root}" + (f" ({full})" if str(full) != str(root) else "")


def folder_of(key: str, root: str) -> Path:
    """The folder that a key of the configuration names, `~` resolved.

    Raises
    ------
    InputError
        when there is none.
    """
    path = resolved(root)
    if path.is_file():
        raise InputError(f"{named(key, root)} is a file: name the folder that holds the inputs")
    if not path.is_dir():
        raise InputError(f"{named(key, root)}: there is no such folder")
    return path


def visible(folder: str | Path) -> list[os.DirEntry]:
    """What lies in a folder and has a name without a leading dot, sorted by name.

    Raises
    ------
    InputError
        when the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        raise InputError(f"cannot look into the folder {folder}: {error.strerror}") from error


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder, or a link to one; links in a circle are not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def below(root: Path) -> Below:
    """All files below a folder.

    Every folder is looked into once, under the name that needs no link where it has one: links
    may form circles. A link to a folder that holds `root` itself is not followed.

    Raises
    ------
    InputError
        when a folder cannot be read.
    """
    start = os.path.realpath(root)
    seen = {start}
    files, hidden, hidden_folders = [], [], 0
    folders, links = [(str(root), start)], []
    while folders or links:
        if folders:
            shown, real = folders.pop()
        else:
            links.sort(reverse=True)
            shown = links.pop()
            real = os.path.realpath(shown)
            if real in seen or start.startswith(os.path.join(real, "")):
                continue
            seen.add(real)
        try:
            entries = list(os.scandir(shown))
        except OSError as error:
            raise InputError(f"cannot look into the folder {shown}: {error.strerror}") from error
        for entry in entries:
            folder = is_folder(entry)
            if entry.name[0] == ".":
                hidden_folders += folder
                hidden += [] if folder else [entry.path]
            elif not folder:
                files.append(Path(entry.path))
            elif entry.is_symlink():
                links.append(entry.path)
            elif (there := os.path.join(real, entry.name)) not in seen:
                seen.add(there)
                folders.append((entry.path, there))
    return Below(sorted(files), hidden, hidden_folders)
