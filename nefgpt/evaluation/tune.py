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
from nefgpt.evaluation import classes, sets
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.decode import decode_all
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.evaluation.settings import NORMALISATIONS, Tuning
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.generators.kind import Given, generator
from nefgpt.generators.settings import Setting
from nefgpt.signals.kind import kind_of
from nefgpt.signals.settings import Extract

KEYS = ("top_k", "top_p", "temperature", "guidance")


def tune(
    given: Given,
    reference: np.ndarray,
    settings: Tuning,
    extract: Extract,
    seed: int,
    classifier: Path | None = None,
    normalisation: str = "shape",
) -> pd.DataFrame:
    """One row per setting of the grid: `KEYS`, then its metrics.

    Parameters
    ----------
    given : the run's fields, codebook and GPT.
    reference : what is compared of the val split, float32 [n, ...].
    classifier : of images with labels.
    """
    source, module = given.fields, generator("gpt")
    loaded = module.load(given)
    kind, n = kind_of(source.spec), min(settings.n_samples, len(reference))
    known = Known(reference, kind.distances(reference), classifier=classifier)
    grid = list(itertools.product(*(getattr(settings, key) for key in KEYS)))
    rows = []
    for values in tqdm(grid, desc="settings", unit="setting"):
        chosen = dict(zip(KEYS, values, strict=True))
        made = module.sample(loaded, given, Setting(**chosen), n, seed)
        ids, splits = [f"sample-{i}" for i in range(n)], ["sample"] * n
        fields = Fields(source.spec, source.template, ids, splits, made.labels, made.weights)
        size = reference.shape[1:]
        clouds, about = decode_all(fields, extract, seed, size, normalisation=normalisation)
        table = pd.DataFrame(about).astype({"label": str})
        samples, found = Samples(clouds, table, kind, seed), {}
        for metric in (sets, classes):
            found |= metric.measure(samples, known)
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
    parser.add_argument("--normalisation", choices=NORMALISATIONS, default="shape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="CSV, a row per setting")
    args = parser.parse_args()
    fields = read_fields(args.weights)
    table = tune(
        Given(fields, args.codebook, model=args.gpt, batch_size=args.batch_size),
        read_clouds(args.reference),
        cli.settings_argument(Tuning, args.settings),
        cli.settings_argument(Extract, args.extract),
        args.seed,
        args.classifier,
        args.normalisation,
    )
    write_text(args.out, table.to_csv(index=False))
