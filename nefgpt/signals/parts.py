"""Connected parts of a mesh; to load SciPy for them takes as long as to fit two fields."""

import numpy as np

from nefgpt.base.compiled import I1, I2, Compiled

_parts = Compiled(__name__, "parts", I2, I1, I1)


def connected_parts(faces: np.ndarray, n_vertices: int) -> tuple[int, np.ndarray]:
    """How many parts there are, and the part of every vertex, int64 [V].

    Parameters
    ----------
    faces : int64 [F, 3]; a vertex without a face is a part of its own.
    """
    part = np.empty(n_vertices, np.int64)
    return _parts(np.ascontiguousarray(faces), np.arange(n_vertices), part), part
