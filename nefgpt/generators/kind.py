"""Generators: what each has to offer, and what the workflow has to know of it.

A generator is a module with the names of `Generator`, loaded when it is asked for. Its row in
`KINDS` is all that is known of it before that; `nefgpt.config` has the blocks of its settings.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nefgpt.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from nefgpt.fitting.weights import Fields


class Entry(NamedTuple):
    """One generator, as the workflow sees it.

    Attributes
    ----------
    module : below `nefgpt.generators`.
    setting : what its one row is called; None for a generator with a row for each entry of the
        configuration: of its own block, or, where it is trained, of its models and samplings.
    learns : the table that its training reads, "weights" or "tokens"; None: nothing is trained.
    samplings : the field of the configuration's `sampling` that has its sampling settings.
    reads : what sampling reads besides weights and model, "codebook" or "tokens".
    gpu : whether it computes on a GPU.
    bound : whether its fields are those of train signals, a row of the ladder of bounds.
    """

    module: str
    setting: str | None = None
    learns: str | None = None
    samplings: str | None = None
    reads: tuple[str, ...] = ()
    gpu: bool = False
    bound: bool = False


# In the order of the table's rows.
KINDS = {
    "train-fields": Entry("ladder", "all", bound=True),
    "quantised-train-fields": Entry("ladder", "all", reads=("codebook", "tokens"), bound=True),
    "gaussian": Entry("gaussian", "pca"),
    "noise": Entry("noise"),
    "averages": Entry("averages"),
    "gpt": Entry(
        "gpt.generator", learns="tokens", samplings="settings", reads=("codebook",), gpu=True
    ),
}
TRAINED = tuple(kind for kind, entry in KINDS.items() if entry.learns)
BOUNDS = tuple(kind for kind, entry in KINDS.items() if entry.bound)


class Given(NamedTuple):
    """What fields are made from; a path is None where a generator reads no such file.

    Attributes
    ----------
    fields : the run's weights.parquet.
    codebook, tokens : codebook.safetensors and tokens.parquet.
    model : folder of the trained model.
    batch_size : samples to make at a time.
    """

    fields: "Fields"
    codebook: Path | None = None
    tokens: Path | None = None
    model: Path | None = None
    batch_size: int = 64


class Made(NamedTuple):
    """Fields of one draw.

    Attributes
    ----------
    weights : float32 [n, W].
    labels : the class each was made for; None without classes.
    ids : of train fields that stand in as samples; None for samples.
    tokens : uint16 [n, L], the codes that they were decoded from; None without codes.
    n_codes : of the codebook.
    coefficients : float32 [n, k] in the run's basis; None where they are not known.
    """

    weights: "np.ndarray"
    labels: list[int | None]
    ids: list[str] | None = None
    tokens: "np.ndarray | None" = None
    n_codes: int = 0
    coefficients: "np.ndarray | None" = None


class Generator(Protocol):
    """What a module has to offer to be a generator.

    Attributes
    ----------
    Settings : dataclass of a model's settings, where it is trained.
    Sampling : dataclass of a row's settings.
    """

    Settings: type
    Sampling: type

    def train(
        self, table: Path, out_dir: Path, settings: object, seed: int, resume_dir: Path | None
    ) -> None:
        """Write model.safetensors, config.json and losses.csv of one model to its folder."""

    def load(self, given: Given) -> object:
        """What `sample` needs and all draws share."""

    def sample(self, loaded: object, given: Given, setting: object, n: int, seed: int) -> Made:
        """Make `n` fields; the same seed gives the same ones, and more samples begin with these."""


def generator(kind: str) -> Generator:
    """The module of a generator.

    Raises
    ------
    InputError
        when there is none of this name.
    """
    if kind not in KINDS:
        raise InputError(f"there is no generator {kind!r}, but {', '.join(KINDS)}")
    return importlib.import_module(f"nefgpt.generators.{KINDS[kind].module}")


def classes_of(n: int, n_classes: int) -> list[int | None]:
    """The class each of `n` samples is made for: all in turn; None without classes."""
    return [i % n_classes if n_classes else None for i in range(n)]
