"""Fields in PyTorch: many of them evaluated, differentiated and fitted as one stacked problem.

It is how a GPU computes them; a CPU fits and evaluates them by `nefgpt.fields.fused`.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nefgpt.base.device import device
from nefgpt.fields import fused
from nefgpt.fields.fits import Batch, Fitted, Rule, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec

_AT_ONCE = 512  # fields
_ACTIVATIONS = {"gelu": functional.gelu, "relu": functional.relu, "silu": functional.silu}
_OUTPUTS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda value: value}


@contextlib.contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Let torch compute with one thread.

    Its other threads wait by spinning, so that they would take the cores from the fused passes.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def encode(spec: FieldSpec, points: Tensor) -> Tensor:
    """Sinusoidal encoding of points [..., in_dim] in field coordinates to [..., n_inputs].

    Order: raw coordinates (if any), then per octave all sines, then all cosines.
    """
    if spec.mirror is not None:
        points = points.clone()
        points[..., spec.mirror] = points[..., spec.mirror].abs()
    parts = [points] if spec.include_input else []
    for octave in range(spec.octaves):
        angle = points * (spec.frequency * 2**octave)
        parts += [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts, dim=-1)


def evaluate(spec: FieldSpec, weights: Tensor, points: Tensor) -> Tensor:
    """Values of fields `weights` [F, W] at points [N, in_dim] or [F, N, in_dim].

    [F, N] of one output, else [F, N, out_dim].
    """
    hidden = encode(spec, points)
    if hidden.dim() == 2:
        hidden = hidden.expand(weights.shape[0], -1, -1)
    # One split: the gradients of as many slices would each be padded to all weights, and summed.
    parts = weights.split([stop - start for _, start, stop in spec.slices], dim=1)
    tensors = {
        name: part.view(-1, *shape) for (name, shape), part in zip(spec.layers, parts, strict=True)
    }
    activation = _ACTIVATIONS[spec.activation]
    for i in range(len(spec.hidden) + 1):
        matrix = tensors[f"layers.{i}.weight"].transpose(-1, -2)  # [F, in, out]
        bias = tensors.get(f"layers.{i}.bias")
        if bias is None:
            hidden = torch.bmm(hidden, matrix)
        else:
            hidden = torch.baddbmm(bias.unsqueeze(1), hidden, matrix)
        if i < len(spec.hidden):
            hidden = activation(hidden)
    hidden = hidden.squeeze(-1) if spec.out_dim == 1 else hidden
    return _OUTPUTS[spec.output_activation](hidden)


@contextlib.contextmanager
def _tf32(wanted: bool) -> Iterator[None]:
    """Let a GPU's tensor cores take a field's products; docs/fidelity.md finds nothing lost."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def batched(
    spec: FieldSpec, free: Tensor, space: Space, batch: Batch, loss: str
) -> tuple[Tensor, Tensor]:
    """What `nefgpt.fields.fused.gradients` computes, of tensors as one stacked problem."""
    (anchor, basis), (points, target, rows, chosen) = space, batch
    weights = (free if basis is None else anchor + free @ basis).detach().requires_grad_(True)
    seen = rows[:, None], chosen
    with _tf32(points.is_cuda):
        error = evaluate(spec, weights, points[seen]) - target[seen]
        losses = (error.abs() if loss == "l1" else error.square()).flatten(1).mean(dim=1)
        (gradient,) = torch.autograd.grad(losses.sum(), weights)
    return losses.detach(), gradient if basis is None else gradient @ basis.T


def loss_and_gradient(
    spec: FieldSpec, free: Tensor, space: Space, batch: Batch, loss: str
) -> tuple[Tensor, Tensor]:
    """Losses [F] of fields and their gradients: `batched` on a GPU, fused on a CPU.

    The parameters are those of `nefgpt.fields.fused.gradients`, as tensors on one device.
    """
    if free.is_cuda:
        return batched(spec, free, space, batch, loss)

    def array(tensor: Tensor | None) -> np.ndarray | None:
        return None if tensor is None else np.ascontiguousarray(tensor.numpy())

    arrays = Space(*map(array, space)), Batch(*map(array, batch))
    losses, gradient = fused.gradients(spec, array(free), *arrays, loss)
    return torch.from_numpy(losses), torch.from_numpy(gradient)


def at_once(spec: FieldSpec, settings: Optimiser) -> int:
    """How many fields of a pack to fit together: those whose step takes half of the free memory.

    But at most `_AT_ONCE`: their signals lie in memory too.
    """
    # Activations and what their gradients need: 2.1 to 2.2 floats for each, seen at its highest.
    floats = 2.5 * (spec.n_inputs + sum(spec.hidden))
    free, _ = torch.cuda.mem_get_info()
    return min(_AT_ONCE, max(1, int(free / 2 / (4 * floats * settings.points_per_step))))


