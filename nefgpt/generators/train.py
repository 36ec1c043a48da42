"""Train one of the generators."""

import argparse
from pathlib import Path

from nefgpt.base import cli
from nefgpt.generators.kind import KINDS, TRAINED, generator


def main() -> None:
    """Command line of the training."""
    learns = ", ".join(f"{KINDS[kind].learns}.parquet for {kind}" for kind in TRAINED)
    parser = argparse.ArgumentParser(description="Train a generator on a table of fields.")
    parser.add_argument("kind", choices=TRAINED)
    parser.add_argument("--table", type=Path, required=True, help=learns)
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="of one model, JSON or @file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume-dir", type=Path, help="keep the state of an unfinished run here")
    args = parser.parse_args()
    module = generator(args.kind)
    settings = cli.settings_argument(module.Settings, args.settings)
    module.train(args.table, args.out_dir, settings, args.seed, args.resume_dir)
