"""Sequences of codes, and the batches a GPT is trained on."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import batch_rows
from nefgpt.generators.gpt.tokens import read_tokens
from nefgpt.generators.settings import Gpt

N_NEAR = 5


@dataclasses.dataclass
class Sequences:
    """Codes int64 [n, L] of one split, and a class int64 [n] for each (None without labels)."""

    codes: np.ndarray
    labels: np.ndarray | None

    def __post_init__(self) -> None:
        self._near = np.full((len(self.codes), N_NEAR), -1)
        self._n_near = np.full(len(self.codes), -1)  # -1: not looked for yet

    def near(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequences nearest to some of them by mean distance, of the same class if any.

        They are looked for when first asked for, and kept.

        Parameters
        ----------
        rows : row numbers [B].

        Returns
        -------
        ndarray
            Row numbers [B, N_NEAR], nearest first.
        ndarray
            How many of them there are [B]: fewer in a class that has no more.
        """
        for row in np.unique(rows[self._n_near[rows] < 0]):
            others = np.arange(len(self.codes))
            if self.labels is not None:
                others = np.flatnonzero(self.labels == self.labels[row])
            distance = np.abs(self.codes[others] - self.codes[row]).sum(axis=1)
            # The first is the sequence itself, or one just like it.
            found = others[np.argsort(distance, kind="stable")[1 : N_NEAR + 1]]
            self._near[row, : len(found)], self._n_near[row] = found, len(found)
        return self._near[rows], self._n_near[rows]


def read_split(path: Path) -> tuple[Sequences, Sequences, dict]:
    """Train and val sequences, with `n_codes`, `sequence_length`, `n_classes` (0: no labels)."""
    table = read_tokens(path)
    about = {"n_codes": table.n_codes, "sequence_length": table.tokens.shape[1]}
    labels = None if None in table.labels else np.asarray(table.labels, np.int64)
    if labels is None and any(label is not None for label in table.labels):
        raise InputError(f"{path}: some fields have a label and some have none")
    parts = {}
    for name in ("train", "val"):
        chosen = table.of_split(name)
        codes = table.tokens[chosen].astype(np.int64)
        parts[name] = Sequences(codes, None if labels is None else labels[chosen])
        if not len(chosen):
            raise InputError(
                f"{path}: the {name} split is empty, and the GPT needs it: add shapes or change "
                "dataset.split(_files)"
            )
    about["n_classes"] = 0 if labels is None else int(parts["train"].labels.max()) + 1
    if labels is not None and parts["val"].labels.max() >= about["n_classes"]:
        raise InputError(f"{path}: the val split has a class that the train split has not")
    return parts["train"], parts["val"], about


def mix(
    train: Sequences, chosen: np.ndarray, share: float, n_codes: int, rng: np.random.Generator
) -> np.ndarray:
    """Codes of the chosen rows, a share of them moved along the line to a near train sequence.

    The neighbour is of the same class where there are classes. Moves go both ways, up to 0.7 of
    the distance towards it and 0.3 away, since moves between sequences alone would shrink the
    spread of what is learned, and with it the coverage of samples.

    Codes are ordered along each coefficient, so that a sequence between two sequences is a
    field between two fields (SMOTE, Chawla et al. 2002, with five neighbours).

    Parameters
    ----------
    chosen : row numbers [B].

    Returns
    -------
    int64 [B, L]
    """
    codes = train.codes[chosen]
    near, n_near = train.near(chosen)
    moved = (rng.random(len(chosen)) < share) & (n_near > 0)
    which = (rng.random(len(chosen)) * n_near).astype(np.int64)
    by = rng.uniform(-0.3, 0.7, (len(chosen), 1)) * moved[:, None]
    others = train.codes[near[np.arange(len(chosen)), which]]
    return np.rint(codes + by * (others - codes)).astype(np.int64).clip(0, n_codes - 1)


def prefix_of(labels: np.ndarray | None, n: int, n_codes: int) -> np.ndarray:
    """Special tokens before the codes, int64 [n, P]: SOS, and the class token where there is one.

    A label of -1 stands for no class and is a second SOS.
    """
    start = np.full((n, 1), n_codes)
    if labels is None:
        return start
    return np.concatenate([start, n_codes + 1 + np.asarray(labels)[:, None]], axis=1)


def make_batch(
    train: Sequences, settings: Gpt, n_codes: int, iteration: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [prefix, codes but the last] and target codes [effective batch, L], int64."""
    size = settings.batch_size * settings.accumulate
    rng = np.random.default_rng(stable_seed(seed, "batch", iteration))
    chosen = batch_rows(len(train.codes), size, iteration, seed)
    targets = (
        mix(train, chosen, settings.mix, n_codes, rng) if settings.mix else train.codes[chosen]
    )
    inputs = targets[:, :-1].copy()
    if settings.jitter:
        moved = rng.random(inputs.shape) < settings.jitter
        step = rng.choice([-1, 1], inputs.shape)
        inputs = np.where(moved, np.clip(inputs + step, 0, n_codes - 1), inputs)
    labels = None if train.labels is None else train.labels[chosen]
    if labels is not None and settings.class_dropout:
        labels = np.where(rng.random(size) < settings.class_dropout, -1, labels)
    return np.concatenate([prefix_of(labels, size, n_codes), inputs], axis=1), targets


def smooth_targets(n_codes: int, vocabulary: int, width: float) -> Tensor:
    """Target distribution of every code, float32 [n_codes, vocabulary].

    A Gaussian of `width` codes around the code, since neighbouring codes mean nearly the same;
    special tokens get nothing. Width 0 is one-hot.
    """
    if not width:
        return torch.eye(n_codes, vocabulary)
    place = torch.arange(n_codes, dtype=torch.float32)
    weight = torch.exp(-(place[:, None] - place[None]).square() / (2 * width**2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    return F.pad(weight, (0, vocabulary - n_codes))
