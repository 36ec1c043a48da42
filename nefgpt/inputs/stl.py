"""STL files, binary and text."""

import re
from pathlib import Path

import numpy as np

from nefgpt.inputs.polygons import Soup, plain, soup

_HEAD = 84  # bytes: 80 of anything, then the number of facets
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
_AROUND = 10  # extents of the facets that were counted, within which others may lie
_NUMBER = rb"\s+(\S+)"
_VERTEX = re.compile(rb"\bvertex" + 3 * _NUMBER)


def read(path: Path) -> Soup:
    """Read an STL file.

    A file that says "solid" is text unless it holds zero bytes, or is as long as its number of
    facets says.

    Raises
    ------
    ValueError
        where the file holds fewer facets than it promises, or ends within one.
    """
    content = path.read_bytes()
    text = plain(content).rstrip(b"\0")
    counted = len(content) >= _HEAD and len(content) == _HEAD + _FACET.itemsize * _count(content)
    if text.lstrip()[:5].lower() == b"solid" and not counted and b"\0" not in text:
        return _text(text)
    return _binary(content)


def _count(content: bytes) -> int:
    return int.from_bytes(content[80:_HEAD], "little")


def _binary(content: bytes) -> Soup:
    if len(content) < _HEAD:
        raise ValueError(f"{len(content)} bytes are neither text nor a binary file")
    promised, notes = _count(content), []
    there, rest = divmod(len(content) - _HEAD, _FACET.itemsize)
    facets = np.frombuffer(content, _FACET, there, _HEAD)
    known, more = np.split(facets["corners"].astype(np.float64), [min(promised, there)])
    uncounted = promised in (0, 2**32 - 1)  # as programs leave it that write facets as they come
    if there and not rest and (uncounted or _are_facets(more, known)):
        notes.append(f"the file says {promised} facets and holds {there}, which were read")
        promised = there
    if promised > there:
        raise ValueError(f"{promised} facets are promised, {there} found; truncated?")
    left = len(content) - _HEAD - promised * _FACET.itemsize
    notes += [f"{left} bytes after the last facet left out"] * bool(left)
    vertices = facets[:promised]["corners"].reshape(-1, 3).astype(np.float64)
    sizes = np.full(promised, 3)
    return Soup(vertices, np.arange(3 * promised), sizes, "binary STL", 1, tuple(notes))


def _are_facets(more: np.ndarray, known: np.ndarray) -> bool:
    """Whether what lies behind the `known` facets, those counted, looks like more of them."""
    if not len(more) or not np.isfinite(more).all():
        return False
    low, high = known.min(axis=(0, 1)), known.max(axis=(0, 1))
    around = np.abs(more - (low + high) / 2).max() <= _AROUND * (high - low).max()
    return bool(around and (more != more[:, :1]).any())


def _text(text: bytes) -> Soup:
    text = text.lower()
    loops = re.split(rb"\bouter\s+loop\b", text)[1:]
    facets = len(re.findall(rb"\bfacet\s+normal\b", text))
    vertices, polygons = [], []
    for i, loop in enumerate(loops, 1):
        inner, end, _ = loop.partition(b"endloop")
        corners = [tuple(map(float, words)) for words in _VERTEX.findall(inner)]
        polygons.append(range(len(vertices), len(vertices) + len(corners)))
        vertices += corners
        if len(corners) < 3 or not end:
            raise ValueError(f"facet {i} has {len(corners)} vertices; truncated?")
    if facets != len(loops):
        raise ValueError(f"{facets} facets begin, {len(loops)} have vertices; truncated?")
    whole = b"endsolid" in text
    if not whole and not text.rstrip().endswith(b"endfacet"):
        raise ValueError(f"it ends within the facet after {len(loops)}; truncated?")
    solids = len(re.findall(rb"^\s*solid\b", text, re.MULTILINE))
    notes = () if whole else ("there is no endsolid: the file may be cut off",)
    return soup(vertices, polygons, "STL in text", solids, notes)
