"""Wavefront OBJ files: vertices and polygons; all else is looks."""

import re
from pathlib import Path

from nefgpt.inputs.polygons import Soup, soup, text_of

# A line whose end joins it to the next; of names and files a backslash there is part.
_JOINED = re.compile(
    rb"(?:^|(?<=[\r\n]))(?!\s*(?:o|g|mtllib|usemtl)\b)([^\r\n]*)\\[ \t]*(?:\r\n|\n|\r)"
)
_FREE_FORM = {b"surf", b"curv", b"curv2", b"cstype"}
_FACES = {b"f", b"fo"}  # "fo" is what the first version of the format called them


def read(path: Path) -> Soup:
    """Read an OBJ file.

    Words are set apart by any white space, `#` begins a comment, `\\` joins lines unless it ends
    a comment or a name, and a negative index counts back from the vertices read so far.

    Raises
    ------
    ValueError
        naming the line that cannot be read.
    """
    text = text_of(path)
    if b"\\" in text:
        text = _JOINED.sub(rb"\1 ", text)
    vertices, polygons, names = [], [], set()
    name, few, lines, free = b"", 0, 0, False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            if words[0] == b"v":
                x, y, z = map(float, words[1:4])
                vertices.append((x, y, z))
            elif words[0] in _FACES:
                polygon = [_corner(word, len(vertices)) for word in words[1:]]
                if len(polygon) < 3:
                    few += 1
                    continue
                polygons.append(polygon)
                names.add(name)
            elif words[0] in (b"o", b"g"):
                name = line
            lines += words[0] in (b"l", b"p")
            free |= words[0] in _FREE_FORM
        except ValueError as error:
            raise ValueError(
                f"line {number}, {line[:60].decode(errors='replace')!r}: {error}"
            ) from None
    notes = [f"{few} faces of fewer than three corners left out"] * bool(few)
    notes += [f"{lines} lines of lines or points left out"] * bool(lines)
    notes += ["free-form surfaces left out"] * free
    return soup(vertices, polygons, "OBJ", len(names), tuple(notes))


def _corner(word: bytes, n_vertices: int) -> int:
    """Number of a corner's vertex, from 0 on; `word` is v, v/vt, v//vn or v/vt/vn."""
    index = int(word.partition(b"/")[0])
    if index > 0:
        return index - 1
    if index < -n_vertices or not index:
        raise ValueError(f"there is no vertex {index}")
    return n_vertices + index
