"""Train a GPT on token sequences.

Which rows, dropout masks and jitter an iteration sees follows from seed and iteration alone, so
that a killed and resumed run is the run that was not killed.
"""

import argparse
import csv
import dataclasses
import functools
import hashlib
import io as stdio
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nefgpt import cli
from nefgpt.adam import Adam
from nefgpt.errors import InputError
from nefgpt.gpt import GPT, GPTConfig, context_length
from nefgpt.gpu import computing, device
from nefgpt.io import atomic_path, sha256_of, stable_seed, write_json, write_text
from nefgpt.stages import VERSIONS

log = logging.getLogger(__name__)

COLUMNS = ["iteration", "train_loss", "val_loss", "learning_rate", "tokens_per_second"]
COLUMNS += ["calibrated_val_loss", "temperature"]
SECONDS_BETWEEN_STATES = 60
N_NEAR = 5
TEMPERATURES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)


@dataclasses.dataclass
class Sequences:
    """Codes int64 [n, L] of one split, and a class int64 [n] for each (None without labels)."""

    codes: np.ndarray
    labels: np.ndarray | None

    def __post_init__(self) -> None:
        self._near = np.full((len(self.codes), N_NEAR), -1)
        self._n_near = np.full(len(self.codes), -1)  # -1: not looked for yet

    def near(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequences nearest to some of them by mean distance, of the same class if any.

        They are looked for when first asked for, and kept.

        Parameters
        ----------
        rows : row numbers [B].

        Returns
        -------
        ndarray
            Row numbers [B, N_NEAR], nearest first.
        ndarray
            How many of them there are [B]: fewer in a class that has no more.
        """
        for row in np.unique(rows[self._n_near[rows] < 0]):
            others = np.arange(len(self.codes))
            if self.labels is not None:
                others = np.flatnonzero(self.labels == self.labels[row])
            distance = np.abs(self.codes[others] - self.codes[row]).sum(axis=1)
            # The first is the sequence itself, or one just like it.
            found = others[np.argsort(distance, kind="stable")[1 : N_NEAR + 1]]
            self._near[row, : len(found)], self._n_near[row] = found, len(found)
        return self._near[rows], self._n_near[rows]


def read_split(path: Path) -> tuple[Sequences, Sequences, dict]:
    """Train and val sequences, and the table's metadata with `n_classes` (0 without labels)."""
    try:
        columns = ["split", "label", "tokens"]
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
        about = json.loads(table.schema.metadata[b"nefgpt"])
        length, n_codes = int(about["sequence_length"]), int(about["n_codes"])
        column = table["tokens"].combine_chunks()
        lengths = set(column.value_lengths().to_pylist())
        if lengths - {length}:
            raise ValueError(f"sequences of {lengths} codes where {length} were promised")
        tokens = column.flatten().to_numpy().astype(np.int64).reshape(-1, length)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot read tokens {path}: {error}; delete it and run again") from error
    if tokens.size and tokens.max() >= n_codes:
        raise InputError(f"{path}: token {tokens.max()} is no code, there are {n_codes}")
    split, found = np.asarray(table["split"].to_pylist()), table["label"].to_pylist()
    labels = None if None in found else np.asarray(found, np.int64)
    if labels is None and any(label is not None for label in found):
        raise InputError(f"{path}: some fields have a label and some have none")
    parts = {}
    for name in ("train", "val"):
        chosen = split == name
        parts[name] = Sequences(tokens[chosen], None if labels is None else labels[chosen])
        if not chosen.any():
            raise InputError(
                f"{path}: the {name} split is empty, and the GPT needs it: add shapes or change "
                "dataset.split(_files)"
            )
    about["n_classes"] = 0 if labels is None else int(parts["train"].labels.max()) + 1
    if labels is not None and parts["val"].labels.max() >= about["n_classes"]:
        raise InputError(f"{path}: the val split has a class that the train split has not")
    return parts["train"], parts["val"], about


def learning_rate(settings: dict, iteration: int) -> float:
    """Linear warm-up, then a cosine from `learning_rate` down to `min_learning_rate`."""
    peak, low = settings["learning_rate"], settings["min_learning_rate"]
    warmup, total = settings["warmup"], settings["iterations"]
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    progress = (iteration - warmup) / max(1, total - warmup)
    return low + 0.5 * (1 + math.cos(math.pi * progress)) * (peak - low)


@functools.lru_cache(maxsize=2)  # a batch has rows of one epoch, or of two
def _order(n_rows: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng(stable_seed(seed, "epoch", epoch)).permutation(n_rows)


def batch_rows(n_rows: int, batch: int, iteration: int, seed: int) -> np.ndarray:
    """Row numbers [batch] of an iteration: a window of the endless row of permutations."""
    places = iteration * batch + np.arange(batch)
    epochs = places // n_rows
    return np.concatenate(
        [
            _order(n_rows, int(epoch), seed)[places[epochs == epoch] % n_rows]
            for epoch in np.unique(epochs)
        ]
    )


def mix(
    train: Sequences, chosen: np.ndarray, share: float, n_codes: int, rng: np.random.Generator
) -> np.ndarray:
    """Codes of the chosen rows, a share of them moved along the line to a near train sequence.

    The neighbour is of the same class where there are classes. Moves go both ways, up to 0.7 of
    the distance towards it and 0.3 away, since moves between sequences alone would shrink the
    spread of what is learned, and with it the coverage of samples.

    Codes are ordered along each coefficient, so that a sequence between two sequences is a
    field between two fields (SMOTE, Chawla et al. 2002, with five neighbours).

    Parameters
    ----------
    chosen : row numbers [B].

    Returns
    -------
    int64 [B, L]
    """
    codes = train.codes[chosen]
    near, n_near = train.near(chosen)
    moved = (rng.random(len(chosen)) < share) & (n_near > 0)
    which = (rng.random(len(chosen)) * n_near).astype(np.int64)
    by = rng.uniform(-0.3, 0.7, (len(chosen), 1)) * moved[:, None]
    others = train.codes[near[np.arange(len(chosen)), which]]
    return np.rint(codes + by * (others - codes)).astype(np.int64).clip(0, n_codes - 1)


def prefix_of(labels: np.ndarray | None, n: int, n_codes: int) -> np.ndarray:
    """Special tokens before the codes, int64 [n, P]: SOS, and the class token where there is one.

    A label of -1 stands for no class and is a second SOS.
    """
    start = np.full((n, 1), n_codes)
    if labels is None:
        return start
    return np.concatenate([start, n_codes + 1 + np.asarray(labels)[:, None]], axis=1)


def make_batch(
    train: Sequences, settings: dict, n_codes: int, iteration: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [prefix, codes but the last] and target codes [effective batch, L], int64."""
    size = settings["batch_size"] * settings["accumulate"]
    rng = np.random.default_rng(stable_seed(seed, "batch", iteration))
    chosen = batch_rows(len(train.codes), size, iteration, seed)
    targets = (
        mix(train, chosen, settings["mix"], n_codes, rng)
        if settings["mix"]
        else train.codes[chosen]
    )
    inputs = targets[:, :-1].copy()
    if settings["jitter"]:
        moved = rng.random(inputs.shape) < settings["jitter"]
        step = rng.choice([-1, 1], inputs.shape)
        inputs = np.where(moved, np.clip(inputs + step, 0, n_codes - 1), inputs)
    labels = None if train.labels is None else train.labels[chosen]
    if labels is not None and settings["class_dropout"]:
        labels = np.where(rng.random(size) < settings["class_dropout"], -1, labels)
    return np.concatenate([prefix_of(labels, size, n_codes), inputs], axis=1), targets


def smooth_targets(n_codes: int, vocabulary: int, width: float) -> Tensor:
    """Target distribution of every code, float32 [n_codes, vocabulary].

    A Gaussian of `width` codes around the code, since neighbouring codes mean nearly the same;
    special tokens get nothing. Width 0 is one-hot.
    """
    if not width:
        return torch.eye(n_codes, vocabulary)
    place = torch.arange(n_codes, dtype=torch.float32)
    weight = torch.exp(-(place[:, None] - place[None]).square() / (2 * width**2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    return F.pad(weight, (0, vocabulary - n_codes))


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
    model: GPT, inputs: Tensor, targets: Tensor, smooth: Tensor | None, settings: dict, autocast
) -> tuple[float, float]:
    """Leave the clipped gradients of a batch in a model; its loss, and their norm before.

    Parameters
    ----------
    inputs, targets : what `make_batch` made, on the model's device.
    smooth : what `smooth_targets` gave; None for one-hot targets.
    """
    n, length = settings["accumulate"], targets.shape[1]
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


def _optimiser(model: GPT, settings: dict) -> Adam:
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "position" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() <= 1 or "position" in name]
    return Adam([(decayed, settings["weight_decay"]), (rest, 0.0)], betas=(0.9, 0.95))


def _load_state(path: Path, fingerprint: str) -> dict | None:
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["fingerprint"]
    # A file cut off by a full disk fails in many ways inside the unpickler.
    except Exception as error:
        log.warning("cannot read %s (%r): training starts anew", path, error)
        return None
    if known != fingerprint:
        log.info("%s is of another training run: training starts anew", path)
        return None
    log.info("resumed at iteration %d from %s", state["iteration"], path)
    return state


def _csv(rows: list[list]) -> str:
    stream = stdio.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])
    return stream.getvalue()


@computing()
def train(
    tokens: Path, out_dir: Path, settings: dict, seed: int, resume_dir: Path | None = None
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
    settings_text = json.dumps(settings, sort_keys=True)
    identity = [settings_text, str(seed), sha256_of(tokens), str(VERSIONS["gpt"])]
    fingerprint = hashlib.sha256("\0".join(identity).encode()).hexdigest()
    sizes = {key: settings[key] for key in ("embedding", "heads", "layers", "dropout")}
    n_prefix = 2 if about["n_classes"] else 1
    context = context_length(length, n_prefix)
    config = GPTConfig(vocab_size=vocabulary, context=context, **sizes)
    where = device()
    bf16 = settings["precision"] == "bf16" or (
        settings["precision"] == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported()
    )

    def autocast():
        return torch.autocast(where.type, torch.bfloat16, enabled=bf16)

    torch.manual_seed(stable_seed(seed, "gpt"))
    model = GPT(config)
    model.order_codes(n_codes)
    model.to(where)
    optimiser = _optimiser(model, settings)
    width, smooth = settings["label_smoothing_width"], None
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
        batch = settings["batch_size"]
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
    total = settings["iterations"]
    batch_tokens = settings["batch_size"] * settings["accumulate"] * length
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
            if done % settings["eval_every"] == 0 or done == total:
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
            "settings": settings,
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


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description="Train a GPT on tokens.parquet.")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="one gpt entry, JSON or @file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume-dir", type=Path, help="keep the state of an unfinished run here")
    args = parser.parse_args()
    settings = cli.json_argument(args.settings)
    train(args.tokens, args.out_dir, settings, args.seed, args.resume_dir)
