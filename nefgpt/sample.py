"""Make fields: sampled by a GPT, drawn from a Gaussian, or taken from the train split.

The rows of the ladder of bounds (DESIGN.md, section 6) and every generator end in the same
`fields.parquet`, so that extraction and evaluation cannot tell them apart.
"""

import argparse
from pathlib import Path

import numpy as np

from nefgpt import cli, weights
from nefgpt.errors import InputError
from nefgpt.io import stable_seed
from nefgpt.tokenizer import load_tokenizer, read_tokens, write_tokens


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
    """Fields [n, W] from a Gaussian over the leading principal components of train fields."""
    if not len(train):
        raise InputError("there is no field in the train split to fit a Gaussian to")
    mean = train.mean(axis=0)
    _, spread, rows = np.linalg.svd(train - mean, full_matrices=False)
    k = min(n_components, len(train) - 1, len(rows))
    rng = np.random.default_rng(stable_seed(seed, "gaussian"))
    draws = rng.standard_normal((n, k)) * spread[:k] / np.sqrt(len(train) - 1)
    return (mean + draws @ rows[:k]).astype(np.float32)


def write_samples(out_dir: Path, source: weights.Fields, ids: list[str], made: np.ndarray) -> None:
    """Write `fields.parquet` with the layout of `source`."""
    rows = ((sample, "sample", None, field, {}) for sample, field in zip(ids, made, strict=True))
    weights.write_fields(out_dir / "fields.parquet", source.spec, source.template, rows)


def main() -> None:
    """Command line of the samplers."""
    parser = argparse.ArgumentParser(
        prog="python -m nefgpt.sample", description="Make fields.parquet by one of the methods."
    )
    parser.add_argument(
        "method", choices=["gpt", "gaussian", "train-fields", "quantised-train-fields"]
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, help="for gpt and quantised-train-fields")
    parser.add_argument("--tokens", type=Path, help="for quantised-train-fields")
    parser.add_argument("--gpt", type=Path, help="folder of the trained model, for gpt")
    parser.add_argument("--settings", default="{}", help="top_k, top_p, temperature | n_components")
    parser.add_argument("--n-samples", type=int, required=True)
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = cli.json_argument(args.settings)
    source = weights.read_fields(args.weights)
    train = source.of_split("train")
    n = args.n_samples
    ids = [f"sample-{i}" for i in range(n)]
    needed = {"gaussian": ["n_components"], "gpt": ["top_k", "top_p", "temperature", "batch_size"]}
    missing = [key for key in needed.get(args.method, []) if key not in settings]
    if missing:
        raise InputError(f"--settings for {args.method} lacks {', '.join(missing)}")
    if args.method == "gaussian":
        made = gaussian(source.weights[train], n, settings["n_components"], args.seed)
    elif args.method == "gpt":
        from nefgpt.generate import generate, load_gpt

        tokenizer = load_tokenizer(args.codebook)
        model, _ = load_gpt(args.gpt)
        n_codes = len(tokenizer.codes)
        tokens = generate(
            model,
            n,
            tokenizer.sequence_length,
            n_codes,
            top_k=settings["top_k"],
            top_p=settings["top_p"],
            temperature=settings["temperature"],
            seed=args.seed,
            prefix=None,
            batch_size=settings["batch_size"],
        )
        rows = {"shape_id": ids, "split": ["sample"] * n, "label": [None] * n}
        write_tokens(args.out_dir / "tokens.parquet", rows, tokens, n_codes)
        made = tokenizer.decode(tokens)
    else:
        chosen = train[choose_train(len(train), n, args.seed)]
        ids = [source.shape_ids[i] for i in chosen]
        made = source.weights[chosen]
        if args.method == "quantised-train-fields":
            made = load_tokenizer(args.codebook).decode(read_tokens(args.tokens)[chosen])
    write_samples(args.out_dir, source, ids, made)


if __name__ == "__main__":
    cli.run(main)
