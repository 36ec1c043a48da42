"""One training loop: schedule, clipping, guard, resume, checkpoints; no word of what is learned."""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from nefgpt.base.adam import Adam
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, write_text
from nefgpt.base.seeds import stable_seed

log = logging.getLogger(__name__)

SECONDS_BETWEEN_STATES = 60
_LAYOUT = "2"  # of a state; raise it when what a state holds changes

Losses = Callable[[int], Iterable[Tensor]]
Evaluate = Callable[[], tuple[np.ndarray, dict]]


class Schedule(Protocol):
    """Settings that have a learning rate's way."""

    learning_rate: float
    min_learning_rate: float
    warmup: int
    iterations: int


def learning_rate(settings: Schedule, iteration: int) -> float:
    """Linear warm-up, then a cosine from `learning_rate` down to `min_learning_rate`."""
    peak, low = settings.learning_rate, settings.min_learning_rate
    warmup, total = settings.warmup, settings.iterations
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


def autocast(
    precision: str, where: torch.device
) -> Callable[[], contextlib.AbstractContextManager]:
    """What makes contexts to compute a model in.

    Parameters
    ----------
    precision : "float32", "bf16", or "auto": bfloat16 on a GPU that has it.
    """
    bf16 = precision == "bf16" or (
        precision == "auto" and where.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return functools.partial(torch.autocast, where.type, torch.bfloat16, enabled=bf16)


class State:
    """Where a run that may be killed keeps what it goes on from.

    Parameters
    ----------
    folder : of its own.
    identity : all that the run follows from; the state of another run is not gone on from.
    """

    def __init__(self, folder: Path, *identity: str) -> None:
        self.path = folder / "state.pt"
        self.fingerprint = hashlib.sha256("\0".join([_LAYOUT, *identity]).encode()).hexdigest()
        self.saved = time.monotonic()

    def load(self) -> dict | None:
        """What was saved last; None where that is nothing, unreadable or of another run."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            known = state["fingerprint"]
        # A file cut off by a full disk fails in many ways inside the unpickler.
        except Exception as error:
            log.warning("cannot read %s (%r): training starts anew", self.path, error)
            return None
        if known != self.fingerprint:
            log.info("%s is of another training run: training starts anew", self.path)
            return None
        return state

    def save(self, content: dict) -> None:
        """Keep `content` in place of what was saved before."""
        with atomic_path(self.path) as temporary:
            torch.save({"fingerprint": self.fingerprint, **content}, temporary)
        self.saved = time.monotonic()

    def overdue(self) -> bool:
        """Whether too much would be lost by now."""
        return time.monotonic() - self.saved > SECONDS_BETWEEN_STATES

    def clear(self) -> None:
        """Remove the state of a run that has written its results, and its folder if empty."""
        self.path.unlink(missing_ok=True)
        for half in self.path.parent.glob(".state-*.pt"):  # of a run killed while it wrote
            half.unlink()
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model is trained.

    Parameters
    ----------
    title : what messages and the progress bar call the training.
    key : of the learning rate in the configuration.
    rate_of : the learning rate of an iteration.
    clip : largest norm of the gradient; infinity leaves it as it is.
    eval_every : iterations between two evaluations; there is one before the first iteration and
        one after the last, too.
    limit : a checkpoint is kept when its mean validation loss is at most this of the losses [n]
        of the best: by default, when none was better.
    seed : PyTorch's random numbers of an iteration follow from it and the iteration. None lets
        them go on, and then no run can be resumed.
    """

    title: str
    key: str
    iterations: int
    rate_of: Callable[[int], float]
    clip: float = 1.0
    eval_every: int = 1
    limit: Callable[[np.ndarray], float] = np.mean
    seed: int | None = None


@dataclasses.dataclass
class Course:
    """How far a training is, and what it has found.

    Attributes
    ----------
    iteration : steps taken.
    rows : of every evaluation `iteration`, `train_loss` (the mean since the one before; "" at
        first), `val_loss`, `learning_rate`, `iterations_per_second`, and what `evaluate` found.
    running : training losses since the last evaluation.
    best : losses [n] of the best evaluation.
    kept : the row of the checkpoint that is kept.
    weights : its weights, on the CPU.
    """

    iteration: int = 0
    rows: list[dict] = dataclasses.field(default_factory=list)
    running: list[float] = dataclasses.field(default_factory=list)
    best: list[float] = dataclasses.field(default_factory=list)
    kept: dict = dataclasses.field(default_factory=dict)
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def note(self, model: nn.Module, plan: Plan, evaluate: Evaluate, speed: float) -> None:
        """Evaluate a model and add the row; keep its weights if they are as good."""
        losses, figures = evaluate()
        losses = np.array(losses, np.float64)
        loss = float(losses.mean())
        rate = plan.rate_of(self.iteration - 1) if self.iteration else 0.0
        row = {
            "iteration": self.iteration,
            "train_loss": float(np.mean(self.running)) if self.running else "",
            "val_loss": loss,
            "learning_rate": rate,
            "iterations_per_second": speed,
            **figures,
        }
        self.rows.append(row)
        self.running.clear()
        if not self.weights or loss < np.mean(self.best):
            self.best = losses.tolist()
        if loss <= plan.limit(np.array(self.best)):
            self.kept = row
            self.weights = {name: w.cpu().clone() for name, w in model.state_dict().items()}


def write_losses(path: Path, rows: list[dict]) -> None:
    """Write the rows of a `Course` as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def gradients(model: nn.Module, losses: Iterable[Tensor], clip: float) -> tuple[float, float]:
    """Leave the clipped gradients of a sum of losses in a model; the sum, and their norm before.

    Each loss goes back before the next is asked for, so that a batch in parts takes the memory
    of a part.
    """
    total = 0.0
    for loss in losses:
        loss.backward()
        total = total + loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    total, norm = torch.stack([total, norm]).cpu().tolist()  # the host's only wait for a GPU
    return total, norm


def _step(
    model: nn.Module, optimiser: Adam, plan: Plan, losses_of: Losses, iteration: int
) -> float:
    """Take one step; its loss."""
    if plan.seed is not None:
        torch.manual_seed(stable_seed(plan.seed, "dropout", iteration))
    model.train()
    optimiser.clear()
    loss, norm = gradients(model, losses_of(iteration), plan.clip)
    # Before the step: an overflowing gradient must reach neither weights nor state.
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise InputError(
            f"{plan.title}: the loss turned {loss} (gradient {norm}) at iteration {iteration}: "
            f"lower {plan.key}"
        )
    optimiser.step(plan.rate_of(iteration))
    return loss


def fit(
    model: nn.Module,
    optimiser: Adam,
    plan: Plan,
    losses_of: Losses,
    evaluate: Evaluate | None = None,
    state: State | None = None,
) -> Course:
    """Train a model.

    A killed and resumed run is the run that was not killed, to the bit, where `plan` has a seed
    and `losses_of` follows from the iteration and PyTorch's random numbers alone.

    Parameters
    ----------
    losses_of : losses of an iteration's batch, whose sum is learned; a generator makes each when
        the one before has gone back.
    evaluate : losses [n] of held-out rows, whose mean compares checkpoints, and more figures (of
        Python, not NumPy) of the course's row; None when there is nothing to choose by.
    state : what to go on from, and where to keep that. To be cleared when results are written.

    Raises
    ------
    InputError
        when the loss or its gradient turns non-finite, naming the iteration.
    ValueError
        when a plan without a seed is given a state.
    """
    if state and plan.seed is None:
        raise ValueError(f"{plan.title}: no run without a seed can be resumed")
    course = Course()
    if state and (found := state.load()):
        model.load_state_dict(found["model"])
        optimiser.resume(found["optimiser"])
        course = Course(**found["course"])
        log.info("resumed at iteration %d from %s", course.iteration, state.path)

    def save() -> None:
        now = {"model": model.state_dict(), "optimiser": optimiser.state()}
        state.save(now | {"course": vars(course)})

    if evaluate and not course.rows:
        course.note(model, plan, evaluate, 0.0)
    began, since = time.monotonic(), course.iteration
    bar = tqdm(total=plan.iterations, initial=since, desc=plan.title, unit="it", mininterval=1)
    with bar:
        for iteration in range(since, plan.iterations):
            loss = _step(model, optimiser, plan, losses_of, iteration)
            course.running.append(loss)
            course.iteration = done = iteration + 1
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if evaluate and (done % plan.eval_every == 0 or done == plan.iterations):
                speed = (done - since) / max(time.monotonic() - began, 1e-9)
                course.note(model, plan, evaluate, speed)
                began, since = time.monotonic(), done
                if state:
                    save()
            elif state and state.overdue():
                save()
    return course
