"""Metrics of sets of shapes or images, from the distances between their members.

MMD and COV after Achlioptas et al. (2018), 1-NNA after Yang et al. (PointFlow, 2019), as
DESIGN.md section 3 defines them.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table, write_text
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.sets import reference_distances, score
from nefgpt.signals.kind import named


def _score_files(args: argparse.Namespace) -> None:
    import pandas as pd

    if args.classifier:
        from nefgpt.evaluation.classifier import class_scores  # loads PyTorch

    ids = read_table(args.train.with_suffix(".csv"), ["shape_id"])["shape_id"].tolist()
    kind = named(args.kind)
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
    kind = named(args.kind)
    found = reference_distances(*clouds, kind.distances, kind.nearest)
    with atomic_path(args.out) as temporary:
        np.savez(temporary, **found)
