"""OFF files, as Geomview and ModelNet write them."""

import re
from itertools import chain
from pathlib import Path

from nefgpt.inputs.polygons import Soup, soup, text_of

_HEAD = re.compile(rb"\s*((?:ST)?C?N?)(4?n?)OFF\b\s*(BINARY)?|\s*((?:ST)?C?N?)OFF(?=\d)", re.I)


def read(path: Path) -> Soup:
    """Read an OFF, COFF, NOFF or STOFF file; its counts may follow on the first line.

    Colours, normals and texture coordinates follow a vertex or a polygon on its line.

    Raises
    ------
    ValueError
        for binary or four-dimensional files, and where the file holds other numbers of vertices
        and faces than it promises.
    """
    lines = [line for line in map(bytes.strip, text_of(path).splitlines()) if line]
    head = _HEAD.match(lines[0]) if lines else None
    kind = "OFF"
    if head:
        if head[2] or head[3] or b"nOFF" in head[0]:
            raise ValueError(f"{head[0].decode().strip()} is not read: only text in 3D is")
        kind = f"{(head[1] or head[4] or b'').decode().upper()}OFF"
        lines[0] = lines[0][head.end() :].strip()
        lines = lines[not lines[0] :]
    counts, rest = (lines[0].split() if lines else []), lines[1:]
    if len(counts) == 1:  # each on a line of its own
        words = b" ".join(lines[:3]).split()
        counts, rest = words[:3], lines[len(words[:3]) :]
    if len(counts) < 2:
        raise ValueError("the numbers of vertices and faces are missing")
    if not rest:  # all in one line
        rest = [b" ".join(counts[3:])]
    n_vertices, n_faces = int(counts[0]), int(counts[1])
    if n_vertices < 0 or n_faces < 0:
        raise ValueError(f"{n_vertices} vertices and {n_faces} faces are promised")
    short = any(len(line.split()) < 3 for line in rest[:n_vertices])
    if short or len(rest) < n_vertices + n_faces:
        rest = _broken_up(rest, n_vertices, n_faces, kind)
    vertices = [_numbers(line, 3, float) for line in rest[:n_vertices]]
    polygons, few = [], 0
    for line in rest[n_vertices : n_vertices + n_faces]:
        size = int(line.split(None, 1)[0])
        polygon = _numbers(line, size + 1, int)[1:]
        if size < 3:
            few += 1
        else:
            polygons.append(polygon)
    notes = [f"{few} faces of fewer than three corners left out"] * bool(few)
    more = len(rest) - n_vertices - n_faces
    notes += [f"{more} lines after the last face left out"] * (more > 0)
    return soup(vertices, polygons, kind, 1, tuple(notes))


def _numbers(line: bytes, n: int, kind: type) -> list:
    found = [kind(word) for word in line.split()[:n]]
    if len(found) < n:
        raise ValueError(f"{line[:60].decode(errors='replace')!r} has not {n} numbers")
    return found


def _broken_up(lines: list[bytes], n_vertices: int, n_faces: int, kind: str) -> list[bytes]:
    """One line a vertex and a polygon, of a plain file that does not keep to lines."""
    words = list(chain.from_iterable(line.split() for line in lines))
    if kind != "OFF" or len(words) < 3 * n_vertices + n_faces:
        raise ValueError(
            f"{n_vertices} vertices and {n_faces} faces are promised, {len(lines)} lines found; "
            "truncated?"
        )
    found = [b" ".join(words[i : i + 3]) for i in range(0, 3 * n_vertices, 3)]
    at = 3 * n_vertices
    for _ in range(n_faces):
        size = int(words[at]) if at < len(words) else -1
        if size < 0 or at + size >= len(words):
            raise ValueError(f"{n_faces} faces are promised, {len(found) - n_vertices} found")
        found.append(b" ".join(words[at : at + size + 1]))
        at += size + 1
    if at < len(words):
        raise ValueError(f"{len(words) - at} numbers are left after {n_faces} faces")
    return found
