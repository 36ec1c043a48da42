"""Which side of a mesh's faces is outside: copies left out, patches turned alike and outward.

What is right already stays as it is, number by number.
"""

import igl
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nefgpt.inputs.seen import Seen, inside

OPEN = 0.3  # a patch is a sheet when its faces' areas add up, as vectors, to more of its area
HOLES = 0.03  # and has a side of its own, whatever its faces say, up to this
FLAT = 1e-3  # and encloses nothing below this share of a cube with its area
N_NEAR = 1024  # points near the surface at which signs are compared
MARGIN = 0.005  # of them, by which the file's own faces have to be better
PROBES = 16  # vertices of a patch that have to lie within another one


def repair(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Faces without copies, turned so that the winding number tells inside from outside.

    Of faces that are given twice the same way round, one stays. Of twins, one for each side of
    the surface, one stays where they are all of a closed surface, or fill a gap in one; else
    they cancel each other, and both stay. Faces joined by an edge that is theirs alone are
    turned alike, as most of their area is. Closed patches are turned outward, but for those
    within others: they keep their turn relative to what is around them, as cavities need it.

    Where the surface is open all the same, what was turned or left out stays so unless the
    file's own faces agree better with what is hidden from outside.

    Parameters
    ----------
    vertices : float64 [V, 3], each position once.
    faces : int64 [F, 3], no vertex twice in a face.

    Returns
    -------
    int64 [F', 3] in the order of `faces`, and what was done, a sentence each.
    """
    points = (vertices - vertices.min(axis=0)) / np.ptp(vertices, axis=0).max()
    kept, twins, paired = _without_copies(points, faces)
    single = np.flatnonzero(~paired[kept])
    turned = np.zeros(len(kept), bool)
    turned[single] = _turned(points, faces[kept[single]], twins[kept[single]])
    found = _with_turns(faces[kept], turned)
    if (len(kept) < len(faces) or turned.any()) and not _is_closed(found):
        seen = Seen(points, faces)
        near = seen.near(N_NEAR)
        hidden = seen.hidden(near)
        before, after = ((inside(points, f, near) == hidden).mean() for f in (faces, found))
        if before > after + MARGIN:
            return faces, []
    notes = [f"{len(faces) - len(kept)} faces given twice left out"] * (len(kept) < len(faces))
    notes += [f"{turned.sum()} faces turned round"] * bool(turned.any())
    return found, notes


def _with_turns(faces: np.ndarray, turned: np.ndarray) -> np.ndarray:
    return np.where(turned[:, None], faces[:, ::-1], faces) if turned.any() else faces


def _is_closed(faces: np.ndarray) -> bool:
    """Whether every edge is gone as often one way as the other."""
    after = np.roll(faces, -1, axis=1)
    _, edge = np.unique(_edges(faces, int(faces.max()) + 1), return_inverse=True)
    return not np.bincount(edge.ravel(), np.where(faces < after, 1, -1).ravel()).any()


def _edges(faces: np.ndarray, n: int) -> np.ndarray:
    """Numbers of the edges of faces, int64 [F, 3], alike whichever way they are gone."""
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2)
    return ends.min(axis=2) * n + ends.max(axis=2)


def _without_copies(
    points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which faces stay, which have a twin on the other side, and of which both stay.

    Returns
    -------
    int64 [K] rows of `faces`; bool [F]; bool [F].
    """
    first = faces.argmin(axis=1)[:, None]
    ordered = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    forward = ordered[:, 1] < ordered[:, 2]
    _, group = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    _, kept = np.unique(2 * group.ravel() + forward, return_index=True)
    kept = np.sort(kept)
    twins, paired = np.zeros(len(faces), bool), np.zeros(len(faces), bool)
    sides = np.bincount(group.ravel()[kept])
    twins[kept] = sides[group.ravel()[kept]] == 2
    if not twins.any():
        return kept, twins, paired
    rows = kept[twins[kept]]
    _, begin = np.unique(group.ravel()[rows], return_index=True)
    one, rest = rows[begin], kept[~twins[kept]]
    part = _sheets(points, faces[one], faces[rest])
    paired[rows] = ~part[_group_index(group.ravel(), one, rows)]
    second = np.setdiff1d(rows, one)
    return np.setdiff1d(kept, second[~paired[second]]), twins, paired


def _group_index(group: np.ndarray, one: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each of `rows`, the place in `one` of the row of its group."""
    order = np.argsort(group[one])
    return order[np.searchsorted(group[one][order], group[rows])]


def _sheets(points: np.ndarray, twins: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Of which twins one is to stay, bool [T]; decided for all that are joined by edges."""
    edges, others = _edges(twins, len(points)), _edges(rest, len(points))
    numbers, edge = np.unique(edges, return_inverse=True)
    edge = edge.reshape(edges.shape)
    held = np.isin(others, numbers)
    of_rest = np.bincount(np.searchsorted(numbers, others[held]), minlength=len(numbers))
    face = np.repeat(np.arange(len(twins)), 3)
    joined = coo_array((np.ones(len(face)), (face, edge.ravel())), (len(twins), len(numbers)))
    n_parts, part = connected_components(joined @ joined.T, directed=False)
    odd = np.bincount(edge.ravel(), minlength=len(numbers)) % 2 == 1
    part_of_edge = np.empty(len(numbers), np.int64)
    part_of_edge[edge.ravel()] = part[face]
    rims = np.bincount(part_of_edge[odd], minlength=n_parts)
    gaps = np.bincount(part_of_edge[odd & (of_rest % 2 == 1)], minlength=n_parts)
    walls = np.bincount(part_of_edge[odd & (of_rest > 0)], minlength=n_parts) - gaps
    alike, _ = igl.bfs_orient(np.ascontiguousarray(twins))
    open_share, volume, area = _enclosed(points, alike, part, n_parts)
    solid = (open_share < OPEN) & (np.abs(volume) > FLAT * area**1.5)
    return (((rims > 0) & (2 * gaps >= rims)) | (solid & (2 * walls <= rims)))[part]


def _enclosed(
    points: np.ndarray, faces: np.ndarray, part: np.ndarray, n_parts: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By part: how open it is (0 closed, 1 a flat sheet), signed volume, and area; [n] each."""
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    areas = np.linalg.norm(normals, axis=1)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(part, values, n_parts)

    area = np.maximum(total(areas), 1e-300)
    middles = corners.mean(axis=1)
    centres = np.stack([total(areas * middles[:, k]) for k in range(3)], axis=1) / area[:, None]
    vector = np.stack([total(normals[:, k]) for k in range(3)], axis=1)
    volume = total(((middles - centres[part]) * normals).sum(axis=1)) / 3
    return np.linalg.norm(vector, axis=1) / area, volume, area


def _turned(points: np.ndarray, faces: np.ndarray, twins: np.ndarray) -> np.ndarray:
    """Which faces are to be turned round, bool [F]; `twins` say nothing by how they lie."""
    if not len(faces):
        return np.zeros(0, bool)
    alike, patch = igl.bfs_orient(np.ascontiguousarray(faces))
    n_patches = int(patch.max()) + 1
    turned = (alike != faces).any(axis=1)
    corners = points[faces]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    votes = np.bincount(patch, areas * ~twins * np.where(turned, 1.0, -1.0), n_patches)
    turned ^= (votes > 0)[patch]
    found = np.where(turned[:, None], faces[:, ::-1], faces)
    limit = np.where(votes == 0, OPEN, HOLES)
    return turned ^ _inward(points, found, patch, limit)[patch]


def _inward(
    points: np.ndarray, faces: np.ndarray, patch: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """Which of n patches are to be turned outward, bool [n]; see `repair`.

    Parameters
    ----------
    limit : float [n], how open a patch may be that is turned.
    """
    n = len(limit)
    open_share, volume, area = _enclosed(points, faces, patch, n)
    closed = (open_share < limit) & (np.abs(volume) > FLAT * area**1.5)
    closed |= (open_share < 1e-9) & (np.abs(volume) > 1e-9 * area**1.5)
    inward = np.zeros(n, bool)
    if not (closed & (volume < 0)).any():
        return inward
    low, high = np.full((n, 3), np.inf), np.full((n, 3), -np.inf)
    np.minimum.at(low, patch, points[faces].min(axis=1))
    np.maximum.at(high, patch, points[faces].max(axis=1))
    rows = np.split(np.argsort(patch, kind="stable"), np.cumsum(np.bincount(patch))[:-1])
    around = np.flatnonzero(closed)
    size = np.prod(high - low, axis=1)
    for i in around[np.argsort(-size[around], kind="stable")]:
        inward[i] = volume[i] < 0
        over = around[(low[around] <= low[i]).all(axis=1) & (high[around] >= high[i]).all(axis=1)]
        over = over[size[over] > size[i]]
        if not inward[i] and not inward[over].any():
            continue
        probes = points[np.unique(faces[rows[i]])]
        probes = np.ascontiguousarray(probes[:: max(len(probes) // PROBES, 1)])
        for j in over[np.argsort(size[over], kind="stable")]:
            winding = igl.winding_number(points, np.ascontiguousarray(faces[rows[j]]), probes)
            if (np.abs(winding) > 0.5).all():
                inward[i] = inward[j]
                break
    return inward
