"""The kinds of signals that a field can hold, and what depends on the kind.

A kind is one module. The stages between fitting and evaluation ask `kind_of` for it and use only
the names of `Kind`; none of them knows which kinds there are.
"""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.settings import Extract

_MODULES = {"sdf": "shapes", "occupancy": "shapes", "brightness": "images"}


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


class Kind(Protocol):
    """What a module has to offer to be a kind of signal.

    Attributes
    ----------
    QUALITY : measures of a fit, columns of weights.parquet.
    KEPT : those that are measured again after quantisation.
    DISTANCE : name of the distance, times 100.
    FILES : folder and suffix of decoded fields.
    COMPARED : shape of what is compared of one signal; None where the data say.
    """

    QUALITY: tuple[str, ...]
    KEPT: tuple[str, ...]
    DISTANCE: str
    FILES: tuple[str, str]
    COMPARED: tuple[int, ...] | None

    def training_rows(self, n: int) -> np.ndarray:
        """Which of a signal's `n` points fits may see, bool [n]."""

    def quality(self, spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
        """Measures of how well one field [W] keeps its signal."""

    def real(self, signal: dict) -> np.ndarray:
        """What the metrics compare of a real signal."""

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
    ) -> Decoded:
        """Turn one field [W] into what is compared (of shape `size`), shown and saved."""


def named(name: str) -> Kind:
    """The kind "shapes" or "images"."""
    return importlib.import_module(f"nefgpt.signals.{name}")


def kind_of(spec: FieldSpec) -> Kind:
    """The kind of signal that a field of this specification holds."""
    return named(_MODULES[spec.target])
