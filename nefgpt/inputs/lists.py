"""Published split lists: which shapes they name, in the forms they are published in."""

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nefgpt.base.errors import InputError
from nefgpt.inputs.folders import named, resolved
from nefgpt.inputs.settings import SplitFiles

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
CALLED = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
MODEL_COLUMNS = ("modelId", "model_id", "shape_id", "id", "name")
SPLIT_COLUMNS = ("split", "set")
SYNSET_COLUMNS = ("synsetId", "synset_id", "synset")
# Ends of the files that others made of a shape, which their lists name.
ENDS = re.compile(
    r"\.(obj|off|ply|stl|glb|gltf|npz|npy|pt|pts|txt|json|h5|hdf5|mat|binvox|sdf|png|jpe?g|tiff?|"
    r"webp|bmp|gif)$",
    re.IGNORECASE,
)
WITH_SYNSET = re.compile(r"(\d{8})[-_.:]+(.+)")
SYNSET = re.compile(r"\d{8}")
DROPPED = re.compile(r"\d{8}|ShapeNet.*|\.", re.IGNORECASE)  # folders that a list may lead with


class Entry(NamedTuple):
    """One line of a list: its folders and name, of which the first `free` may be missing here."""

    parts: tuple[str, ...]
    free: int = 0

    @property
    def synset(self) -> str | None:
        """The synset among the leading folders."""
        return next((part for part in self.parts[:-1] if SYNSET.fullmatch(part)), None)

    def __str__(self) -> str:
        return "/".join(self.parts)


def split_name(text: str) -> str:
    """train, val or test, also where it is called "validation" and the like."""
    text = text.strip().lower()
    return CALLED.get(text, text)


def _entry(text: str, free: int = 0) -> Entry:
    parts = [part for part in re.split(r"[/\\]", text.strip()) if part not in ("", ".")]
    parts = _named(parts)
    of_synset = [i for i, part in enumerate(parts[:-1]) if SYNSET.fullmatch(part)]
    free = max([free, *of_synset])  # what a synset lies in is another machine's
    while free < len(parts) - 1 and DROPPED.fullmatch(parts[free]):
        free += 1
    return Entry(tuple(parts), min(free, len(parts) - 1))


def _named(parts: list[str]) -> list[str]:
    """Folders and name of a shape, without the file's name that it has in ShapeNet."""
    for tail in (["models", "model_normalized"], ["model"]):
        bare = [*parts[:-1], ENDS.sub("", parts[-1])] if parts else []
        if len(parts) > len(tail) and bare[-len(tail) :] == tail:
            parts = parts[: -len(tail)]
    if parts and (match := WITH_SYNSET.fullmatch(parts[-1])):
        return [*parts[:-1], match[1], match[2]]
    return parts


def _text(path: Path) -> str:
    """A text file, with or without a byte-order mark."""
    content = path.read_bytes()
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8-sig")


def _column(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    lower = {name.strip().lower(): name for name in names}
    return next((lower[name.lower()] for name in known if name.lower() in lower), None)


def _of_csv(text: str, delimiter: str) -> Iterator[tuple[str | None, Entry]]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True, delimiter=delimiter)
    names = rows.fieldnames or []
    model, split, synset = (
        _column(names, known) for known in (MODEL_COLUMNS, SPLIT_COLUMNS, SYNSET_COLUMNS)
    )
    for row in rows:
        if not row[model]:
            continue
        folder = row[synset].strip() if synset and row[synset] else ""
        if folder.isdecimal():  # spreadsheets take the leading zeros away
            folder = folder.zfill(8)
        name = f"{folder}/{row[model]}"
        yield split_name(row[split] or "") if split else None, _entry(name)


