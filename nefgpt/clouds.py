"""Evaluation clouds of real meshes: the reference set, and the ladder's first row."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt import cli
from nefgpt.errors import InputError
from nefgpt.extract import N_POINTS, normalise_cloud
from nefgpt.io import atomic_path, read_json, write_json
from nefgpt.sdf import load_sdf


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
    """Command line: clouds of one split, or of a seeded choice of it."""
    parser = argparse.ArgumentParser(
        prog="python -m nefgpt.clouds", description="Point clouds of real shapes for evaluation."
    )
    parser.add_argument("--shapes", type=Path, required=True, help="JSON: [id, split, label] rows")
    parser.add_argument("--split", required=True)
    parser.add_argument("--sdf-dir", type=Path, required=True)
    parser.add_argument("--choose", type=int, help="take so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help=".npy; ids go beside it as .json")
    args = parser.parse_args()
    wanted = [row[0] for row in list(read_json(args.shapes)) if row[1] == args.split]
    ids, clouds = gather(wanted, args.sdf_dir)
    if args.choose is not None:
        from nefgpt.sample import choose_train

        chosen = choose_train(len(ids), args.choose, args.seed)
        ids, clouds = [ids[i] for i in chosen], clouds[chosen]
    with atomic_path(args.out) as temporary:
        np.save(temporary, clouds)
    write_json(args.out.with_suffix(".json"), ids)


if __name__ == "__main__":
    cli.run(main)
