"""Train a GPT on token sequences.

Which rows, dropout masks and jitter an iteration sees follows from seed and iteration alone, so
that a killed and resumed run is the run that was not killed.
"""

import csv
import dataclasses
import hashlib
import io as stdio
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, sha256_of, write_json, write_text
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import _load_state, learning_rate
from nefgpt.generators.gpt.batches import (
    Sequences,
    make_batch,
    prefix_of,
    read_split,
    smooth_targets,
)
from nefgpt.generators.gpt.model import GPT, GPTConfig, context_length
from nefgpt.generators.settings import Gpt
from nefgpt.stages import VERSIONS

log = logging.getLogger(__name__)

COLUMNS = ["iteration", "train_loss", "val_loss", "learning_rate", "tokens_per_second"]
COLUMNS += ["calibrated_val_loss", "temperature"]
SECONDS_BETWEEN_STATES = 60
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


def highest_as_good(best: np.ndarray) -> float:
    """Mean loss of the best checkpoint plus its standard error (Breiman et al. 1984, 3.4.3).

    Parameters
    ----------
    best : losses [n] of the split's sequences at the best checkpoint.
    """
    error = best.std(ddof=1) / np.sqrt(len(best)) if len(best) > 1 else 0.0
    return float(best.mean() + error)


def gradients(
    model: GPT, inputs: Tensor, targets: Tensor, smooth: Tensor | None, settings: Gpt, autocast
) -> tuple[float, float]:
    """Leave the clipped gradients of a batch in a model; its loss, and their norm before.

    Parameters
    ----------
    inputs, targets : what `make_batch` made, on the model's device.
    smooth : what `smooth_targets` gave; None for one-hot targets.
    """
    n, length = settings.accumulate, targets.shape[1]
    total = torch.zeros((), device=inputs.device)
    for part, target in zip(inputs.chunk(n), targets.chunk(n), strict=True):
        with autocast():
            logits = model(part)[:, -length:]
        wanted = target.flatten() if smooth is None else smooth[target.flatten()]
        loss = F.cross_entropy(logits.float().flatten(0, 1), wanted) / n
        loss.backward()
        total += loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    loss, norm = torch.stack([total, norm]).cpu().tolist()  # the host's only wait for a GPU
    return loss, norm


def _optimiser(model: GPT, settings: Gpt) -> Adam:
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "position" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() <= 1 or "position" in name]
    return Adam([(decayed, settings.weight_decay), (rest, 0.0)], betas=(0.9, 0.95))


