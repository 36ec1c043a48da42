"""What of a mesh is seen from far away: inside and outside without asking which way faces lie."""

import igl
import numpy as np

N_DIRECTIONS = 32
HIDDEN = 2  # a point is hidden when fewer rays than that leave it unhindered
SIGMA = 0.01  # their distance from the surface, as a share of the mesh's extent


def _directions(n: int) -> np.ndarray:
    """Unit vectors float64 [n, 3], spread evenly along a spiral."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


class Seen:
    """Casts rays at a mesh.

    Parameters
    ----------
    points : float64 [V, 3]
    faces : int64 [F, 3]; which way they lie makes no difference.
    """

    def __init__(self, points: np.ndarray, faces: np.ndarray) -> None:
        self.points = np.ascontiguousarray(points, np.float64)
        self.faces = np.ascontiguousarray(faces, np.int64)
        self.tree = igl.AABB()
        self.tree.init(self.points, self.faces)

    def hidden(self, origins: np.ndarray) -> np.ndarray:
        """Which points [n, 3] nobody outside sees, bool [n]."""
        n = len(origins)
        rays = np.tile(_directions(N_DIRECTIONS), (n, 1))
        starts = np.repeat(np.asarray(origins, np.float64), N_DIRECTIONS, axis=0)
        hit, _, _ = self.tree.intersect_ray_first(self.points, self.faces, starts, rays)
        return (hit.reshape(n, N_DIRECTIONS) < 0).sum(axis=1) < HIDDEN

    def near(self, n: int) -> np.ndarray:
        """Points around the surface, float64 [n, 3], evenly by its area; always the same."""
        rng = np.random.default_rng(0)
        corners = self.points[self.faces]
        sides = corners[:, 1:] - corners[:, :1]
        sums = np.cumsum(np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1))
        at = np.searchsorted(sums, sums[-1] * (np.arange(n) + rng.random(n)) / n)
        at = np.minimum(at, len(sums) - 1)
        u, v = rng.random((2, n, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        extent = np.ptp(self.points, axis=0).max()
        return (
            corners[at, 0]
            + u * sides[at, 0]
            + v * sides[at, 1]
            + rng.normal(0, SIGMA * extent, (n, 3))
        )


def inside(points: np.ndarray, faces: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether the fast winding number's magnitude is above one half, bool [N].

    The magnitude makes a mesh with its faces turned inside out equal to its right side out.

    Parameters
    ----------
    points : float [V, 3]
    faces : int [F, 3]
    at : float [N, 3], in the frame of the mesh.
    """
    winding = igl.fast_winding_number(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(faces, np.int64),
        np.ascontiguousarray(at, np.float64),
    )
    return np.abs(winding) > 0.5
