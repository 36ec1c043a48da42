"""The GPT as a generator: learns tokens.parquet, samples sequences of codes, decodes them."""

from typing import NamedTuple

import numpy as np

from nefgpt.generators.gpt.batches import prefix_of
from nefgpt.generators.gpt.model import GPT
from nefgpt.generators.gpt.sampling import generate, load_gpt
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.gpt.train import train
from nefgpt.generators.kind import Given, Made, by_blocks, classes_of
from nefgpt.generators.settings import Gpt as Settings
from nefgpt.generators.settings import Setting as Sampling

__all__ = ["Sampling", "Settings", "load", "sample", "train"]


class Loaded(NamedTuple):
    """A trained transformer with the tokenizer of its codes.

    Attributes
    ----------
    about : content of its config.json.
    """

    model: GPT
    about: dict
    tokenizer: Tokenizer


def load(given: Given) -> Loaded:
    """Read model and codebook."""
    return Loaded(*load_gpt(given.model), load_tokenizer(given.codebook))


def sample(loaded: Loaded, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Sample `n` sequences, of all classes in turn where there are any, and decode them."""
    tokenizer, n_codes = loaded.tokenizer, len(loaded.tokenizer.codes)
    n_classes = loaded.about.get("n_classes", 0)  # models of releases before class tokens have none
    batch = min(given.batch_size, given.block) if given.block else given.batch_size
    filled = -(-n // batch) * batch if given.block else n
    labels = classes_of(filled, n_classes, given.label)
    options = dict(vars(setting))
    if setting.temperature == "calibrated":
        options["temperature"] = loaded.about["temperature"]
    tokens = generate(
        loaded.model,
        filled,
        tokenizer.sequence_length,
        n_codes,
        seed=seed,
        prefix=prefix_of(np.array(labels) if n_classes else None, filled, n_codes),
        begin=given.begin,
        batch_size=batch,
        **options,
    )[:n]
    made = by_blocks(tokenizer.decode, tokens, given.block)
    return Made(made, labels[:n], tokens=tokens, n_codes=n_codes)
