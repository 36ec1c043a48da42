"""Make fields by one of the generators, in several draws.

All end in the same `fields.parquet`, so that extraction and evaluation cannot tell them apart.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nefgpt.base import cli
from nefgpt.fitting.weights import Row, read_fields, write_fields
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.kind import KINDS, Given, Made, generator


def draw(kind: str, given: Given, setting: object, n: int, seeds: Sequence[int]) -> list[Made]:
    """`n` fields of a generator for each seed."""
    module = generator(kind)
    loaded = module.load(given)
    return [module.sample(loaded, given, setting, n, seed) for seed in seeds]


def write_samples(out_dir: Path, given: Given, draws: list[Made]) -> None:
    """Write `fields.parquet`, and `tokens.parquet` where there are any: all draws in a row."""
    made = np.concatenate([part.weights for part in draws])
    labels = list(itertools.chain.from_iterable(part.labels for part in draws))
    ids = [name for part in draws for name in part.ids or []]
    ids = ids or [f"sample-{i}" for i in range(len(made))]
    known, basis = [None] * len(made), None
    if draws[0].coefficients is not None:
        known, basis = np.concatenate([part.coefficients for part in draws]), given.fields.basis
    rows = (
        Row(name, "sample", label, field, {}, own)
        for name, label, field, own in zip(ids, labels, made, known, strict=True)
    )
    source = given.fields.spec, given.fields.template
    write_fields(out_dir / "fields.parquet", *source, rows, basis)
    if draws[0].tokens is not None:
        tokens = np.concatenate([part.tokens for part in draws])
        about = {"shape_id": ids, "split": ["sample"] * len(ids), "label": labels}
        write_tokens(out_dir / "tokens.parquet", about, tokens, draws[0].n_codes)


def main() -> None:
    """Command line of the generators."""
    parser = argparse.ArgumentParser(description="Make fields.parquet by one of the generators.")
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, help="where there are tokens")
    parser.add_argument("--tokens", type=Path, help="for quantised-train-fields")
    parser.add_argument("--model", type=Path, help="folder of the trained model")
    parser.add_argument("--settings", default="{}", help="of the sampling, JSON or @file")
    parser.add_argument("--batch-size", type=int, default=64, help="samples made at a time")
    parser.add_argument("--n-samples", type=int, required=True, help="of one draw")
    parser.add_argument("--draws", type=int, default=1, help="sets, by seed, seed + 1, ...")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setting = cli.settings_argument(generator(args.kind).Sampling, args.settings)
    fields = read_fields(args.weights)
    given = Given(fields, args.codebook, args.tokens, args.model, args.batch_size)
    seeds = range(args.seed, args.seed + args.draws)
    write_samples(args.out_dir, given, draw(args.kind, given, setting, args.n_samples, seeds))
