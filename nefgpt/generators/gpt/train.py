"""Train a GPT on token sequences.

Which rows, dropout masks and jitter an iteration sees follows from seed and iteration alone, so
that a killed and resumed run is the run that was not killed.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.files import atomic_path, sha256_of, write_json
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import (
    Course,
    Plan,
    State,
    autocast,
    fit,
    learning_rate,
    write_losses,
)
from nefgpt.generators.gpt.batches import (
    Sequences,
    make_batch,
    prefix_of,
    read_split,
    smooth_targets,
)
from nefgpt.generators.gpt.model import GPT, GPTConfig, context_length
from nefgpt.generators.settings import Gpt
from nefgpt.generators.transformer import BETAS
from nefgpt.stages import VERSIONS

COLUMNS = ["iteration", "train_loss", "val_loss", "learning_rate", "tokens_per_second"]
COLUMNS += ["calibrated_val_loss", "temperature"]
TEMPERATURES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)


@torch.no_grad()
def validation_losses(model: GPT, val: Sequences, n_codes: int, batch: int, autocast) -> np.ndarray:
    """Mean plain cross-entropy in nats per code, float64 [n, len(TEMPERATURES)].

    One row per sequence of the val split, one column per temperature of the logits.
    """
    model.eval()
    where = model.token.weight.device
    found, length = [], val.codes.shape[1]
    prefix = prefix_of(val.labels, len(val.codes), n_codes)
    inputs = torch.from_numpy(np.concatenate([prefix, val.codes[:, :-1]], axis=1))
    for part, codes in zip(
        inputs.split(batch), torch.from_numpy(val.codes).split(batch), strict=True
    ):
        targets = codes.to(where)
        with autocast():
            logits = model(part.to(where))[:, -length:]
        logits = logits.float().transpose(1, 2)  # [B, V, L]
        losses = [
            F.cross_entropy(logits / temperature, targets, reduction="none").double().mean(dim=1)
            for temperature in TEMPERATURES
        ]
        found.append(torch.stack(losses, dim=1).cpu().numpy())
    return np.concatenate(found)


def _model(about: dict, settings: Gpt) -> GPT:
    """A GPT for tokens of which `read_split` told."""
    config = GPTConfig(
        vocab_size=about["n_codes"] + 1 + about["n_classes"],
        context=context_length(about["sequence_length"], 2 if about["n_classes"] else 1),
        embedding=settings.embedding,
        heads=settings.heads,
        layers=settings.layers,
        dropout=settings.dropout,
    )
    model = GPT(config)
    model.order_codes(about["n_codes"])
    return model


def highest_as_good(best: np.ndarray) -> float:
    """Mean loss of the best checkpoint plus its standard error (Breiman et al. 1984, 3.4.3).

    Parameters
    ----------
    best : losses [n] of the split's sequences at the best checkpoint.
    """
    error = best.std(ddof=1) / np.sqrt(len(best)) if len(best) > 1 else 0.0
    return float(best.mean() + error)


def losses(
    model: GPT, inputs: Tensor, targets: Tensor, smooth: Tensor | None, parts: int, autocast
) -> Iterator[Tensor]:
    """Mean cross-entropy of a batch, as one summand for each of its parts.

    Parameters
    ----------
    inputs, targets : what `make_batch` made, on the model's device.
    smooth : what `smooth_targets` gave; None for one-hot targets.
    """
    for part, target in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
        with autocast():
            logits = model(part)[:, -targets.shape[1] :]
        wanted = target.flatten() if smooth is None else smooth[target.flatten()]
        yield F.cross_entropy(logits.float().flatten(0, 1), wanted) / parts


def _optimiser(model: GPT, settings: Gpt) -> Adam:
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "position" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() <= 1 or "position" in name]
    return Adam([(decayed, settings.weight_decay), (rest, 0.0)], BETAS)


def _state(folder: Path | None, tokens: Path, settings: Gpt, seed: int) -> State | None:
    """Where a run keeps its state; the settings of another run, its tokens or seed have another."""
    if folder is None:
        return None
    text = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    return State(folder, text, str(seed), sha256_of(tokens), str(VERSIONS["gpt"]))


def _write(folder: Path, model: GPT, course: Course, about: dict, settings: Gpt, seed: int) -> None:
    """Write model.safetensors, config.json and losses.csv."""
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(course.weights, temporary)
    kept = ("iteration", "val_loss", "calibrated_val_loss", "temperature")
    config = {
        "gpt": {"vocab_size": model.config.vocab_size, **dataclasses.asdict(model.config)},
        **{name: about[name] for name in ("n_codes", "n_classes", "sequence_length")},
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        **{name: course.kept[name] for name in kept},
        "n_parameters": model.n_parameters(),
    }
    write_json(folder / "config.json", config)
    n_tokens = settings.batch_size * settings.accumulate * about["sequence_length"]
    rows = [
        row | {"tokens_per_second": round(row["iterations_per_second"] * n_tokens, 1)}
        for row in course.rows
    ]
    write_losses(folder / "losses.csv", [{name: row[name] for name in COLUMNS} for row in rows])


@computing()
def train(
    tokens: Path, out_dir: Path, settings: Gpt, seed: int, resume_dir: Path | None = None
) -> None:
    """Train a GPT and write model.safetensors, config.json and losses.csv.

    Longer training makes a model of few sequences surer than it should be long before its
    samples get worse, and the plain val loss punishes just that. So checkpoints are compared
    at the temperature that suits each best (Guo et al. 2017, section 4.2), and of those
    within one standard error of the best (`highest_as_good`) the last is kept.

    Parameters
    ----------
    tokens : tokens.parquet; its train split is learned, its val split chooses the weights kept.
    settings : one entry of the configuration's `gpt` block.
    resume_dir : where the state of an unfinished run lies; removed at the end.

    Raises
    ------
    InputError
        when the loss turns non-finite (naming the iteration), or the tokens cannot be used.
    """
    train_rows, val_rows, about = read_split(tokens)
    n_codes = about["n_codes"]
    where, width, smooth = device(), settings.label_smoothing_width, None
    context = autocast(settings.precision, where)
    torch.manual_seed(stable_seed(seed, "gpt"))
    model = _model(about, settings).to(where)
    if width:  # one-hot rows would be the same loss at the price of a [n_codes, n_codes] table
        smooth = smooth_targets(n_codes, model.config.vocab_size, width).to(where)

    def losses_of(iteration: int) -> Iterator[Tensor]:
        batch = make_batch(train_rows, settings, n_codes, iteration, seed)
        inputs, targets = (torch.from_numpy(codes).to(where) for codes in batch)
        return losses(model, inputs, targets, smooth, settings.accumulate, context)

    def evaluate() -> tuple[np.ndarray, dict]:
        found = validation_losses(model, val_rows, n_codes, settings.batch_size, context)
        column = int(found.mean(axis=0).argmin())
        calibrated = found[:, column]
        return calibrated, {
            "val_loss": float(found[:, 0].mean()),
            "calibrated_val_loss": float(calibrated.mean()),
            "temperature": TEMPERATURES[column],
        }

    plan = Plan(
        title="gpt",
        key="gpt.<model>.learning_rate",
        iterations=settings.iterations,
        rate_of=functools.partial(learning_rate, settings),
        eval_every=settings.eval_every,
        limit=highest_as_good,
        seed=seed,
    )
    state = _state(resume_dir, tokens, settings, seed)
    course = fit(model, _optimiser(model, settings), plan, losses_of, evaluate, state)
    _write(out_dir, model, course, about, settings, seed)
    if state:
        state.clear()
