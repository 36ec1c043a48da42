"""Evaluation clouds of real meshes: the reference set, and the ladder's first row."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt import cli
from nefgpt.errors import InputError
from nefgpt.extract import N_POINTS, normalise_cloud
from nefgpt.io import atomic_path, load_sdf, read_clouds, read_json, write_json
from nefgpt.sample import choose_train


def gather(shapes: list[str], sdf_dir: Path) -> tuple[list[str], np.ndarray]:
    """Ids and clouds float32 [n, N_POINTS, 3] of the shapes that were not rejected."""
    ids, clouds = [], []
    for shape_id in tqdm(shapes, desc="clouds", unit="shape", mininterval=1):
        cloud = load_sdf(sdf_dir / f"{shape_id}.npz")
        if not cloud["rejected"]:
            ids.append(shape_id)
            clouds.append(normalise_cloud(cloud["surface"][:N_POINTS]))
    if not ids:
        raise InputError("every shape of this split was rejected; see rejected.tsv")
    return ids, np.stack(clouds)


def main() -> None:
    """Command line: clouds of one split, or a seeded choice of clouds that exist."""
    parser = argparse.ArgumentParser(
        prog="python -m nefgpt.clouds", description="Point clouds of real shapes for evaluation."
    )
    parser.add_argument("--out", type=Path, required=True, help=".npy; ids go beside it as .json")
    commands = parser.add_subparsers(dest="command", required=True)
    split = commands.add_parser("split", help="clouds of all usable shapes of one split")
    split.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    split.add_argument("--split", required=True)
    split.add_argument("--sdf-dir", type=Path, required=True)
    choose = commands.add_parser("choose", help="a seeded choice of a file of clouds")
    choose.add_argument("--clouds", type=Path, required=True, help=".npy with its .json")
    choose.add_argument("--n-samples", type=int, required=True)
    choose.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "split":
        wanted = [row[0] for row in list(read_json(args.shapes)) if row[1] == args.split]
        ids, clouds = gather(wanted, args.sdf_dir)
    else:
        ids, clouds = list(read_json(args.clouds.with_suffix(".json"))), read_clouds(args.clouds)
        chosen = choose_train(len(ids), args.n_samples, args.seed)
        ids, clouds = [ids[i] for i in chosen], clouds[chosen]
    with atomic_path(args.out) as temporary:
        np.save(temporary, clouds)
    write_json(args.out.with_suffix(".json"), ids)


if __name__ == "__main__":
    cli.run(main)
