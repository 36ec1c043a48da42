"""Airplanes as files."""

import argparse
import hashlib
from pathlib import Path

from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, sha256_of, write_json
from nefgpt.inputs.airplanes.shapes import airplane

SYNSET = "02691156"


# --- Shapes and files -----------------------------------------------------------------------
def shape_id(seed: int, index: int) -> str:
    """32 hex characters that name the shape, as ShapeNet's ids do."""
    return hashlib.sha256(f"airplane\0{seed}\0{index}".encode()).hexdigest()[:32]


def write_mesh(root: Path, seed: int, index: int) -> Path:
    """Write one shape to root/02691156/<id>/models/model_normalized.obj; return that path."""
    path = Path(root) / SYNSET / shape_id(seed, index) / "models" / "model_normalized.obj"
    with atomic_path(path) as temporary:
        airplane(seed, index).export(temporary, file_type="obj", header=None)
    return path


def write_pack(root: Path, seed: int, start: int, stop: int) -> list[Path]:
    """Write the shapes with start <= index < stop; return their paths in that order."""
    return [write_mesh(root, seed, index) for index in tqdm(range(start, stop), desc="airplanes")]


def main() -> None:
    """Command line: write a pack of airplanes, and the hashes of its files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that gets 02691156/")
    parser.add_argument("--n-shapes", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=int, default=0, help="index of the first shape")
    parser.add_argument("--manifest", type=Path, help="JSON file for the SHA-256 of each mesh")
    args = parser.parse_args()
    if args.n_shapes < 1 or args.start < 0:
        raise InputError("--n-shapes must be at least 1 and --start at least 0")
    paths = write_pack(args.root, args.seed, args.start, args.start + args.n_shapes)
    if args.manifest:
        shapes = {path.parent.parent.name: sha256_of(path) for path in paths}
        write_json(args.manifest, {"shapes": shapes})
