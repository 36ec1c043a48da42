"""Connected parts of meshes are those that SciPy finds."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nefgpt.signals.parts import connected_parts


@pytest.mark.parametrize(("n_vertices", "n_faces"), [(1, 0), (3, 1), (50, 12), (300, 90), (60, 99)])
def test_parts_are_those_of_scipy(n_vertices, n_faces):
    rng = np.random.default_rng(n_faces)
    faces = rng.integers(n_vertices, size=(n_faces, 3))
    edges = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    graph = coo_array((np.ones(edges.shape[1], bool), edges), shape=(n_vertices,) * 2)
    expected, theirs = connected_components(graph, directed=False)
    count, ours = connected_parts(faces, n_vertices)
    assert count == expected
    assert len({*zip(ours.tolist(), theirs.tolist(), strict=True)}) == count == ours.max() + 1
