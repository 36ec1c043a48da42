"""How shapes lie: which are turned against the rest of their set."""

import itertools

import numpy as np

SIDE = 6  # cells along each axis of the grid that stands for a shape
FEWEST = 20  # shapes that a set needs before any can lie turned against the rest
KNOWN = 300  # of a large set, this many are compared with
ALIKE = 0.1  # share of them that a shape is compared with: those most like it
GAIN = 0.055  # in likeness, by which another turn has to be better


def _turns() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 24 turns of the axes onto axes: which axis comes where, and those turned round."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            even = order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
            if np.prod(signs) == (1 if even else -1):
                found.append((order, tuple(axis for axis in range(3) if signs[axis] < 0)))
    return found


TURNS = _turns()  # the first changes nothing


def grid(surface: np.ndarray) -> np.ndarray:
    """How many points [N, 3], in field coordinates, lie in each cell: uint16 [SIDE] * 3."""
    cells = np.clip(((np.asarray(surface) + 0.5) * SIDE).astype(np.int64), 0, SIDE - 1)
    flat = np.ravel_multi_index(cells.T, (SIDE,) * 3)
    return np.bincount(flat, minlength=SIDE**3).reshape((SIDE,) * 3).astype(np.uint16)


class Poses:
    """Compares shapes with the others of their set.

    Parameters
    ----------
    known : of each shape in the set, or of `KNOWN` of them, its `grid` by its id.
    """

    def __init__(self, known: dict[str, np.ndarray]) -> None:
        self.ids = list(known)
        self.roots = np.array([_root(cells).ravel() for cells in known.values()])

    def turn(self, shape_id: str, cells: np.ndarray) -> str:
        """How a shape lies that is more like others once turned; "" where it lies as they do.

        The likeness of two shapes is the Bhattacharyya coefficient of their surfaces' shares in
        the cells. Each turn is judged by the shapes that are then most alike.
        """
        others = np.array([name != shape_id for name in self.ids], bool)
        if others.sum() < FEWEST - 1:
            return ""
        root = _root(cells)
        turned = [np.flip(root.transpose(order), flips).ravel() for order, flips in TURNS]
        alike = np.sort(np.array(turned) @ self.roots[others].T, axis=1)
        means = alike[:, -max(round(ALIKE * others.sum()), 3) :].mean(axis=1)
        best = int(means.argmax())
        if means[best] < means[0] + GAIN:
            return ""
        order, flips = TURNS[best]
        axes = [f"{'-' if axis in flips else '+'}{'xyz'[order[axis]]}" for axis in range(3)]
        return f"its {', '.join(axes)} look like the others' x, y, z"


def _root(cells: np.ndarray) -> np.ndarray:
    """Roots of the shares of the cells, float32: their squares add up to one."""
    return np.sqrt(cells / max(cells.sum(), 1)).astype(np.float32)