def _csv(rows: list[list]) -> str:
    stream = stdio.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])
    return stream.getvalue()


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
    n_codes, length = about["n_codes"], about["sequence_length"]
    vocabulary = n_codes + 1 + about["n_classes"]
    settings_text = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    identity = [settings_text, str(seed), sha256_of(tokens), str(VERSIONS["gpt"])]
    fingerprint = hashlib.sha256("\0".join(identity).encode()).hexdigest()
    sizes = {key: getattr(settings, key) for key in ("embedding", "heads", "layers", "dropout")}
    n_prefix = 2 if about["n_classes"] else 1
    context = context_length(length, n_prefix)
    config = GPTConfig(vocab_size=vocabulary, context=context, **sizes)
    where = device()
    bf16 = settings.precision == "bf16" or (
        settings.precision == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported()
    )

    def autocast():
        return torch.autocast(where.type, torch.bfloat16, enabled=bf16)

    torch.manual_seed(stable_seed(seed, "gpt"))
    model = GPT(config)
    model.order_codes(n_codes)
    model.to(where)
    optimiser = _optimiser(model, settings)
    width, smooth = settings.label_smoothing_width, None
    if width:  # one-hot rows would be the same loss at the price of a [n_codes, n_codes] table
        smooth = smooth_targets(n_codes, vocabulary, width).to(where)
    rows: list[list] = []
    # `losses` are of the best checkpoint, all else is of the one that is kept.
    best: dict = {"losses": [], "iteration": 0, "val_loss": math.inf, "weights": {}}
    begin, running = 0, []
    state_path = resume_dir / "state.pt" if resume_dir else None
    state = _load_state(state_path, fingerprint) if state_path else None
    if state:
        model.load_state_dict(state["model"])
        optimiser.resume(state["optimiser"])
        rows, best, running = state["rows"], state["best"], state["running"]
        begin = state["iteration"]
    saved = time.monotonic()

    def save_state(iteration: int) -> None:
        if state_path is None:
            return
        with atomic_path(state_path) as temporary:
            torch.save(
                {
                    "fingerprint": fingerprint,
                    "iteration": iteration,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state(),
                    "rows": rows,
                    "best": best,
                    "running": running,
                },
                temporary,
            )

    def evaluate(iteration: int, rate: float, speed: float) -> None:
        batch = settings.batch_size
        losses = validation_losses(model, val_rows, n_codes, batch, autocast)
        column = int(losses.mean(axis=0).argmin())
        plain, calibrated = float(losses[:, 0].mean()), losses[:, column]
        temperature, loss = TEMPERATURES[column], float(calibrated.mean())
        mean = float(np.mean(running)) if running else ""
        rows.append([iteration, mean, plain, rate, round(speed, 1), loss, temperature])
        running.clear()
        if not best["weights"] or loss < np.mean(best["losses"]):
            best["losses"] = calibrated.tolist()
        if loss <= highest_as_good(np.array(best["losses"])):
            weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}
            best.update(iteration=iteration, val_loss=plain, weights=weights)
            best.update(calibrated_val_loss=loss, temperature=temperature)

    if not rows:
        evaluate(0, 0.0, 0.0)
    total = settings.iterations
    batch_tokens = settings.batch_size * settings.accumulate * length
    began, since = time.monotonic(), begin
    with tqdm(total=total, initial=begin, desc="gpt", unit="it", mininterval=1) as bar:
        for iteration in range(begin, total):
            rate = learning_rate(settings, iteration)
            batch = make_batch(train_rows, settings, n_codes, iteration, seed)
            inputs, targets = (torch.from_numpy(codes).to(where) for codes in batch)
            torch.manual_seed(stable_seed(seed, "dropout", iteration))
            model.train()
            optimiser.clear()
            loss_sum, norm = gradients(model, inputs, targets, smooth, settings, autocast)
            # Before the step: an overflowing gradient must reach neither weights nor state.
            if not (math.isfinite(loss_sum) and math.isfinite(norm)):
                raise InputError(
                    f"the GPT's loss turned {loss_sum} (gradient {norm}) at iteration "
                    f"{iteration}: lower gpt.<model>.learning_rate"
                )
            optimiser.step(rate)
            running.append(loss_sum)
            bar.update()
            done = iteration + 1
            if done % settings.eval_every == 0 or done == total:
                now = time.monotonic()
                evaluate(done, rate, (done - since) * batch_tokens / max(now - began, 1e-9))
                began, since = time.monotonic(), done
                bar.set_postfix(train=f"{rows[-1][1]:.3f}", val=f"{rows[-1][2]:.3f}")
                save_state(done)
                saved = now
            elif time.monotonic() - saved > SECONDS_BETWEEN_STATES:
                save_state(done)
                saved = time.monotonic()
    with atomic_path(out_dir / "model.safetensors") as temporary:
        save_file(best["weights"], temporary)
    write_json(
        out_dir / "config.json",
        {
            "gpt": {"vocab_size": vocabulary, "context": config.context, **sizes},
            "n_codes": n_codes,
            "n_classes": about["n_classes"],
            "sequence_length": length,
            "settings": dataclasses.asdict(settings),
            "seed": seed,
            **{name: value for name, value in best.items() if name not in ("losses", "weights")},
            "n_parameters": model.n_parameters(),
        },
    )
    write_text(out_dir / "losses.csv", _csv(rows))
    if state_path:
        state_path.unlink(missing_ok=True)
        for half in resume_dir.glob(".state-*.pt"):  # of a run killed while it wrote its state
            half.unlink()
        if resume_dir.is_dir() and not any(resume_dir.iterdir()):
            resume_dir.rmdir()
