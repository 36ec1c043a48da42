"""Metrics of sets, from the distances between their members.

MMD and COV after Achlioptas et al. (2018), 1-NNA after Yang et al. (PointFlow, 2019), as
DESIGN.md section 3 defines them.
"""

from collections.abc import Callable

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.signals.chamfer import chamfer_matrix, nearest_clouds

NEIGHBOURS = 3  # nearest training signals kept of every sample


def mmd(generated_to_reference: np.ndarray) -> float:
    """Minimum matching distance from D [n_generated, n_reference]; lower is better."""
    return float(generated_to_reference.min(axis=0).mean())


def coverage(generated_to_reference: np.ndarray) -> float:
    """Share of references that are some sample's nearest, in percent; invalid rows cover none."""
    valid = np.isfinite(generated_to_reference).all(axis=1)
    nearest = generated_to_reference[valid].argmin(axis=1)
    return 100 * len(np.unique(nearest)) / generated_to_reference.shape[1]


def one_nna(gg: np.ndarray, gr: np.ndarray, rr: np.ndarray) -> float:
    """Leave-one-out 1-nearest-neighbour accuracy in percent; 50 is best.

    A tie between neighbours of both sets counts half. A sample at distance zero of a reference
    is the same cloud twice, and leaving one out leaves out its twin, so that a set scores 50 %
    against itself. An invalid sample is told apart from a real shape at sight, so it counts as
    classified correctly.

    Parameters
    ----------
    gg, gr, rr : [n, n] distances among samples, samples to references, among references.
    """
    if gr.shape[0] != gr.shape[1]:
        raise InputError(f"1-NNA needs sets of equal size, got {gr.shape[0]} and {gr.shape[1]}")
    gg, rr = gg.copy(), rr.copy()
    valid = np.isfinite(gr).any(axis=1)
    gr = np.where(gr == 0, np.inf, gr)
    np.fill_diagonal(gg, np.inf)
    np.fill_diagonal(rr, np.inf)
    same = np.concatenate([gg.min(axis=1), rr.min(axis=1)])
    other = np.concatenate([gr.min(axis=1), gr.min(axis=0)])
    score = np.where(same < other, 1.0, np.where(same > other, 0.0, 0.5))
    score[: len(gg)][~valid] = 1.0
    return float(100 * score.mean())


def set_metrics(
    generated: np.ndarray,
    reference: np.ndarray,
    among_references: np.ndarray,
    seed: int,
    distances: Callable[..., np.ndarray] = chamfer_matrix,
) -> tuple[dict[str, float], int]:
    """MMD, COV, 1-NNA and the share of valid samples; how many samples and references they used.

    Parameters
    ----------
    generated, reference : float32 [n, P, 3] normalised clouds or [n, H, W] images; NaN rows of
        `generated` are samples without a signal. The larger set is cut down to the size of the
        smaller one by the seed.
    among_references : distances [n, n] within `reference`.
    distances : all pairs of distances between two stacks, or within one.
    """
    valid = np.isfinite(generated).all(axis=(1, 2))
    n = min(len(generated), len(reference))
    rng = np.random.default_rng(stable_seed(seed, "evaluation"))
    chosen = np.sort(rng.choice(len(reference), n, replace=False))
    samples = generated[np.sort(rng.choice(len(generated), n, replace=False))]
    gr = distances(samples, reference[chosen])
    values = {
        "MMD x100": 100 * mmd(gr) if valid.any() else float("nan"),
        "COV %": coverage(gr),
        "1-NNA %": one_nna(distances(samples), gr, among_references[np.ix_(chosen, chosen)]),
        "valid %": 100 * float(valid.mean()),
    }
    return values, n


def score(
    generated: np.ndarray,
    reference: np.ndarray,
    train: np.ndarray,
    known: dict[str, np.ndarray],
    seed: int,
    distances: Callable[..., np.ndarray] = chamfer_matrix,
    nearest: Callable[..., tuple[np.ndarray, np.ndarray]] = nearest_clouds,
) -> tuple[dict[str, float], dict[str, np.ndarray], int]:
    """All set metrics of one method, and each sample's nearest training signals.

    Parameters
    ----------
    generated, reference, seed, distances : as for `set_metrics`.
    train : clouds or images of the train split.
    known : `reference_distances` of the same reference and train clouds.
    nearest : the nearest of a second stack to each of the first; see `nearest_clouds`.

    Returns
    -------
    dict
        Metric name to value.
    dict
        `valid` bool, `nearest` row numbers in `train`, nearest first, [n, up to 3] (-1: none) and
        `distance` of the first, one per sample.
    int
        How many samples, and how many references, the set metrics compared.
    """
    if len(known["rr"]) != len(reference) or known["n_train"] != len(train):
        raise InputError("the reference distances are of other clouds; delete them and run again")
    values, n = set_metrics(generated, reference, known["rr"], seed, distances)
    rows, found = nearest(generated, train, min(NEIGHBOURS, len(train)))
    distance = found[:, 0]
    # Nearer to a training shape than any unseen real shape is.
    values["copies %"] = 100 * float((distance < known["nearest_train"].min()).mean())
    valid = np.isfinite(generated).all(axis=(1, 2))
    # How far samples are from the training set: 1 is as far as unseen real shapes.
    unseen = float(np.median(known["nearest_train"]))
    seen = float(np.median(distance[valid])) if valid.any() else float("nan")
    values["novelty"] = seen / unseen if unseen else float("nan")
    return values, {"valid": valid, "nearest": rows, "distance": distance}, n


def reference_distances(
    reference: np.ndarray,
    train: np.ndarray,
    distances: Callable[..., np.ndarray] = chamfer_matrix,
    nearest: Callable[..., tuple[np.ndarray, np.ndarray]] = nearest_clouds,
) -> dict[str, np.ndarray]:
    """What every method's score needs.

    Returns
    -------
    dict
        `rr` [n, n] among references, `nearest_train` [n] of each to its nearest training signal,
        and `n_train`.
    """
    found = nearest(reference, train, 1)[1][:, 0]
    return {"rr": distances(reference), "nearest_train": found, "n_train": np.array(len(train))}