class Fit:
    """Fits of F fields on one device; see `nefgpt.fields.fused.Fit`."""

    def __init__(
        self,
        spec: FieldSpec,
        points: np.ndarray,
        target: np.ndarray,
        start: np.ndarray,
        space: Space,
        settings: Optimiser,
    ) -> None:
        self.spec, self.loss, self.rule, self.step = spec, settings.loss, Rule.of(settings), 0
        self.where = where = device()
        self.points, self.target = (torch.tensor(array, device=where) for array in (points, target))
        anchor = torch.tensor(space.anchor, device=where)
        basis = None if space.basis is None else torch.tensor(space.basis, device=where)
        self.space = Space(anchor, basis)
        self.origin = anchor if basis is None else torch.zeros_like(basis[:, 0])
        free, n = torch.tensor(start, device=where), len(start)  # [F, W] or [F, k]
        # What follows is of the fields that are still being fitted; `rows` says which they are.
        self.now = {
            "rows": torch.arange(n, device=where),
            "free": free,
            "mean": torch.zeros_like(free),
            "square": torch.zeros_like(free),
            "average": free.clone(),
            "rate": torch.full((n, 1), float(settings.learning_rate), device=where),
            "best": torch.full((n,), float("inf"), device=where),
            "smoothed": torch.full((n,), float("nan"), device=where),
            "stalled": torch.zeros(n, device=where),
            "loss": torch.full((n,), float("nan"), device=where),
            "failed": torch.full((n,), -1, device=where),
            "steps": torch.zeros(n, dtype=torch.long, device=where),
            "done": torch.zeros(n, dtype=torch.bool, device=where),
        }
        names = ("free", "average", "loss", "failed", "steps")
        self.found = {name: self.now[name].clone() for name in names}

    def advance(self, chosen: np.ndarray, factors: np.ndarray) -> bool:
        """Take some steps; see `nefgpt.fields.fused.Fit.advance`."""
        now = self.now
        for numbers, factor in zip(torch.from_numpy(chosen).to(self.where), factors, strict=True):
            self._step(numbers, float(factor))
            self.step += 1
        for name, result in self.found.items():
            result[now["rows"]] = now[name]
        going_on = (now["failed"] < 0) & ~now["done"]
        if not going_on.all():  # between steps the host never waits for a GPU, but here
            self.now = {name: value[going_on] for name, value in now.items()}
        return len(self.now["rows"]) > 0

    def _step(self, chosen: Tensor, factor: float) -> None:
        now, pull, decay = self.now, self.rule.pull, self.rule.averaging
        batch = Batch(self.points, self.target, now["rows"], chosen)
        loss, gradient = batched(self.spec, now["free"], self.space, batch, self.loss)
        if pull:
            gradient += 2 * pull * (now["free"] - self.origin)
        alive = (now["failed"] < 0) & ~now["done"]
        now["loss"] = torch.where(alive, loss, now["loss"])
        failing = alive & ~torch.isfinite(loss + gradient.sum(dim=1))
        now["failed"].masked_fill_(failing, self.step)
        # A field that failed or is done stands still, and its neighbours never see it.
        moving = (alive & ~failing)[:, None]
        gradient.masked_fill_(~moving, 0.0)
        now["mean"].lerp_(gradient, 1 - fused.MEAN_DECAY)
        square, decayed = now["square"], fused.SQUARE_DECAY
        square.mul_(decayed).addcmul_(gradient, gradient, value=1 - decayed)
        rate = now["rate"] * factor * moving
        if self.rule.plateau:
            self._watch(loss, moving[:, 0])
        count = self.step + 1
        scale = square.sqrt().mul_((1 - decayed**count) ** -0.5).add_(fused.EPSILON)
        now["free"] -= rate / (1 - fused.MEAN_DECAY**count) * now["mean"] / scale
        if decay:
            now["average"].lerp_(now["free"], moving * (1.0 if count == 1 else 1 - decay))
        now["steps"] += moving[:, 0]

    def _watch(self, loss: Tensor, moving: Tensor) -> None:
        """Halve the rate of every field whose smoothed loss does not improve any more."""
        now = self.now
        smoothed = torch.where(
            now["smoothed"].isnan(), loss, now["smoothed"].lerp(loss, fused.SMOOTHING)
        )
        better = smoothed < now["best"] * fused.IMPROVED
        now["smoothed"], now["best"] = smoothed, torch.where(better, smoothed, now["best"])
        now["stalled"].add_(1).masked_fill_(better, 0.0)
        stalls = now["stalled"] > fused.PATIENCE
        now["done"] |= moving & stalls & (now["rate"][:, 0] <= self.rule.least_rate)
        halved = (now["rate"] * 0.5).clamp_min(self.rule.least_rate)
        now["rate"] = torch.where(stalls[:, None], halved, now["rate"])
        now["stalled"].masked_fill_(stalls, 0.0)

    def result(self) -> Fitted:
        """See `nefgpt.fields.fused.Fit.result`."""
        found = self.found["average" if self.rule.averaging else "free"]
        anchor, basis = self.space
        weights = found if basis is None else anchor + found @ basis
        rest = (self.found[name] for name in ("loss", "failed", "steps"))
        weights, *rest = (tensor.cpu().numpy() for tensor in (weights, *rest))
        return Fitted(None if basis is None else found.cpu().numpy(), weights, *rest)
