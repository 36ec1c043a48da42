"""PLY files, text and binary."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nefgpt.inputs.polygons import Soup, plain, strips

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
_TYPES |= {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4"}
_TYPES |= {"uint32": "u4", "int64": "i8", "uint64": "u8", "float": "f4", "double": "f8"}
_TYPES |= {"float32": "f4", "float64": "f8"}
_CORNERS = ("vertex_indices", "vertex_index")
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


class _Property(NamedTuple):
    name: str
    kind: str  # of numpy, without the order of bytes
    length: str = ""  # of a list's length; "" for a single value


class _Element(NamedTuple):
    name: str
    count: int
    properties: list


class _List(NamedTuple):
    sizes: np.ndarray  # int64 [rows]
    values: np.ndarray  # of all rows, one after the other


def read(path: Path) -> Soup:
    """Read a PLY file: faces of any number of corners, and triangle strips.

    Raises
    ------
    ValueError
        where the file ends before what its header promises, a text holds more numbers, or there
        are no vertices or faces that are known here.
    """
    content = path.read_bytes()
    elements, order, start = _header(content)
    # All numbers of a text are read as doubles, which hold any index exactly.
    source = content[start:] if order else np.array(plain(content)[start:].split(), np.float64)
    found, at = {}, 0
    for element in elements:
        if element.name in found:
            raise ValueError(f"two elements are called {element.name}")
        found[element.name], at = _rows(source, at, element, order)
    counts = {element.name: element.count for element in elements}
    missing = {"x", "y", "z"} - set(found.get("vertex", {}))
    if missing:
        raise ValueError(f"its vertices have no {', '.join(sorted(missing))}")
    vertices = np.stack([found["vertex"][axis] for axis in "xyz"], axis=1).astype(np.float64)
    faces = _corners(found.get("face", {}), counts.get("face", 0), "faces")
    stripes = _corners(found.get("tristrips", {}), counts.get("tristrips", 0), "tristrips")
    sizes, corners, notes = *_polygons(faces), []
    few = sizes < 3
    if few.any():
        corners, sizes = corners[~np.repeat(few, sizes)], sizes[~few]
        notes.append(f"{few.sum()} faces of fewer than three corners left out")
    pieces = [corners]
    for begin, size in zip(np.cumsum(stripes.sizes) - stripes.sizes, stripes.sizes, strict=True):
        strip = stripes.values[begin : begin + size].astype(np.int64)
        ends = [*np.flatnonzero(strip < 0), len(strip)]
        for first, last in zip([0, *(end + 1 for end in ends)], ends, strict=False):
            if last - first > 2:
                pieces.append(strips(strip[first:last]).ravel())
    more = (sum(map(len, pieces)) - len(corners)) // 3
    sizes = np.concatenate([sizes, np.full(more, 3)])
    left = len(source) - at
    if left and order == "":  # rows that are longer than the header says would be read shifted
        raise ValueError(f"{left} numbers are left after what its header names")
    if left and content[start + at :].strip(b"\r\n\0 "):
        notes.append(f"{left} bytes after the last element left out")
    kind = "binary PLY" if order else "PLY in text"
    return Soup(vertices, np.concatenate(pieces), sizes, kind, 1, tuple(notes))


def _header(content: bytes) -> tuple[list[_Element], str, int]:
    """Elements, the order of bytes ("" for text), and where the data begin."""
    end = re.search(rb"(?<=[\r\n])end_header[ \t]*(\r\n|\n|\r)", content[: 1 << 20])
    head = plain(content[: end.start()] if end else b"").decode("latin-1")
    if not end or not head.startswith("ply"):
        raise ValueError("has no header of a PLY file")
    elements, order = [], None
    for line in head.splitlines()[1:]:
        words = line.split()
        match words:
            case ["format", kind, *_] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, count]:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", length, kind, name] if elements:
                elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[length]))
            case ["property", kind, name] if elements:
                elements[-1].properties.append(_Property(name, _TYPES[kind]))
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"its header's line {line[:60]!r} is not understood")
    if order is None:
        raise ValueError("its header names no format")
    shift = len(content) - len(plain(content)) if order == "" else 0
    return elements, order, end.end() - shift


def _rows(source: bytes | np.ndarray, at: int, element: _Element, order: str) -> tuple[dict, int]:
    """All values of an element by property, and where the next element begins.

    Rows whose lists are all as long as the first row's are read at once.
    """
    if element.count < 0:
        raise ValueError(f"{element.count} {element.name} are promised")
    if not element.count or not element.properties:
        return {}, at
    lists = [one for one in element.properties if one.length]
    walk = _Walk(source, at, order)
    first = [walk.step(one) for one in element.properties]
    lengths = {one.name: len(row) for one, row in zip(element.properties, first, strict=True)}
    found = _alike(source, at, element, order, lengths)
    if found is not None:
        return found
    if not lists:
        raise _cut(element, _Walk(source, at, order).left(element))
    walk = _Walk(source, at, order)
    rows: dict[str, list] = {one.name: [] for one in element.properties}
    for i in range(element.count):
        try:
            for one in element.properties:
                rows[one.name].append(walk.step(one))
        except EOFError:
            raise _cut(element, i) from None
    values = {}
    for one in element.properties:
        flat = np.concatenate(rows[one.name])
        sizes = np.fromiter(map(len, rows[one.name]), np.int64, element.count)
        values[one.name] = _List(sizes, flat) if one.length else flat
    return values, walk.at


def _cut(element: _Element, found: int) -> ValueError:
    many = {"vertex": "vertices", "face": "faces"}.get(element.name, element.name)
    return ValueError(f"{element.count} {many} are promised, {found} found; truncated?")


def _alike(
    source: bytes | np.ndarray, at: int, element: _Element, order: str, lengths: dict
) -> tuple[dict, int] | None:
    """See `_rows`; None where some row has lists of another length, or the source ends."""
    fields = []
    for i, one in enumerate(element.properties):
        if one.length:
            fields.append((f"n{i}", one.length, 1))
        fields.append((f"v{i}", one.kind, lengths[one.name] if one.length else 1))
    if order:
        kind = np.dtype([(name, order + kind, (n,)) for name, kind, n in fields])
    else:
        kind = np.dtype([(name, np.float64, (n,)) for name, _, n in fields])
    size = kind.itemsize if order else kind.itemsize // 8
    if element.count * size > len(source) - at:
        return None
    rows = np.frombuffer(source, kind, element.count, at if order else 8 * at)
    found = {}
    for i, one in enumerate(element.properties):
        values = rows[f"v{i}"]
        if one.length:
            if (rows[f"n{i}"] != lengths[one.name]).any():
                return None
            sizes = np.full(element.count, lengths[one.name])
            found[one.name] = _List(sizes, values.reshape(-1))
        else:
            found[one.name] = values[:, 0]
    return found, at + element.count * size


class _Walk:
    """Goes through a source value by value."""

    def __init__(self, source: bytes | np.ndarray, at: int, order: str) -> None:
        self.source, self.at, self.order = source, at, order

    def step(self, one: _Property) -> np.ndarray:
        """The next value, or the next list's values."""
        n = int(self._take(one.length, 1)[0]) if one.length else 1
        if n < 0:
            raise ValueError(f"a list {one.name} has {n} values")
        return self._take(one.kind, n)

    def left(self, element: _Element) -> int:
        """How many rows of an element without lists there can be."""
        kinds = [np.dtype(one.kind).itemsize if self.order else 1 for one in element.properties]
        return (len(self.source) - self.at) // sum(kinds)

    def _take(self, kind: str, n: int) -> np.ndarray:
        size = np.dtype(kind).itemsize if self.order else 1
        begin, self.at = self.at, self.at + n * size
        if self.at > len(self.source):
            raise EOFError
        if self.order:
            return np.frombuffer(self.source, self.order + kind, n, begin)
        return self.source[begin : self.at]


def _corners(values: dict, count: int, what: str) -> _List:
    for name in _CORNERS:
        if isinstance(values.get(name), _List):
            return values[name]
    if count:
        raise ValueError(f"its {what} have no list {' or '.join(_CORNERS)}")
    return _List(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _polygons(faces: _List) -> tuple[np.ndarray, np.ndarray]:
    if (faces.values != np.trunc(faces.values)).any():
        raise ValueError("a face names a vertex by a fraction")
    return faces.sizes, faces.values.astype(np.int64)
