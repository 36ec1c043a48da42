"""Connected parts of a mesh; to load SciPy for them takes as long as to fit two fields."""

import numba
import numpy as np

from nefgpt.base.compiled import MATH, compiled


@numba.njit(**MATH)
def _root(above, vertex):
    while above[vertex] != vertex:
        above[vertex] = above[above[vertex]]
        vertex = above[vertex]
    return vertex


@compiled
def _parts(faces, n_vertices):
    above = np.arange(n_vertices)
    for f in range(len(faces)):
        first = _root(above, faces[f, 0])
        for corner in (1, 2):
            other = _root(above, faces[f, corner])
            # The smallest vertex leads, so that one pass numbers the parts in order.
            above[max(first, other)] = first = min(first, other)
    part, count = np.empty(n_vertices, np.int64), 0
    for vertex in range(n_vertices):
        root = _root(above, vertex)
        if root == vertex:
            part[vertex] = count
            count += 1
        else:
            part[vertex] = part[root]
    return count, part


def connected_parts(faces: np.ndarray, n_vertices: int) -> tuple[int, np.ndarray]:
    """How many parts there are, and the part of every vertex, int64 [V].

    Parameters
    ----------
    faces : int64 [F, 3]; a vertex without a face is a part of its own.
    """
    return _parts(np.ascontiguousarray(faces), n_vertices)
