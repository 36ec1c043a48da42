"""Fitters: what all fields of a run start from, and the modules that find it.

A fitter is a module with the names of `Fitter`. The fits themselves are the same for all: of all
weights from the anchor, or of the coefficients where there is a basis.
"""

import importlib
from typing import NamedTuple, Protocol

import numpy as np

from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.settings import Template


class Shared(NamedTuple):
    """What all fields of a run share.

    Attributes
    ----------
    anchor : float32 [W].
    basis : float32 [k, W], fields are then anchor + coefficients @ basis; None: all weights are
        free, and start at the anchor.
    record : what template.safetensors says of how it was found.
    """

    anchor: np.ndarray
    basis: np.ndarray | None
    record: dict


class Fitter(Protocol):
    """What a module has to offer to be a fitter."""

    def prepare(
        self, spec: FieldSpec, signals: list[dict], settings: Template, seed: int
    ) -> Shared:
        """Learn from train signals what all fields start from.

        Raises
        ------
        InputError
            when the loss turns non-finite, or the signals do not suffice.
        """


def fitter(settings: Template) -> Fitter:
    """The module that `template.kind` names."""
    return importlib.import_module(f"nefgpt.fitting.{settings.fitter}")
