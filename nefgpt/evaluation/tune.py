"""Tune the sampling: a grid of top-k, temperature, top-p and guidance, judged on the val split.

The test split is left alone, so that a setting chosen here is measured there for the first time.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.files import write_text
from nefgpt.evaluation.classifier import class_scores
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.decode import decode_all
from nefgpt.evaluation.sets import set_metrics
from nefgpt.evaluation.settings import Tuning
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.generators.gpt.model import GPT
from nefgpt.generators.gpt.sampling import load_gpt
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.sample import gpt_samples
from nefgpt.generators.settings import Setting
from nefgpt.signals.kind import kind_of
from nefgpt.signals.settings import Extract

KEYS = ("top_k", "top_p", "temperature", "guidance")


def tune(
    gpt: tuple[GPT, dict],
    tokenizer: Tokenizer,
    source: Fields,
    reference: np.ndarray,
    settings: Tuning,
    extract: Extract,
    seed: int,
    batch_size: int = 64,
    classifier: Path | None = None,
) -> pd.DataFrame:
    """One row per setting of the grid: `KEYS`, then its metrics.

    Parameters
    ----------
    gpt : what `nefgpt.generators.gpt.sampling.load_gpt` read.
    source : a table of the run's fields, for their layout.
    reference : clouds [n, P, 3] or images [n, H, W] of the val split.
    classifier : of images with labels.
    """
    kind, n = kind_of(source.spec), min(settings.n_samples, len(reference))
    known = kind.distances(reference)
    grid = list(itertools.product(*(getattr(settings, key) for key in KEYS)))
    rows = []
    for values in tqdm(grid, desc="settings", unit="setting"):
        chosen = dict(zip(KEYS, values, strict=True))
        tokens, labels = gpt_samples(*gpt, tokenizer, Setting(**chosen), n, seed, batch_size)
        ids, splits = [f"sample-{i}" for i in range(n)], ["sample"] * n
        decoded = tokenizer.decode(tokens)
        made = Fields(source.spec, source.template, ids, splits, labels, decoded)
        clouds, about = decode_all(made, extract, seed, reference.shape[1:])
        found = set_metrics(clouds, reference, known, seed, kind.distances)[0]
        if classifier:
            table = pd.DataFrame(about).astype({"label": str})
            found |= class_scores(clouds, table, classifier)[0]
        rows.append(chosen | found | {"n_generated": n, "n_reference": n})
    return pd.DataFrame(rows)


def main() -> None:
    """Command line of the search."""
    parser = argparse.ArgumentParser(description="Compare sampling settings on the val split.")
    parser.add_argument("--gpt", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True, help="clouds of the val split")
    parser.add_argument("--classifier", type=Path, help="of images with labels")
    parser.add_argument("--settings", required=True, help="tuning block, JSON or @file")
    parser.add_argument("--extract", required=True, help="extract block, JSON or @file")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV, a row per setting")
    args = parser.parse_args()
    table = tune(
        load_gpt(args.gpt),
        load_tokenizer(args.codebook),
        read_fields(args.weights),
        read_clouds(args.reference),
        cli.settings_argument(Tuning, args.settings),
        cli.settings_argument(Extract, args.extract),
        args.seed,
        args.batch_size,
        args.classifier,
    )
    write_text(args.out, table.to_csv(index=False))
