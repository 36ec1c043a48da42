"""Score a row: its draws by every metric, and the training signals nearest to each sample."""

import argparse
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table, write_text
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.metric import METRICS, Known, Samples
from nefgpt.signals.kind import KINDS, Kind, named

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 3  # nearest training signals kept of every sample


def score_draws(
    generated: np.ndarray,
    table: "pd.DataFrame",
    train: np.ndarray,
    known: Known,
    kind: Kind,
    seeds: range,
) -> tuple["pd.DataFrame", dict[str, np.ndarray]]:
    """Measure sets of samples of one row, drawn by consecutive seeds.

    Parameters
    ----------
    generated : float32 [n, ...], what is compared of all draws, one after the other.
    table : what is known of each, as `samples.csv` says it.
    train : clouds or images of the train split.

    Returns
    -------
    frame
        `metric`, `value`, `seed`, `n_generated`, `n_reference`.
    dict
        `valid` bool, `nearest` row numbers in `train`, nearest first, [n, up to 3] (-1: none) and
        `distance` of the first, one per sample.
    """
    import pandas as pd

    rows, parts = [], []
    for seed, places in zip(seeds, np.split(np.arange(len(generated)), len(seeds)), strict=True):
        nearest, apart = kind.nearest(generated[places], train, min(NEIGHBOURS, len(train)))
        draw = Samples(generated[places], table.iloc[places], kind, seed, apart[:, 0])
        n = min(len(places), len(known.reference))
        about = {"seed": seed, "n_generated": n, "n_reference": n}
        for metric in METRICS:
            found = metric.measure(draw, known)
            rows += [{"metric": name, "value": value} | about for name, value in found.items()]
        parts.append({"valid": draw.valid, "nearest": nearest, "distance": apart[:, 0]})
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame(rows), found


def nearest_table(ids: list[str], found: dict[str, np.ndarray]) -> "pd.DataFrame":
    """Each sample's nearest training signals, as `nearest.csv` has them.

    Parameters
    ----------
    ids : of the train split.
    found : as `score_draws` gives it.
    """
    import pandas as pd

    nearest = {"sample": range(len(found["valid"])), "valid": found["valid"]}
    for place, rows in enumerate(found["nearest"].T, start=1):
        nearest[f"nearest_{place}"] = [ids[i] if i >= 0 else "" for i in rows]
    nearest["distance_x100"] = np.where(found["valid"], 100 * found["distance"], np.nan)
    return pd.DataFrame(nearest)


def reference_distances(
    reference: np.ndarray, train: np.ndarray, kind: Kind
) -> dict[str, np.ndarray]:
    """What every row's score needs.

    Returns
    -------
    dict
        `rr` [n, n] among references, `nearest_train` [n] of each to its nearest training signal,
        and `n_train`.
    """
    found = kind.nearest(reference, train, 1)[1][:, 0]
    among = kind.distances(reference)
    return {"rr": among, "nearest_train": found, "n_train": np.array(len(train))}


def read_known(
    path: Path, reference: np.ndarray, n_train: int, classifier: Path | None = None
) -> Known:
    """What `reference_distances` found, from its file.

    Raises
    ------
    InputError
        naming the file, when it cannot be read or is of other signals.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            among, nearest, counted = (stored[k] for k in ("rr", "nearest_train", "n_train"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}; delete it") from error
    if len(among) != len(reference) or counted != n_train:
        raise InputError(f"{path} has the distances of other signals; delete it and run again")
    return Known(reference, among, nearest, classifier)


def main() -> None:
    """Command line: distances among real shapes, and one method's score."""
    parser = argparse.ArgumentParser(description="MMD, COV, 1-NNA and nearest train shapes.")
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("reference", help="distances that all methods share")
    one = commands.add_parser("score", help="score one method's samples against the test split")
    for command in (real, one):
        command.add_argument("--reference", type=Path, required=True, help="test clouds, .npy")
        command.add_argument("--train", type=Path, required=True, help="train clouds, with .csv")
        command.add_argument("--kind", choices=list(KINDS), default="shapes")
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
    if args.command == "score" and args.classifier and not args.classes:
        parser.error("--classifier needs --classes")
    reference, train, kind = read_clouds(args.reference), read_clouds(args.train), named(args.kind)
    if args.command == "reference":
        found = reference_distances(reference, train, kind)
        with atomic_path(args.out) as temporary:
            np.savez(temporary, **found)
        return
    ids = read_table(args.train.with_suffix(".csv"), ["shape_id"])["shape_id"].tolist()
    known = read_known(args.distances, reference, len(train), args.classifier)
    generated = read_clouds(args.clouds)
    table = read_table(args.samples, ["shape_id", "label", "valid"])
    if args.draws < 1 or len(generated) % args.draws or len(table) != len(generated):
        raise InputError(
            f"{args.clouds} and {args.samples} hold {len(generated)} and {len(table)} samples, "
            f"not {args.draws} draws of one size; delete both and run again"
        )
    seeds = range(args.seed, args.seed + args.draws)
    metrics, found = score_draws(generated, table, train, known, kind, seeds)
    metrics.insert(0, "method", args.method)
    metrics.insert(1, "setting", args.setting)
    write_text(args.out, metrics.to_csv(index=False))
    if args.classifier:
        import pandas as pd

        from nefgpt.evaluation.classifier import class_scores  # loads PyTorch

        classes = pd.DataFrame(class_scores(generated, table, args.classifier)[1])
        classes.insert(0, "method", args.method)
        classes.insert(1, "setting", args.setting)
        write_text(args.classes, classes.to_csv(index=False))
    write_text(args.nearest, nearest_table(ids, found).to_csv(index=False))
