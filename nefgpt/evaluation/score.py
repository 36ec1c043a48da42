"""Score a row: its draws by every metric, and the training signals nearest to each sample."""

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table, write_text
from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation import frechet
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.metric import METRICS, Known, Samples
from nefgpt.evaluation.pairs import Pairs
from nefgpt.evaluation.protocol import in_class_frame
from nefgpt.evaluation.settings import NORMALISATIONS, Fpd
from nefgpt.signals.kind import KINDS, Kind, named

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 3  # nearest training signals kept of every sample


def measure_draws(
    draws: Sequence[tuple[Samples, Known]], normalisation: str = "shape"
) -> "pd.DataFrame":
    """Each draw by every metric: `metric`, `value`, `seed`, sizes, and by what protocol.

    Parameters
    ----------
    normalisation : of clouds.
    """
    import pandas as pd

    rows = []
    for draw, known in draws:
        n = min(len(draw.compared), len(known.reference))
        about = {"seed": draw.seed, "n_generated": n, "n_reference": n}
        about["normalisation"] = normalisation if draw.clouds else "none"
        for metric in METRICS:
            for name, value in metric.measure(draw, known).items():
                by = frechet.extractor(name, known)
                rows.append({"metric": name, "value": value} | about | {"extractor": by})
    return pd.DataFrame(rows)


def draws_of(
    generated: np.ndarray,
    table: "pd.DataFrame",
    train: np.ndarray,
    known: Known,
    kind: Kind,
    seeds: range,
    apart: np.ndarray | None = None,
) -> tuple[list[tuple[Samples, Known]], dict[str, np.ndarray]]:
    """Sets of samples of one row, drawn by consecutive seeds, and what is near to each sample.

    Parameters
    ----------
    generated : float32 [n, ...], what is compared of all draws, one after the other.
    table : what is known of each, as `samples.csv` says it.
    train : clouds or images of the train split.
    apart : float64 [n], of each field to its nearest train field.

    Returns
    -------
    list
        Of each draw, with what it is measured against.
    dict
        `valid` bool, `nearest` row numbers in `train`, nearest first, [n, up to 3] (-1: none) and
        `distance` of the first, one per sample.
    """
    draws, parts = [], []
    for seed, places in zip(seeds, np.split(np.arange(len(generated)), len(seeds)), strict=True):
        nearest, far = kind.nearest(generated[places], train, min(NEIGHBOURS, len(train)))
        fields = None if apart is None else apart[places]
        draw = Samples(generated[places], table.iloc[places], kind, seed, far[:, 0], fields)
        draws.append((draw, known))
        parts.append({"valid": draw.valid, "nearest": nearest, "distance": far[:, 0]})
    return draws, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def score_draws(
    generated: np.ndarray,
    table: "pd.DataFrame",
    train: np.ndarray,
    known: Known,
    kind: Kind,
    seeds: range,
) -> tuple["pd.DataFrame", dict[str, np.ndarray]]:
    """What `measure_draws` says of the draws of `draws_of`, and what is near to each sample."""
    draws, found = draws_of(generated, table, train, known, kind, seeds)
    return measure_draws(draws), found


