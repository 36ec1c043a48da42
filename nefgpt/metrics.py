"""Metrics of sets of shapes or images, from the distances between their members.

MMD and COV after Achlioptas et al. (2018), 1-NNA after Yang et al. (PointFlow, 2019), as
DESIGN.md section 3 defines them.
"""

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nefgpt import signals
from nefgpt.chamfer import chamfer_matrix, nearest_clouds
from nefgpt.errors import InputError
from nefgpt.io import atomic_path, read_clouds, read_table, stable_seed, write_text

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


def class_scores(clouds: np.ndarray, table, classifier: Path) -> tuple[dict, list[dict]]:
    """How well samples show the class they were made for.

    Parameters
    ----------
    clouds : images [n, H, W].
    table : frame with a `label` for each.

    Returns
    -------
    dict
        `accuracy %` and `cross-entropy` (nats) of all samples.
    list of dict
        The same for each `label`, with `n`.
    """
    from nefgpt.classifier import load_classifier, probabilities, scores

    if (table["label"] == "").any():
        raise InputError("samples without a label have no class that a classifier could find")
    labels = table["label"].to_numpy(int)
    right, entropy = scores(probabilities(load_classifier(classifier), clouds), labels)

    def mean(rows: np.ndarray) -> dict:
        return {
            "accuracy %": 100 * float(right[rows].mean()),
            "cross-entropy": float(entropy[rows].mean()),
        }

    return mean(labels >= 0), [
        {"label": int(c), "n": int((labels == c).sum()), **mean(labels == c)}
        for c in np.unique(labels)
    ]


def _score_files(args: argparse.Namespace) -> None:
    import pandas as pd

    ids = read_table(args.train.with_suffix(".csv"), ["shape_id"])["shape_id"].tolist()
    kind = signals.named(args.kind)
    try:
        with np.load(args.distances, allow_pickle=False) as stored:
            known = {name: stored[name] for name in ("rr", "nearest_train", "n_train")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {args.distances}: {error}; delete it") from error
    generated, reference, train = map(read_clouds, (args.clouds, args.reference, args.train))
    table = read_table(args.samples, ["shape_id", "label", "valid"])
    if args.draws < 1 or len(generated) % args.draws or len(table) != len(generated):
        raise InputError(
            f"{args.clouds} and {args.samples} hold {len(generated)} and {len(table)} samples, "
            f"not {args.draws} draws of one size; delete both and run again"
        )
    rows, parts = [], []
    for draw, places in enumerate(np.split(np.arange(len(generated)), args.draws)):
        some, seed = table.iloc[places], args.seed + draw
        values, found, n = score(
            generated[places], reference, train, known, seed, kind.distances, kind.nearest
        )
        parts.append(found)
        if "watertight" in some:
            values["watertight %"] = 100 * float((some["watertight"].str.lower() == "true").mean())
            values["parts"] = float(pd.to_numeric(some["n_components"]).median())
        if args.classifier:
            values |= class_scores(generated[places], some, args.classifier)[0]
        about = {"seed": seed, "n_generated": n, "n_reference": n}
        rows += [
            {"method": args.method, "setting": args.setting, "metric": name, "value": value} | about
            for name, value in values.items()
        ]
    write_text(args.out, pd.DataFrame(rows).to_csv(index=False))
    if args.classifier:
        about = {"method": args.method, "setting": args.setting}
        of_classes = class_scores(generated, table, args.classifier)[1]
        classes = pd.DataFrame([{**about, **row} for row in of_classes])
        write_text(args.classes, classes.to_csv(index=False))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    nearest = {"sample": range(len(generated)), "valid": found["valid"]}
    for place, rows in enumerate(found["nearest"].T, start=1):
        nearest[f"nearest_{place}"] = [ids[i] if i >= 0 else "" for i in rows]
    nearest["distance_x100"] = np.where(found["valid"], 100 * found["distance"], np.nan)
    write_text(args.nearest, pd.DataFrame(nearest).to_csv(index=False))


def main() -> None:
    """Command line: distances among real shapes, and one method's score."""
    parser = argparse.ArgumentParser(description="MMD, COV, 1-NNA and nearest train shapes.")
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("reference", help="distances that all methods share")
    one = commands.add_parser("score", help="score one method's samples against the test split")
    for command in (real, one):
        command.add_argument("--reference", type=Path, required=True, help="test clouds, .npy")
        command.add_argument("--train", type=Path, required=True, help="train clouds, with .csv")
        command.add_argument("--kind", choices=["shapes", "images"], default="shapes")
        command.add_argument("--out", type=Path, required=True, help=".npz | long CSV of metrics")
    one.add_argument("--clouds", type=Path, required=True, help="of the samples, .npy")
    one.add_argument("--distances", type=Path, required=True, help="what `reference` wrote")
    one.add_argument("--method", required=True)
    one.add_argument("--setting", required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--draws", type=int, default=1, help="sets of equal size among the samples")
    one.add_argument("--samples", type=Path, required=True, help="samples.csv, what they are")
    one.add_argument("--classifier", type=Path, help="of images with labels, .safetensors")
    one.add_argument("--classes", type=Path, help="with --classifier: CSV, a row per class")
    one.add_argument("--nearest", type=Path, required=True, help="CSV, a row per sample")
    args = parser.parse_args()
    if args.command == "score":
        _score_files(args)
        return
    clouds = read_clouds(args.reference), read_clouds(args.train)
    kind = signals.named(args.kind)
    found = reference_distances(*clouds, kind.distances, kind.nearest)
    with atomic_path(args.out) as temporary:
        np.savez(temporary, **found)
