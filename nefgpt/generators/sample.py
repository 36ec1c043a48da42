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
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.gaussian import gaussian_samples
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.gpt.tokens import read_tokens, write_tokens
from nefgpt.generators.kind import choose_train, classes_of, write_samples
from nefgpt.generators.settings import Gaussian, Setting

if TYPE_CHECKING:
    from nefgpt.generators.gpt.model import GPT


def gpt_samples(
    model: "GPT",
    about: dict,
    tokenizer: Tokenizer,
    setting: Setting,
    n: int,
    seed: int,
    batch_size: int = 64,
) -> tuple[np.ndarray, list[int | None]]:
    """Token sequences uint16 [n, L] of a trained GPT and the classes they were asked for.

    Parameters
    ----------
    model, about : what `nefgpt.generators.gpt.sampling.load_gpt` read.
    """
    from nefgpt.generators.gpt.batches import prefix_of
    from nefgpt.generators.gpt.sampling import generate

    n_codes = len(tokenizer.codes)
    n_classes = about.get("n_classes", 0)  # models of releases before class tokens have none
    labels = classes_of(n, n_classes)
    asked = np.array(labels) if n_classes else None
    prefix = prefix_of(asked, n, n_codes)
    tokens = generate(
        model,
        n,
        tokenizer.sequence_length,
        n_codes,
        seed=seed,
        prefix=prefix,
        batch_size=batch_size,
        **vars(setting),
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
    parser.add_argument("--settings", default="{}", help="sampling setting | gaussian block")
    parser.add_argument("--batch-size", type=int, default=64, help="for gpt")
    parser.add_argument("--n-samples", type=int, required=True, help="of one draw")
    parser.add_argument("--draws", type=int, default=1, help="sets, by seed, seed + 1, ...")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = read_fields(args.weights)
    train = source.of_split("train")
    n, seeds = args.n_samples, range(args.seed, args.seed + args.draws)
    ids, coefficients = [f"sample-{i}" for i in range(n * args.draws)], None
    if args.method == "gaussian":
        k = cli.settings_argument(Gaussian, args.settings).n_components
        drawn, wanted = zip(*(gaussian_samples(source, n, k, seed) for seed in seeds), strict=True)
        made, labels = np.concatenate(drawn), list(itertools.chain(*wanted))
    elif args.method == "gpt":
        tokenizer = load_tokenizer(args.codebook)
        setting = cli.settings_argument(Setting, args.settings)
        from nefgpt.generators.gpt.sampling import load_gpt

        model = load_gpt(args.gpt)
        drawn, wanted = zip(
            *(gpt_samples(*model, tokenizer, setting, n, seed, args.batch_size) for seed in seeds),
            strict=True,
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
            made = load_tokenizer(args.codebook).decode(read_tokens(args.tokens).tokens[chosen])
        elif source.coefficients is not None:
            coefficients = source.coefficients[chosen]
    write_samples(args.out_dir, source, ids, labels, made, coefficients)