def halves_of(
    known: Known,
    table: "pd.DataFrame",
    kind: Kind,
    seeds: range,
    fields: np.ndarray | None = None,
    train: np.ndarray | None = None,
) -> list[tuple[Samples, Known]]:
    """For each seed one half of the references as samples against the other.

    Parameters
    ----------
    table : what is known of each reference.
    fields : what is compared of the references' fields, which stand in for them as samples.
    train : with `fields`, clouds or images of the train split.
    """
    draws, n = [], len(known.reference) // 2
    if not n:
        raise InputError("one test signal has no halves: change dataset.split")
    for seed in seeds:
        order = np.random.default_rng(stable_seed(seed, "test halves")).permutation(2 * n)
        some, others = np.sort(order[:n]), np.sort(order[n:])

        def among(
            distances: np.ndarray, some: np.ndarray = some, others: np.ndarray = others
        ) -> Pairs:
            sides = ((some, some), (some, others), (others, others))
            return Pairs(*(distances[np.ix_(*pair)] for pair in sides))

        moved, own = known.moved, known.reference if fields is None else fields
        draw = Samples(own[some], table.iloc[some], kind, seed)
        if fields is None:
            draw.distance, draw.found = known.nearest_train[some], among(known.among)
            draw.found_moved = None if moved is None else among(moved)
        else:
            draw.distance = kind.nearest(own[some], train, 1)[1][:, 0]
        half = known._replace(
            reference=known.reference[others],
            among=known.among[np.ix_(others, others)],
            nearest_train=known.nearest_train[others],
            moved=None if moved is None else moved[np.ix_(others, others)],
        )
        draws.append((draw, half))
    return draws


