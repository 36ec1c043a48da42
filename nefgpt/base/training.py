"""What the training loops share: rates, and batches by seed and iteration."""

import functools
import logging
import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from nefgpt.base.seeds import stable_seed

log = logging.getLogger(__name__)


class Schedule(Protocol):
    """Settings that have a learning rate's way."""

    learning_rate: float
    min_learning_rate: float
    warmup: int
    iterations: int


def learning_rate(settings: Schedule, iteration: int) -> float:
    """Linear warm-up, then a cosine from `learning_rate` down to `min_learning_rate`."""
    peak, low = settings.learning_rate, settings.min_learning_rate
    warmup, total = settings.warmup, settings.iterations
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    progress = (iteration - warmup) / max(1, total - warmup)
    return low + 0.5 * (1 + math.cos(math.pi * progress)) * (peak - low)


@functools.lru_cache(maxsize=2)  # a batch has rows of one epoch, or of two
def _order(n_rows: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng(stable_seed(seed, "epoch", epoch)).permutation(n_rows)


def batch_rows(n_rows: int, batch: int, iteration: int, seed: int) -> np.ndarray:
    """Row numbers [batch] of an iteration: a window of the endless row of permutations."""
    places = iteration * batch + np.arange(batch)
    epochs = places // n_rows
    return np.concatenate(
        [
            _order(n_rows, int(epoch), seed)[places[epochs == epoch] % n_rows]
            for epoch in np.unique(epochs)
        ]
    )


def _load_state(path: Path, fingerprint: str) -> dict | None:
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["fingerprint"]
    # A file cut off by a full disk fails in many ways inside the unpickler.
    except Exception as error:
        log.warning("cannot read %s (%r): training starts anew", path, error)
        return None
    if known != fingerprint:
        log.info("%s is of another training run: training starts anew", path)
        return None
    log.info("resumed at iteration %d from %s", state["iteration"], path)
    return state
