"""How predictable codes are: bits a token of held-out fields, by two models of the train ones."""

import math
from pathlib import Path

import numpy as np

from nefgpt.base.files import read_table
from nefgpt.generators.gpt.batches import smooth_targets
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.gpt.train import COLUMNS, train
from nefgpt.generators.settings import Gpt

WIDTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the smoothing, in codes


def _counts(tokens: np.ndarray, n_codes: int) -> np.ndarray:
    """How often each code stands at each place, float [L, n_codes]."""
    length = tokens.shape[1]
    flat = tokens.astype(np.int64) + np.arange(length) * n_codes
    return np.bincount(flat.ravel(), minlength=length * n_codes).reshape(length, -1).astype(float)


def positional_bits(train_tokens: np.ndarray, held: np.ndarray, n_codes: int) -> np.ndarray:
    """Mean bits a token, float64 [m], of held-out fields under a distribution for every place.

    p(c at l) = (sum over train codes t at l of K(c, t) + u(c)) / (n + 1): K is a normalised
    Gaussian over code numbers, u(c) = (count of c at all places + 1) / (all counts + n_codes).
    K's width is chosen from `WIDTHS` on the train fields alone, each left out in its turn.

    Parameters
    ----------
    train_tokens, held : int [n, L] and [m, L], codes below `n_codes`; n >= 1.
    """
    counts = _counts(train_tokens, n_codes)
    n, unigram = len(train_tokens), counts.sum(axis=0) + 1
    unigram /= unigram.sum()
    places = np.arange(train_tokens.shape[1])
    best = (math.inf, None)
    for width in WIDTHS:
        kernel = smooth_targets(n_codes, n_codes, width).double().numpy()
        smooth = counts @ kernel
        own = smooth[places, train_tokens] - kernel.diagonal()[train_tokens]
        left_out = -np.log2((own + unigram[train_tokens]) / n).mean()
        if left_out < best[0]:
            bits = -np.log2((smooth[places, held] + unigram[held]) / (n + 1)).mean(axis=1)
            best = (left_out, bits)
    return best[1]


def gpt_bits(
    tokens: np.ndarray, n_train: int, n_codes: int, settings: Gpt, folder: Path, seed: int
) -> float:
    """Bits a token of held-out fields by a GPT trained on the train ones.

    The lowest of its evaluations, all on the held-out fields: a little optimistic, and equally
    so for all ways of coding.

    Parameters
    ----------
    tokens : int [n, L], those of the train fields first.
    folder : for the table, the model and its losses.

    Raises
    ------
    InputError
        when the loss turns non-finite, or there is no train or no held-out field.
    """
    n = len(tokens)
    splits = ["train" if i < n_train else "val" for i in range(n)]
    rows = {"shape_id": [str(i) for i in range(n)], "split": splits, "label": [None] * n}
    write_tokens(folder / "tokens.parquet", rows, tokens, n_codes)
    train(folder / "tokens.parquet", folder, settings, seed)
    return read_table(folder / "losses.csv", COLUMNS)["val_loss"].astype(float).min() / math.log(2)
