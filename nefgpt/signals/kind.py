"""The kinds of signals that a field can hold, and what depends on the kind.

A kind is one module. The stages between fitting and evaluation ask `kind_of` for it and use only
the names of `Kind`; none of them knows which kinds there are.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.settings import Extract


class Entry(NamedTuple):
    """One kind of signal, as the workflow sees it.

    Attributes
    ----------
    targets : of the fields that hold it; see `nefgpt.fields.spec.FieldSpec`.
    folder : of the sampled signals, below the results.
    decoded : of the decoded fields, below their row.
    suffix : of a decoded field's file.
    real : name of the table's row of real signals.
    extracted : whether decoding has settings, and what is compared a size of its own; else that
        is read from the real signals.
    """

    targets: tuple[str, ...]
    folder: str
    decoded: str
    suffix: str
    real: str
    extracted: bool


KINDS = {
    "shapes": Entry(("sdf", "occupancy"), "sdf", "meshes", ".ply", "train-meshes", True),
    "images": Entry(("brightness",), "images", "images", ".png", "train-images", False),
}


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One field, decoded.

    Attributes
    ----------
    compared : float32 array that the metrics compare; None when the field holds no signal.
    about : what the table of samples says of it.
    save : writes the mesh or image to a path; None when there is none.
    """

    compared: np.ndarray | None
    about: dict
    save: Callable[[Path], object] | None


class Shown(NamedTuple):
    """One signal of a figure: a decoded field, or a real signal itself.

    Attributes
    ----------
    decoded : file of the decoded field, which an empty one lacks; None for a real signal.
    signal : .npz of the real signal that is shown, or whose field was decoded; None for samples.
    root : folder that the paths of inputs start from.
    """

    decoded: Path | None = None
    signal: Path | None = None
    root: Path = Path()


class Measure(NamedTuple):
    """One measure of how well a field keeps its signal.

    Attributes
    ----------
    title : for people, with its unit.
    worst : the quantile, over many fields, where bad fits are.
    """

    title: str
    worst: float


class Kind(Protocol):
    """What a module has to offer to be a kind of signal.

    Attributes
    ----------
    QUALITY : measures of a fit by their column of weights.parquet.
    KEPT : those that are measured again after quantisation.
    COMPARED : shape of what is compared of one signal; None where the data say.
    DISTANCE : what the distance between two is called.
    SIDE : pixels across that a picture of one needs.
    """

    QUALITY: dict[str, Measure]
    KEPT: tuple[str, ...]
    COMPARED: tuple[int, ...] | None
    DISTANCE: str
    SIDE: int

    def training_rows(self, n: int) -> np.ndarray:
        """Which of a signal's `n` points fits may see, bool [n]."""

    def quality(self, spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
        """Measures of how well one field [W] keeps its signal."""

    def real(self, signal: dict, normalisation: str = "shape") -> np.ndarray:
        """What the metrics compare of a real signal; only clouds are normalised."""

    def distances(self, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        """All pairs of distances, float64 [n, m]; NaN samples are infinitely far from all."""

    def nearest(self, a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of `b` to each of `a`; see `nefgpt.signals.chamfer.nearest_clouds`."""

    def decode(
        self,
        spec: FieldSpec,
        field: np.ndarray,
        settings: Extract,
        seed: int,
        size: tuple[int, ...],
        source: Path | None = None,
        normalisation: str = "shape",
    ) -> Decoded:
        """Turn one field [W] into what is compared (of shape `size`), shown and saved."""

    def pictures(self, shown: Sequence[Shown], size: int) -> list[np.ndarray | None]:
        """Pictures of the signals of one figure, alike in scale; None for what is empty.

        Each is RGBA, uint8 [size, size, 4].
        """


def usable(compared: np.ndarray) -> np.ndarray:
    """Which of n compared arrays [n, ...] hold a signal, bool [n]: those without NaN."""
    return np.isfinite(compared).all(axis=tuple(range(1, compared.ndim)))


def named(name: str) -> Kind:
    """The kind of this name, one of `KINDS`."""
    return importlib.import_module(f"nefgpt.signals.{name}")


def name_of(spec: FieldSpec) -> str:
    """Name of the kind of signal that a field of this specification holds."""
    return next(name for name, entry in KINDS.items() if spec.target in entry.targets)


def kind_of(spec: FieldSpec) -> Kind:
    """The kind of signal that a field of this specification holds."""
    return named(name_of(spec))
