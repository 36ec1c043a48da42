"""What `nefgpt.signals.parts` compiles."""

import numba

from nefgpt.base.compiled import MATH


@numba.njit(**MATH)
def _root(above, vertex):
    while above[vertex] != vertex:
        above[vertex] = above[above[vertex]]
        vertex = above[vertex]
    return vertex


@numba.njit(**MATH)
def parts(faces, above, part):
    """How many there are; `part` gets each vertex's. `above` begins as their numbers."""
    for f in range(len(faces)):
        first = _root(above, faces[f, 0])
        for corner in (1, 2):
            other = _root(above, faces[f, corner])
            # The smallest vertex leads, so that one pass numbers the parts in order.
            above[max(first, other)] = first = min(first, other)
    count = 0
    for vertex in range(len(above)):
        root = _root(above, vertex)
        if root == vertex:
            part[vertex] = count
            count += 1
        else:
            part[vertex] = part[root]
    return count
