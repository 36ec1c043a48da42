"""What tokenise.py measures of a method: fidelity, and how predictable its codes are."""

import math
from pathlib import Path

import numpy as np

from nefgpt.base.files import read_table
from nefgpt.fields.spec import FieldSpec
from nefgpt.generators.gpt.batches import smooth_targets
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.gpt.train import COLUMNS, train
from nefgpt.generators.settings import Gpt
from nefgpt.signals.shapes import quality

WIDTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the smoothing, in codes


def _counts(tokens: np.ndarray, n_codes: int) -> np.ndarray:
    """How often each code stands at each place, float [L, n_codes]."""
    length = tokens.shape[1]
    flat = tokens.astype(np.int64) + np.arange(length) * n_codes
    return np.bincount(flat.ravel(), minlength=length * n_codes).reshape(length, -1).astype(float)


def positional_bits(train_tokens: np.ndarray, held: np.ndarray, n_codes: int) -> float:
    """Mean bits a token of held-out fields under a distribution of codes for every place.

    p(c at l) = (sum over train codes t at l of K(c, t) + u(c)) / (n + 1): K is a normalised
    Gaussian over code numbers, u(c) = (count of c at all places + 1) / (all counts + n_codes).
    K's width is chosen from `WIDTHS` on the train fields alone, each left out in its turn.

    Parameters
    ----------
    train_tokens, held : int [n, L] and [m, L].
    """
    counts = _counts(train_tokens, n_codes)
    n, unigram = len(train_tokens), counts.sum(axis=0) + 1
    unigram /= unigram.sum()
    places = np.arange(train_tokens.shape[1])
    best = (math.inf, 0.0)
    for width in WIDTHS:
        kernel = smooth_targets(n_codes, n_codes, width).double().numpy()
        smooth = counts @ kernel
        own = smooth[places, train_tokens] - kernel.diagonal()[train_tokens]
        left_out = -np.log2((own + unigram[train_tokens]) / n).mean()
        bits = -np.log2((smooth[places, held] + unigram[held]) / (n + 1)).mean()
        best = min(best, (float(left_out), float(bits)))
    return best[1]


def gpt_bits(
    tokens: np.ndarray, n_train: int, n_codes: int, settings: Gpt, folder: Path, seed: int
) -> float:
    """Bits a token of held-out fields by a GPT trained on the train ones.

    The lowest of its evaluations, all on the held-out fields: a little optimistic, equally so
    for all methods.
    """
    n = len(tokens)
    splits = ["train" if i < n_train else "val" for i in range(n)]
    rows = {"shape_id": [str(i) for i in range(n)], "split": splits, "label": [None] * n}
    write_tokens(folder / "tokens.parquet", rows, tokens, n_codes)
    train(folder / "tokens.parquet", folder, settings, seed)
    return read_table(folder / "losses.csv", COLUMNS)["val_loss"].astype(float).min() / math.log(2)


def explained(fields: np.ndarray, n_train: int, k: int = 32) -> float:
    """Share of held-out variance about the train mean within k train components, in percent."""
    mean = fields[:n_train].mean(axis=0)
    rows = np.linalg.svd(fields[:n_train] - mean, full_matrices=False)[2][:k]
    held = fields[n_train:] - mean
    return 100 * float(np.square(held @ rows.T).sum() / np.square(held).sum())


def fidelity(spec: FieldSpec, fields: np.ndarray, signals: list[dict], resolution: int) -> dict:
    """Medians of iou, iou_near and chamfer of fields [n, W]; how many have no surface."""
    rows = [
        quality(spec, field, signal, resolution)
        for field, signal in zip(fields, signals, strict=True)
    ]
    found = {name: float(np.nanmedian([row[name] for row in rows])) for name in ("iou", "iou_near")}
    chamfer = np.array([row["chamfer"] for row in rows])
    lost = int(np.isnan(chamfer).sum())
    # A field without a surface is infinitely far: the median then says what it should.
    found["chamfer"] = float(np.median(np.where(np.isnan(chamfer), np.inf, chamfer)))
    return found | {"lost": lost}
