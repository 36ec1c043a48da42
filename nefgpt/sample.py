"""Make fields: sampled by a GPT, drawn from a Gaussian, or taken from the train split.

The rows of the ladder of bounds (DESIGN.md, section 6) and every generator end in the same
`fields.parquet`, so that extraction and evaluation cannot tell them apart.
"""

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt import cli, weights
from nefgpt.errors import InputError
from nefgpt.io import stable_seed
from nefgpt.tokenizer import Tokenizer, load_tokenizer, read_tokens, write_tokens

if TYPE_CHECKING:
    from nefgpt.gpt import GPT  # what needs no model starts sooner without PyTorch


def choose_train(n_train: int, n: int, seed: int) -> np.ndarray:
    """Which train rows stand in as samples: `n` distinct row numbers, ascending."""
    if n > n_train:
        raise InputError(
            f"{n} samples are to be compared but the train split has {n_train} shapes: "
            "lower evaluation.n_samples or dataset.split.test"
        )
    rng = np.random.default_rng(stable_seed(seed, "ladder"))
    return np.sort(rng.choice(n_train, n, replace=False))


def gaussian(train: np.ndarray, n: int, n_components: int, seed: int) -> np.ndarray:
    """Fields [n, W] from a Gaussian over the leading principal components of train fields.

    Where there are classes, it is fitted to the fields of one class.
    """
    if not len(train):
        raise InputError("there is no field in the train split to fit a Gaussian to")
    mean = train.mean(axis=0)
    _, spread, rows = np.linalg.svd(train - mean, full_matrices=False)
    k = min(n_components, len(train) - 1, len(rows))
    rng = np.random.default_rng(stable_seed(seed, "gaussian"))
    draws = rng.standard_normal((n, k)) * spread[:k] / np.sqrt(len(train) - 1)
    return (mean + draws @ rows[:k]).astype(np.float32)


def classes_of(n: int, n_classes: int) -> list[int | None]:
    """The class each of `n` samples is made for: all in turn; None without classes."""
    return [i % n_classes if n_classes else None for i in range(n)]


def gaussian_samples(
    source: weights.Fields, n: int, n_components: int, seed: int
) -> tuple[np.ndarray, list[int | None]]:
    """Fields [n, W] and their classes, each drawn from the Gaussian of its class."""
    train = source.of_split("train")
    known = np.array([source.labels[i] for i in train], object)
    n_classes = 0 if None in known or not len(known) else int(known.max()) + 1
    if not n_classes:
        return gaussian(source.weights[train], n, n_components, seed), [None] * n
    labels = classes_of(n, n_classes)
    made = np.empty((n, source.weights.shape[1]), np.float32)
    for label in sorted(set(labels)):
        rows = [i for i in range(n) if labels[i] == label]
        fields = source.weights[train[known == label]]
        made[rows] = gaussian(fields, len(rows), n_components, stable_seed(seed, "class", label))
    return made, labels


def gpt_samples(
    model: "GPT", about: dict, tokenizer: Tokenizer, settings: dict, n: int, seed: int
) -> tuple[np.ndarray, list[int | None]]:
    """Token sequences uint16 [n, L] of a trained GPT and the classes they were asked for.

    Parameters
    ----------
    model, about : what `nefgpt.generate.load_gpt` read.
    settings : top_k, top_p, temperature, guidance, batch_size.
    """
    from nefgpt.generate import generate
    from nefgpt.train_gpt import prefix_of

    n_codes = len(tokenizer.codes)
    n_classes = about.get("n_classes", 0)  # models of releases before class tokens have none
    labels = classes_of(n, n_classes)
    asked = np.array(labels) if n_classes else None
    prefix = prefix_of(asked, n, n_codes)
    tokens = generate(
        model, n, tokenizer.sequence_length, n_codes, seed=seed, prefix=prefix, **settings
    )
    return tokens, labels


def write_samples(
    out_dir: Path,
    source: weights.Fields,
    ids: list[str],
    labels: list[int | None],
    made: np.ndarray,
) -> None:
    """Write `fields.parquet` with the layout of `source`."""
    rows = (
        (name, "sample", label, field, {})
        for name, label, field in zip(ids, labels, made, strict=True)
    )
    weights.write_fields(out_dir / "fields.parquet", source.spec, source.template, rows)


def main() -> None:
    """Command line of the samplers."""
    parser = argparse.ArgumentParser(description="Make fields.parquet by one of the methods.")
    parser.add_argument(
        "method", choices=["gpt", "gaussian", "train-fields", "quantised-train-fields"]
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, help="for gpt and quantised-train-fields")
    parser.add_argument("--tokens", type=Path, help="for quantised-train-fields")
    parser.add_argument("--gpt", type=Path, help="folder of the trained model, for gpt")
    parser.add_argument("--settings", default="{}", help="top_k, top_p, temperature | n_components")
    parser.add_argument("--n-samples", type=int, required=True, help="of one draw")
    parser.add_argument("--draws", type=int, default=1, help="sets, by seed, seed + 1, ...")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = cli.json_argument(args.settings)
    source = weights.read_fields(args.weights)
    train = source.of_split("train")
    n, seeds = args.n_samples, range(args.seed, args.seed + args.draws)
    ids = [f"sample-{i}" for i in range(n * args.draws)]
    sampling = ["top_k", "top_p", "temperature", "guidance", "batch_size"]
    needed = {"gaussian": ["n_components"], "gpt": sampling}
    missing = [key for key in needed.get(args.method, []) if key not in settings]
    if missing:
        raise InputError(f"--settings for {args.method} lacks {', '.join(missing)}")
    if args.method == "gaussian":
        k = settings["n_components"]
        drawn, wanted = zip(*(gaussian_samples(source, n, k, seed) for seed in seeds), strict=True)
        made, labels = np.concatenate(drawn), list(itertools.chain(*wanted))
    elif args.method == "gpt":
        tokenizer = load_tokenizer(args.codebook)
        settings = {name: settings[name] for name in sampling}
        from nefgpt.generate import load_gpt

        model = load_gpt(args.gpt)
        drawn, wanted = zip(
            *(gpt_samples(*model, tokenizer, settings, n, seed) for seed in seeds), strict=True
        )
        tokens, labels = np.concatenate(drawn), list(itertools.chain(*wanted))
        rows = {"shape_id": ids, "split": ["sample"] * len(ids), "label": labels}
        write_tokens(args.out_dir / "tokens.parquet", rows, tokens, len(tokenizer.codes))
        made = tokenizer.decode(tokens)
    else:
        chosen = train[np.concatenate([choose_train(len(train), n, seed) for seed in seeds])]
        ids = [source.shape_ids[i] for i in chosen]
        labels = [source.labels[i] for i in chosen]
        made = source.weights[chosen]
        if args.method == "quantised-train-fields":
            made = load_tokenizer(args.codebook).decode(read_tokens(args.tokens)[chosen])
    write_samples(args.out_dir, source, ids, labels, made)
