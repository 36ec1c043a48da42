"""What the metrics compare of real signals: the reference set, and the ladder's first row."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_json, read_table, write_text
from nefgpt.evaluation.settings import NORMALISATIONS
from nefgpt.signals.file import check_one_size, load_signal
from nefgpt.signals.kind import KINDS, Kind, named

COLUMNS = ("sample", "shape_id", "label", "valid")


def read_clouds(path: Path) -> np.ndarray:
    """What is compared, float32 [n, ...], each an array of one number or more.

    Raises
    ------
    InputError
        naming the file when it cannot be read.
    """
    try:
        clouds = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read clouds {path}: {error}; delete it and run again") from error
    if clouds.ndim < 2 or not clouds.size:
        raise InputError(f"{path} holds no clouds (shape {clouds.shape}); delete it and run again")
    return clouds


def gather(
    rows: list, signal_dir: Path, kind: Kind, normalisation: str = "shape"
) -> tuple[pd.DataFrame, np.ndarray]:
    """Table (of `COLUMNS`) and array float32 [n, ...] of the signals that were not rejected.

    Parameters
    ----------
    rows : [shape id, split, label] per signal.

    Raises
    ------
    InputError
        when none can be used, or when they differ in size.
    """
    kept, arrays = [], []
    for shape_id, _, label in tqdm(rows, desc="clouds", unit="signal", mininterval=1):
        signal = load_signal(signal_dir / f"{shape_id}.npz")
        if not signal["rejected"]:
            kept.append([len(kept), shape_id, label, True])
            arrays.append(kind.real(signal, normalisation))
    if not kept:
        raise InputError("every shape of this split was rejected; see rejected.tsv")
    check_one_size({array.shape: row[1] for array, row in zip(arrays, kept, strict=True)})
    return pd.DataFrame(kept, columns=COLUMNS), np.stack(arrays)


def main() -> None:
    """Command line: clouds of one split, or a seeded choice of clouds that exist."""
    parser = argparse.ArgumentParser(description="What the metrics compare of real signals.")
    parser.add_argument("--out", type=Path, required=True, help=".npy")
    parser.add_argument("--table", type=Path, required=True, help="CSV, a row per cloud")
    commands = parser.add_subparsers(dest="command", required=True)
    split = commands.add_parser("split", help="clouds of all usable inputs of one split")
    split.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    split.add_argument("--split", required=True)
    split.add_argument("--signal-dir", type=Path, required=True)
    split.add_argument("--kind", choices=list(KINDS), required=True)
    split.add_argument("--normalisation", choices=NORMALISATIONS, default="shape")
    choose = commands.add_parser("choose", help="a seeded choice of a file of clouds")
    choose.add_argument("--clouds", type=Path, required=True, help=".npy with its .csv")
    choose.add_argument("--n-samples", type=int, required=True, help="of one draw")
    choose.add_argument("--draws", type=int, default=1, help="sets, by seed, seed + 1, ...")
    choose.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "split":
        wanted = [row for row in list(read_json(args.shapes)) if row[1] == args.split]
        table, clouds = gather(wanted, args.signal_dir, named(args.kind), args.normalisation)
    else:
        from nefgpt.generators.ladder import choose_train  # loads pyarrow

        table = read_table(args.clouds.with_suffix(".csv"), COLUMNS)
        seeds = range(args.seed, args.seed + args.draws)
        chosen = [choose_train(len(table), args.n_samples, seed) for seed in seeds]
        chosen = np.concatenate(chosen)
        table, clouds = table.iloc[chosen], read_clouds(args.clouds)[chosen]
        table = table.assign(sample=range(len(table)))
    with atomic_path(args.out) as temporary:
        np.save(temporary, clouds)
    labels = pd.to_numeric(table["label"]).astype("Int64")
    write_text(args.table, table.assign(label=labels).to_csv(index=False))