def _of_json(value: object, folders: tuple[str, ...] = ()) -> Iterator[tuple[str | None, Entry]]:
    """Ids in lists below keys: a split's, or a data set's and a folder's, as DeepSDF has them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _of_json(inner, (*folders, str(key)))
    elif isinstance(value, list):
        split = next((split_name(f) for f in folders if split_name(f) in SPLITS), None)
        kept = [folder for folder in folders if split_name(folder) not in SPLITS]
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{name!r:.40} is not an id")
            yield split, _entry("/".join([*kept, name]), free=min(len(kept), 1))
    else:
        raise ValueError(f"{value!r:.40} is not a list of ids")


def _of_lines(text: str) -> Iterator[tuple[str | None, Entry]]:
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip(" \t,;\"'")
        if line:
            yield None, _entry(line)


def read_list(path: str, key: str) -> list[tuple[str | None, Entry]]:
    """Entries of one list, each with its split where the file names it.

    It is text with one id a line, a table with a header (ShapeNet's all.csv), or JSON (DeepSDF's).

    Raises
    ------
    InputError
        naming the key of the configuration and the file.
    """
    try:
        text = _text(resolved(path))
        if text.lstrip()[:1] in ("{", "["):
            found = list(_of_json(json.loads(text)))
        else:
            first = text.lstrip().partition("\n")[0].strip()
            delimiter = next((mark for mark in "\t;" if mark in first), ",")
            header = next(csv.reader([first], delimiter=delimiter), [])
            table = _column(header, MODEL_COLUMNS) and (len(header) > 1 or header[0] != "name")
            found = list(_of_csv(text.lstrip(), delimiter) if table else _of_lines(text))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{named(key, path)}: {error}") from error
    if not found:
        raise InputError(f"{named(key, path)} lists nothing")
    return found


def read_lists(files: SplitFiles | str) -> list[tuple[str, Entry]]:
    """Splits and entries of the configuration's `dataset.split_files`.

    Raises
    ------
    InputError
        when a file does not say which split an entry is of, or has none of its split.
    """
    key, wanted = "dataset.split_files", {}
    if isinstance(files, str):
        rows = read_list(files, key)
        if not all(split in SPLITS for split, _ in rows):
            raise InputError(
                f"{named(key, files)} does not say for each id whether it is train, val or test: "
                "give one file a split, {train: FILE, val: FILE, test: FILE}"
            )
        return rows
    for name in SPLITS:
        if (path := getattr(files, name)) is None:
            continue
        rows = read_list(path, f"{key}.{name}")
        wanted[name] = [entry for split, entry in rows if split in (None, name)]
        if not wanted[name]:
            has = ", ".join(sorted({str(split) for split, _ in rows}))
            raise InputError(f"{named(f'{key}.{name}', path)} lists nothing of {name}, but {has}")
    return [(name, entry) for name in wanted for entry in wanted[name]]


class _Index:
    """The shapes of a run, to be found by what lists call them."""

    def __init__(self, shapes: dict[str, str]):
        self.shapes = shapes
        self.folders, self.by_name = {}, {}
        for shape_id, source in shapes.items():
            parts = tuple(_named(list(Path(source).absolute().with_suffix("").parts)))
            self.folders[shape_id] = parts
            self.by_name.setdefault(parts[-1], []).append(shape_id)

    def find(self, entry: Entry) -> str | None:
        """The shape that an entry names, or None."""
        if not entry.parts:
            return None
        if (whole := "__".join(entry.parts)) in self.shapes:
            return whole
        *folders, name = entry.parts
        for tail in (
            (*folders[first:], end)
            for first in range(entry.free + 1)
            for end in dict.fromkeys((name, ENDS.sub("", name)))
        ):
            same = [
                shape_id
                for shape_id in self.by_name.get(tail[-1], [])
                if self.folders[shape_id][-len(tail) :] == tail
                and self._may_be(shape_id, entry.synset)
            ]
            if len(same) > 1:
                raise InputError(
                    f"dataset.split_files: {entry} may be {same[0]} or {same[1]}: write more of "
                    "its path"
                )
            if same:
                return same[0]
        return None

    def _may_be(self, shape_id: str, synset: str | None) -> bool:
        """Whether a shape is of a synset, or of none that its path says."""
        said = [part for part in self.folders[shape_id][:-1] if SYNSET.fullmatch(part)]
        return synset is None or not said or synset in said


def _rows(index: _Index, files: SplitFiles | str) -> Iterator[tuple[str, Entry, str | None]]:
    for split, entry in read_lists(files):
        shape_id = index.find(entry)
        words = re.split(r"[\s,;]+", str(entry))
        if shape_id is None and len(words) > 1:  # several ids in a line
            for word in map(_entry, words):
                yield split, word, index.find(word)
        else:
            yield split, entry, shape_id


def match(shapes: dict[str, str], files: SplitFiles | str, synset: str | None) -> dict[str, str]:
    """Splits of the shapes that the lists name; says how many those are.

    Parameters
    ----------
    shapes : shape id to its file.
    synset : the only one of the run, if there is one: ids of others are passed over.

    Raises
    ------
    InputError
        when no id names a shape, or one is in two splits.
    """
    index = _Index(shapes)
    splits, absent, other, n = {}, {}, 0, 0
    for split, entry, shape_id in _rows(index, files):
        n += 1
        if shape_id is None and synset and entry.synset not in (None, synset):
            other += 1
            continue
        name, known = (str(entry), absent) if shape_id is None else (shape_id, splits)
        if known.setdefault(name, split) != split:
            raise InputError(f"{name} is listed in {known[name]} and in {split}")
    if not splits:
        listed = next(iter(absent), f"synsets other than {synset}")
        raise InputError(
            f"dataset.split_files: none of the {n} listed ids (as {listed}) names one of the "
            f"{len(shapes)} shapes (as {min(shapes)})"
        )
    log.info(
        "dataset.split_files: %d of %d listed ids matched, %d shapes are in no list and left out%s",
        len(splits),
        n - other,
        len(shapes) - len(splits),
        f", {other} ids are of other synsets" if other else "",
    )
    if absent:
        some = ", ".join(list(absent)[:3])
        log.warning("dataset.split_files: %d listed ids have no shape, as %s", len(absent), some)
    return splits
