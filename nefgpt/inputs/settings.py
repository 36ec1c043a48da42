"""Which inputs a run has: the configuration's block `dataset`."""

import math
from typing import Annotated, Literal

from annotated_types import Ge, Le

from nefgpt.base.settings import Share, settings

IMAGE_KINDS = ("digits", "mnist", "images")


@settings
class Split:
    """Shares of the three splits; they add up to one."""

    train: Share = 0.6
    val: Share = 0.1
    test: Share = 0.3

    def __post_init__(self) -> None:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, val and test add up to {total:g} instead of 1")


@settings
class SplitFiles:
    """Published split lists; without `val` a share of the train list is held back for it."""

    train: str
    val: str | None = None
    test: str


Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


@settings
class Frame:
    """Which axes of the mesh files point up and forward; fields are in ShapeNet's frame."""

    up: Axis = "+y"
    forward: Axis = "-z"

    def __post_init__(self) -> None:
        if self.up[1] == self.forward[1]:
            raise ValueError(f"up {self.up} and forward {self.forward} lie along one axis")

    @property
    def turn(self) -> list[list[int]]:
        """The rotation into ShapeNet's frame, by rows: to the right, up, backward."""
        up, forward = (
            [int(f"{axis[0]}1") * (axis[1] == name) for name in "xyz"]
            for axis in (self.up, self.forward)
        )
        (a, b, c), (d, e, f) = forward, up
        right = [b * f - c * e, c * d - a * f, a * e - b * d]
        return [right, up, [-a, -b, -c]]

    @property
    def given(self) -> dict | None:
        """The axes' names; None of ShapeNet's own frame, in which nothing is turned."""
        return None if self == Frame() else {"up": self.up, "forward": self.forward}


@settings
class Dataset:
    """Where the meshes or images come from."""

    kind: Literal["procedural", "shapenet", "folder", "digits", "mnist", "images"] = "procedural"
    root: str | None = None
    synset: str | int | None = None
    frame: Frame = Frame()
    n_shapes: Annotated[int, Ge(1), Le(10**6)] | None = None
    split: Split = Split()
    split_files: SplitFiles | str | None = None
    background: str | None = "white"
    max_rejected_fraction: Share = 0.1

    def __post_init__(self) -> None:
        if self.kind == "procedural" and self.n_shapes is None:
            raise ValueError("kind procedural needs n_shapes")
        if self.kind not in ("procedural", "digits") and not self.root:
            what = "images" if self.images else "meshes"
            raise ValueError(f"kind {self.kind} needs root, the folder of the {what}")
        if isinstance(self.synset, int):
            # YAML takes digits after a zero, all below 8, for an octal number.
            was = f"{self.synset:08o}" if self.synset < 8**7 else f"{self.synset:08d}"
            raise ValueError(f'synset = {self.synset}: quote it, synset: "{was}"')
        if self.background is None:
            raise ValueError('background is empty: quote a colour that begins with #, "#ffffff"')
        if self.background != "white":
            from nefgpt.inputs.pixels import colour

            colour(self.background)

    @property
    def images(self) -> bool:
        """Whether the inputs are images; else they are meshes."""
        return self.kind in IMAGE_KINDS

    @property
    def channels(self) -> tuple[int, ...]:
        """Values per point that its inputs can be read as."""
        return (1, 3) if self.kind == "images" else (1,)
