"""Weights to tokens and back by one-dimensional vector quantisation.

Two kinds share all code but the linear map in front of the codes:

- "scalar" (the paper): every weight's difference to the template is one token;
- "basis": the difference is seen along the leading principal components of the train fields,
  and each whitened score is one token, most variance first. Sequences become short, and
  codes of a smooth, low-dimensional family of fields become predictable.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, write_json
from nefgpt.fitting.weights import check_template, read_fields
from nefgpt.generators.components import Differences, differences, principal
from nefgpt.generators.gpt.codebook import fit_codes
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.settings import Tokens
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import kind_of
from nefgpt.stages import VERSIONS


@dataclasses.dataclass
class Tokenizer:
    """A fitted tokenizer.

    Attributes
    ----------
    kind : "scalar" or "basis".
    codes : float32 [n_codes], ascending.
    template : float32 [W].
    mean : float32 [W], of the train differences (zeros for "scalar").
    components : float32 [k, W] orthonormal rows, or None for "scalar".
    scale : float32 [L] divides each score before quantisation.
    """

    kind: str
    codes: np.ndarray
    template: np.ndarray
    mean: np.ndarray
    components: np.ndarray | None
    scale: np.ndarray

    @property
    def sequence_length(self) -> int:
        """Codes per field."""
        return len(self.scale)

    def scores(self, fields: Differences) -> np.ndarray:
        """What is quantised [n, L], of fields minus the template."""
        if self.components is None:
            return (fields.weights() - self.mean) / self.scale
        return fields.along(self.components, self.mean) / self.scale

    def from_scores(self, values: np.ndarray) -> np.ndarray:
        """Fields float32 [n, W] from scores [n, L]."""
        values = values * self.scale
        if self.components is not None:
            values = values @ self.components
        return (values + self.mean + self.template).astype(np.float32)

    def encode(self, fields: Differences) -> np.ndarray:
        """Nearest codes, uint16 [n, L], of fields minus the template.

        Raises
        ------
        InputError
            when a number is not finite.
        """
        if not fields.finite:
            raise InputError("a field has numbers that are not finite, and no codes: fit it anew")
        borders = (self.codes[1:] + self.codes[:-1]) / 2
        return np.searchsorted(borders, self.scores(fields)).astype(np.uint16)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Fields float32 [n, W] from tokens [n, L]."""
        if tokens.size and tokens.max() >= len(self.codes):
            raise InputError(f"token {tokens.max()} is no code: there are {len(self.codes)}")
        return self.from_scores(self.codes[tokens])


def fit_tokenizer(train: Differences, template: np.ndarray, settings: Tokens) -> Tokenizer:
    """Learn components and codes from the train fields minus the template [W] only."""
    if not len(train.numbers):
        raise InputError("there is no field in the train split to learn a codebook from")
    if settings.kind == "scalar":
        n = len(template)
        base = Tokenizer(
            "scalar", np.zeros(1), template, np.zeros(n, np.float32), None, np.ones(n, np.float32)
        )
    else:
        found = principal(train, settings.n_components)
        if not len(found.rows):
            raise InputError("tokens.kind: basis needs at least two train fields")
        scale = np.maximum(found.deviations, max(1e-12, 1e-7 * found.deviations[0]))
        scale = scale.astype(np.float32)
        base = Tokenizer("basis", np.zeros(1), template, found.mean, found.rows, scale)
    codes = fit_codes(base.scores(train), settings.n_codes)
    return dataclasses.replace(base, codes=codes)


def usage_of(tokens: np.ndarray, n_codes: int) -> dict:
    """Counts per code, perplexity (2^entropy) and the number of codes never used."""
    counts = np.bincount(tokens.ravel(), minlength=n_codes)
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * np.log2(share)).sum())
    return {
        "counts": counts,
        "entropy_bits": entropy,
        "perplexity": 2**entropy,
        "dead_codes": int((counts == 0).sum()),
    }


def save_tokenizer(path: Path, tokenizer: Tokenizer, usage: np.ndarray) -> None:
    """Write `codebook.safetensors`."""
    tensors = {
        "codes": tokenizer.codes[:, None],
        "usage": usage.astype(np.int64),
        "template": tokenizer.template,
        "mean": tokenizer.mean,
        "scale": tokenizer.scale,
    }
    if tokenizer.components is not None:
        tensors["components"] = tokenizer.components
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    spec = {"kind": tokenizer.kind, "version": VERSIONS["tokens"]}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"tokenizer": json.dumps(spec)})


def load_tokenizer(path: Path) -> Tokenizer:
    """Read `codebook.safetensors`; raise InputError when it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as stream:
            kind = json.loads(stream.metadata()["tokenizer"])["kind"]
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        return Tokenizer(
            kind,
            tensors["codes"][:, 0],
            tensors["template"],
            tensors["mean"],
            tensors.get("components"),
            tensors["scale"],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read codebook {path}: {error}; delete it") from error


def tokenize(
    weights_path: Path,
    signal_dir: Path,
    out_dir: Path,
    settings: Tokens,
    resolution: int,
    template: Path | None = None,
) -> None:
    """Write `codebook.safetensors`, `tokens.parquet` and `tokens.json` (usage and quality).

    Parameters
    ----------
    template : when given, fields that were not fitted from it raise InputError.
    """
    fields = read_fields(weights_path)
    if template is not None:
        check_template(weights_path, fields, template)
    kind = kind_of(fields.spec)
    measures = [*kind.KEPT, *(f"{name}_quantised" for name in kind.KEPT)]
    train = fields.of_split("train")
    tokenizer = fit_tokenizer(differences(fields, train), fields.template, settings)
    tokens = tokenizer.encode(differences(fields))
    decoded = tokenizer.decode(tokens)
    rows: dict[str, list] = {
        "shape_id": fields.shape_ids,
        "split": fields.splits,
        "label": fields.labels,
        **{name: fields.measures[name].tolist() for name in kind.KEPT},
        **{f"{name}_quantised": [] for name in kind.KEPT},
    }
    for shape_id, field in zip(
        tqdm(fields.shape_ids, desc="quantised", unit="field", mininterval=1), decoded, strict=True
    ):
        cloud = load_signal(signal_dir / f"{shape_id}.npz")
        found = kind.quality(fields.spec, field, cloud, resolution)
        for name in kind.KEPT:
            rows[f"{name}_quantised"].append(found[name])
    usage = usage_of(tokens[train], len(tokenizer.codes))
    save_tokenizer(out_dir / "codebook.safetensors", tokenizer, usage.pop("counts"))
    write_tokens(out_dir / "tokens.parquet", rows, tokens, len(tokenizer.codes))
    splits = np.asarray(fields.splits)
    for split in sorted(set(fields.splits)):
        for name in measures:
            values = np.asarray(rows[name], float)[splits == split]
            if not np.isnan(values).all():  # else no field of the split has a surface
                usage[f"{split}: median {name}"] = float(np.nanmedian(values))
    usage["sequence length"] = tokenizer.sequence_length
    write_json(out_dir / "tokens.json", usage)


def main() -> None:
    """Command line of the tokenizer."""
    parser = argparse.ArgumentParser(description="Learn a codebook, turn fields into tokens.")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--signal-dir", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="tokens settings, JSON or @file")
    parser.add_argument("--template", type=Path, help="refuse fields of another template")
    parser.add_argument("--quality-resolution", type=int, default=96)
    args = parser.parse_args()
    settings = cli.settings_argument(Tokens, args.settings)
    tokenize(
        args.weights,
        args.signal_dir,
        args.out_dir,
        settings,
        args.quality_resolution,
        args.template,
    )
