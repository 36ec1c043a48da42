"""Make fields: sampled by a GPT, drawn from a Gaussian, or taken from the train split.

The rows of the ladder of bounds (DESIGN.md, section 6) and every generator end in the same
`fields.parquet`, so that extraction and evaluation cannot tell them apart.
"""

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.gaussian import gaussian_samples
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.gpt.tokens import read_tokens, write_tokens
from nefgpt.generators.kind import choose_train, classes_of, write_samples

if TYPE_CHECKING:
    from nefgpt.generators.gpt.model import GPT


def gpt_samples(
    model: "GPT", about: dict, tokenizer: Tokenizer, settings: dict, n: int, seed: int
) -> tuple[np.ndarray, list[int | None]]:
    """Token sequences uint16 [n, L] of a trained GPT and the classes they were asked for.

    Parameters
    ----------
    model, about : what `nefgpt.generators.gpt.sampling.load_gpt` read.
    settings : top_k, top_p, temperature, guidance, batch_size.
    """
    from nefgpt.generators.gpt.batches import prefix_of
    from nefgpt.generators.gpt.sampling import generate

    n_codes = len(tokenizer.codes)
    n_classes = about.get("n_classes", 0)  # models of releases before class tokens have none
    labels = classes_of(n, n_classes)
    asked = np.array(labels) if n_classes else None
    prefix = prefix_of(asked, n, n_codes)
    tokens = generate(
        model, n, tokenizer.sequence_length, n_codes, seed=seed, prefix=prefix, **settings
    )
    return tokens, labels


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
    source = read_fields(args.weights)
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
        from nefgpt.generators.gpt.sampling import load_gpt

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
