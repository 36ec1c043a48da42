"""Held-out likelihood: what each density of the train fields says of other fields' codes.

The compass for generators: fewer bits say that more of what fields have in common was learned. All
densities speak of the same codes, so that their bits compare.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nefgpt.base import cli
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import write_text
from nefgpt.evaluation import densities
from nefgpt.evaluation.densities import Cells, chosen_by_the_others
from nefgpt.fitting.weights import read_fields
from nefgpt.generators.components import differences
from nefgpt.generators.gpt.tokenizer import load_tokenizer
from nefgpt.generators.gpt.tokens import read_tokens

COLUMNS = (
    *("density", "setting", "chosen", "n_train", "seed", "split", "n_held_out"),
    *("bits_per_field", "standard_error", "bits_per_code", "above_kernel", "above_kernel_error"),
)
KERNEL = "kernel density"


class Held(NamedTuple):
    """Codes of train fields and of held-out ones.

    Attributes
    ----------
    cells : of the codes.
    n_codes : there are.
    scores : float64 [n, L], of the train fields.
    train, held : int [n, L] and [m, L], codes.
    of_train, of_held : class of each; all zero where there are none.
    labelled : whether there are classes.
    """

    cells: Cells
    n_codes: int
    scores: np.ndarray
    train: np.ndarray
    held: np.ndarray
    of_train: np.ndarray
    of_held: np.ndarray
    labelled: bool = False


class Said(NamedTuple):
    """What a density says in each of its settings.

    Attributes
    ----------
    log2 : float64 [settings, m], log2 probability of each held-out field.
    settings : what each is called.
    plain : the number of the setting that its generator has by default; None without one.
    """

    log2: np.ndarray
    settings: list[str]
    plain: int | None


def read_held(weights: Path, codebook: Path, tokens: Path, split: str) -> Held:
    """Read scores and codes of the train fields and those of a split.

    Raises
    ------
    InputError
        when a file is missing or broken, they are not of one run, or a split is empty.
    """
    fields, tokenizer, table = read_fields(weights), load_tokenizer(codebook), read_tokens(tokens)
    if fields.shape_ids != table.shape_ids:
        raise InputError(f"{weights} and {tokens} hold other fields: delete the second, run again")
    train, held = table.of_split("train"), table.of_split(split)
    if not len(train) or not len(held):
        raise InputError(f"{tokens}: no field is in the train split, or none in {split}")
    scores = tokenizer.scores(differences(fields, train)).astype(float)
    labels = np.array([0 if label is None else label for label in table.labels])
    codes = table.tokens.astype(np.int64)
    return Held(
        Cells(tokenizer.codes, scores),
        table.n_codes,
        scores,
        codes[train],
        codes[held],
        labels[train],
        labels[held],
        None not in table.labels,
    )


def _by_class(of: Held, log2) -> np.ndarray:
    """Log2 probabilities [settings, m]; `log2` gives those of one class, fitted to its fields."""
    found = None
    for label in np.unique(of.of_held):
        rows = of.of_train == label
        if not rows.any():
            raise InputError(f"class {label} is held out, but no train field has it")
        some = of.held[of.of_held == label]
        part = np.atleast_2d(log2(of.scores[rows], of.train[rows], some))
        if found is None:
            found = np.empty((len(part), len(of.held)))
        found[:, of.of_held == label] = part
    return found


def simple(of: Held, seed: int) -> dict[str, Said]:
    """What densities without a network say, by name."""
    from nefgpt.generators.gpt.bits import positional_bits  # loads PyTorch

    cells, length = of.cells, of.held.shape[1]
    fewest = min(np.bincount(of.of_train)[np.unique(of.of_held)])
    sizes = [k for k in densities.COMPONENTS if 4 * k <= fewest] or [1]

    def counted(scores, train, held):
        return -length * positional_bits(train, held, of.n_codes)

    def over(density, values, *more):
        def log2(scores, train, held):
            return np.stack([density(cells, scores, held, value, *more) for value in values])

        return log2

    spreads = (1.0, *densities.SPREADS)
    return {
        "codes by place": Said(_by_class(of, counted), ["counted"], 0),
        "Gaussian": Said(
            _by_class(of, over(densities.gaussian, spreads)),
            [f"deviations x {spread:g}" for spread in spreads],
            0,
        ),
        "Gaussian mixture": Said(
            _by_class(of, over(densities.mixture, sizes, seed)),
            [f"{k} components" for k in sizes],
            None,
        ),
        KERNEL: Said(
            _by_class(of, over(densities.kernel, densities.WIDTHS)),
            [f"{width:g} deviations" for width in densities.WIDTHS],
            None,
        ),
    }


@computing()
def of_gpt(folder: Path, of: Held) -> Said:
    """What a trained transformer says at each temperature."""
    from nefgpt.base.training import autocast
    from nefgpt.generators.gpt.batches import Sequences
    from nefgpt.generators.gpt.sampling import load_gpt
    from nefgpt.generators.gpt.train import TEMPERATURES, validation_losses

    model, about = load_gpt(folder)
    found = of.n_codes, of.held.shape[1]
    if (about["n_codes"], about["sequence_length"]) != found:
        raise InputError(f"{folder}: trained on other codes; delete the folder and train again")
    held = Sequences(of.held, of.of_held if of.labelled else None)
    nats = validation_losses(model, held, of.n_codes, 64, autocast("float32", device()))
    names = [f"temperature {t:g}" for t in TEMPERATURES]
    return Said(-nats.T * of.held.shape[1] / np.log(2), names, TEMPERATURES.index(1.0))


def table(said: dict[str, Said], about: dict, length: int) -> list[dict]:
    """Rows of the table: every density as it stands and, of several settings, calibrated.

    A calibrated row is of the setting that suits the split best, chosen for every field from all
    the others: where there is one field, there is none. `above_kernel` is the mean of a row's
    differences to the kernel density, by field.

    Parameters
    ----------
    said : by name of the density; one is the kernel density.
    """
    found: list[tuple[str, str, str, np.ndarray]] = []
    for name, one in said.items():
        if one.plain is not None:
            found.append((name, "plain", one.settings[one.plain], -one.log2[one.plain]))
        if one.log2.shape[1] > 1 and (len(one.settings) > 1 or one.plain is None):
            bits, best = chosen_by_the_others(one.log2)
            found.append((name, "calibrated", one.settings[best], -bits))
    kernel = next((bits for name, _, _, bits in found if name == KERNEL), np.nan)
    rows = []
    for name, setting, chosen, bits in found:
        above = bits - kernel
        numbers = bits.mean(), _error(bits), bits.mean() / length, above.mean(), _error(above)
        row = {"density": name, "setting": setting, "chosen": chosen, **about}
        rows.append(row | dict(zip(COLUMNS[-5:], np.round(numbers, 4).tolist(), strict=True)))
    return rows


def _error(values: np.ndarray) -> float:
    """Standard error of the mean; not known of one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def main() -> None:
    """Command line of the likelihoods."""
    parser = argparse.ArgumentParser(description="Bits a field of held-out fields, by density.")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--gpt", required=True, help="JSON object: name of a model -> its folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    import pandas as pd

    of = read_held(args.weights, args.codebook, args.tokens, args.split)
    said = simple(of, args.seed)
    for name, folder in cli.json_argument(args.gpt).items():
        said[name] = of_gpt(Path(folder), of)
    about = {"n_train": len(of.train), "seed": args.seed, "split": args.split}
    rows = table(said, about | {"n_held_out": len(of.held)}, of.held.shape[1])
    write_text(args.out, pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