def apart_in_weights(fields: Path, weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance, in weights, of fields to their nearest train field; and of val fields.

    Returns
    -------
    float64 [n] of the fields of a row, float64 [v] of those of the val split.
    """
    from nefgpt.fitting.weights import read_fields  # loads pyarrow

    known = read_fields(weights)
    train = known.weights[known.of_split("train")]

    def nearest(some: np.ndarray) -> np.ndarray:
        found = [np.square(train - one).sum(axis=1).min() for one in some]
        return np.sqrt(np.array(found, float))

    return nearest(read_fields(fields).weights), nearest(known.weights[known.of_split("val")])


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
    reference: np.ndarray, train: np.ndarray, kind: Kind, emd_points: int = 0
) -> dict[str, np.ndarray]:
    """What every row's score needs.

    Parameters
    ----------
    emd_points : of each cloud that Earth Mover's distances compare; 0: none are asked for.

    Returns
    -------
    dict
        `rr` [n, n] among references, `nearest_train` [n] of each to its nearest training signal,
        `n_train`, and `emd` [n, n] with `emd_points`.
    """
    found = {"nearest_train": kind.nearest(reference, train, 1)[1][:, 0]}
    found |= {"rr": kind.distances(reference), "n_train": np.array(len(train))}
    if emd_points:
        from nefgpt.signals.emd import emd_matrix

        found["emd"] = emd_matrix(reference[:, :emd_points])
        found["emd_points"] = np.array(emd_points)
    return found


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
            found = dict(stored)
        among, nearest, counted = (found[k] for k in ("rr", "nearest_train", "n_train"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}; delete it") from error
    if len(among) != len(reference) or counted != n_train:
        raise InputError(f"{path} has the distances of other signals; delete it and run again")
    known = Known(reference, among, nearest, classifier)
    return known._replace(moved=found.get("emd"), moved_points=int(found.get("emd_points", 0)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score samples by every metric.")
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("reference", help="distances that all methods share")
    one = commands.add_parser("score", help="score one method's samples against the test split")
    half = commands.add_parser("halves", help="score halves of the test split by the other halves")
    for command in (real, one, half):
        command.add_argument("--reference", type=Path, required=True, help="test clouds, .npy")
        command.add_argument("--train", type=Path, required=True, help="train clouds, with .csv")
        command.add_argument("--kind", choices=list(KINDS), default="shapes")
        command.add_argument("--normalisation", choices=NORMALISATIONS, default="shape")
        command.add_argument("--out", type=Path, required=True, help=".npz | long CSV of metrics")
    real.add_argument("--emd-points", type=int, default=0, help="of clouds; 0: no EMD")
    for command in (one, half):
        command.add_argument("--distances", type=Path, required=True, help="what `reference` wrote")
        command.add_argument("--method", required=True)
        command.add_argument("--setting", required=True)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--draws", type=int, default=1, help="sets of equal size")
        command.add_argument("--classifier", type=Path, help="of images with labels, .safetensors")
        command.add_argument("--fpd", help="evaluation.fpd block, JSON or @file")
        command.add_argument("--halves", type=Path, help=".npz for intervals")
    one.add_argument("--clouds", type=Path, required=True, help="of the samples, .npy")
    half.add_argument("--clouds", type=Path, help="of the test signals' fields, to stand in")
    one.add_argument("--samples", type=Path, required=True, help="samples.csv, what they are")
    one.add_argument("--fields", type=Path, help="of the samples, fields.parquet")
    one.add_argument("--weights", type=Path, help="with --fields: weights.parquet")
    one.add_argument("--classes", type=Path, help="with --classifier: CSV, a row per class")
    one.add_argument("--nearest", type=Path, required=True, help="CSV, a row per sample")
    return parser


def _score(args: argparse.Namespace, known: Known, train: np.ndarray, generated: np.ndarray):
    """Draws of one row; writes what is near to each sample, and how its classes fare."""
    ids = read_table(args.train.with_suffix(".csv"), ["shape_id"])["shape_id"].tolist()
    table = read_table(args.samples, ["shape_id", "label", "valid"])
    if args.draws < 1 or len(generated) % args.draws or len(table) != len(generated):
        raise InputError(
            f"{args.clouds} and {args.samples} hold {len(generated)} and {len(table)} samples, "
            f"not {args.draws} draws of one size; delete both and run again"
        )
    apart = None
    if args.fields:
        apart, unseen = apart_in_weights(args.fields, args.weights)
        known = known._replace(unseen_fields=unseen)
    seeds = range(args.seed, args.seed + args.draws)
    draws, found = draws_of(generated, table, train, known, named(args.kind), seeds, apart)
    if args.classifier:
        import pandas as pd

        from nefgpt.evaluation.classifier import class_scores  # loads PyTorch

        classes = pd.DataFrame(class_scores(generated, table, args.classifier)[1])
        classes.insert(0, "method", args.method)
        classes.insert(1, "setting", args.setting)
        write_text(args.classes, classes.to_csv(index=False))
    write_text(args.nearest, nearest_table(ids, found).to_csv(index=False))
    return draws


def main() -> None:
    """Command line: distances among real shapes, and one method's score."""
    parser = _parser()
    args = parser.parse_args()
    if args.command == "score" and args.classifier and not args.classes:
        parser.error("--classifier needs --classes")
    if args.command == "score" and args.fields and not args.weights:
        parser.error("--fields needs --weights")
    reference, train, kind = read_clouds(args.reference), read_clouds(args.train), named(args.kind)
    given = getattr(args, "clouds", None)
    generated = read_clouds(given) if given else reference[:0]
    if args.normalisation == "class":
        train, reference, generated = in_class_frame(train, reference, generated)
    if args.command == "reference":
        found = reference_distances(reference, train, kind, args.emd_points)
        with atomic_path(args.out) as temporary:
            np.savez(temporary, **found)
        return
    known = read_known(args.distances, reference, len(train), args.classifier)
    fpd = cli.settings_argument(Fpd, args.fpd) if args.fpd else None
    known = known._replace(network=frechet.network_of(fpd))
    if args.command == "halves":
        table = read_table(args.reference.with_suffix(".csv"), ["shape_id", "label", "valid"])
        seeds = range(args.seed, args.seed + args.draws)
        if given and len(generated) != len(reference):
            raise InputError(f"{given} are not the fields of {args.reference}: delete both")
        fields = generated if given else None
        draws = halves_of(known, table, kind, seeds, fields, train)
    else:
        draws = _score(args, known, train, generated)
    metrics = measure_draws(draws, args.normalisation)
    metrics.insert(0, "method", args.method)
    metrics.insert(1, "setting", args.setting)
    write_text(args.out, metrics.to_csv(index=False))
    if args.halves:
        from nefgpt.evaluation.intervals import halves

        with atomic_path(args.halves) as temporary:
            np.savez(temporary, **halves(draws, args.seed))
