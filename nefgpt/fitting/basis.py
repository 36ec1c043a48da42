"""The basis that all fields of a run are written in."""

import numpy as np
import torch
from tqdm import tqdm

from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.fits import Batch, Space
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fields.stacked import loss_and_gradient, torch_on_one_thread
from nefgpt.fitting.kind import Shared
from nefgpt.fitting.optimise import cosine, draw_points, training_points
from nefgpt.fitting.settings import Template


@computing()
def learn_basis(
    spec: FieldSpec, points: np.ndarray, values: np.ndarray, settings: Template, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Learn a mean field and a basis of weight space from F shapes.

    Minimises the fitting loss of weights mean + C B over mean [W], B [k, W] and C [F, k]
    together, each step on `fields_per_step` shapes.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    values : float32 [F, N] or [F, N, out_dim].

    Returns
    -------
    mean [W], basis [k, W] and the final loss. The basis is turned so that the shapes'
    coefficients are uncorrelated, of unit variance, most variance of the weights first.

    Raises
    ------
    InputError
        when the loss turns non-finite, naming the step.
    """
    where = device()
    n_fields, n_points = values.shape[:2]
    k = min(settings.n_components, n_fields - 1)
    if k < 1:
        raise InputError("template.n_components: a basis needs at least two train shapes")
    draw = torch.Generator().manual_seed(seed)
    mean = torch.from_numpy(random_weights(spec, stable_seed(seed, "mean"))).to(where)
    basis = (torch.randn(k, spec.n_weights, generator=draw) * 0.02).to(where)
    codes = (torch.randn(n_fields, k, generator=draw) * 0.1).to(where)
    rates = [settings.learning_rate, settings.coefficient_learning_rate]
    optimisers = [Adam([(group, 0.0)], (0.9, 0.99)) for group in ([mean, basis], [codes])]
    points, target = (
        torch.from_numpy(array).to(where) for array in (points, spec.target_of(values))
    )
    rng = np.random.default_rng(stable_seed(seed, "points"))
    steps, per_step = settings.steps, min(settings.fields_per_step, n_fields)
    order, recent = torch.zeros(0, dtype=torch.long), []
    with torch_on_one_thread():
        for step in tqdm(range(steps), desc="basis", unit="step", mininterval=1):
            if len(order) < per_step:
                order = torch.cat([order, torch.randperm(n_fields, generator=draw)])
            rows, order = order[:per_step].to(where), order[per_step:]
            (chosen,) = draw_points(n_points, settings.points_per_step, 1, rng)
            some = codes[rows]
            batch = Batch(points, target, rows, torch.from_numpy(chosen).to(where))
            fields = mean + some @ basis, Space(mean), batch
            losses, gradient = loss_and_gradient(spec, *fields, settings.loss)
            gradient /= per_step
            mean.grad, basis.grad = gradient.sum(dim=0), some.T @ gradient
            codes.grad = torch.zeros_like(codes)
            # A shape can be twice among the rows, where one order of all ends and the next begins.
            own = gradient @ basis.T + 2 * settings.pull / per_step * some
            codes.grad.index_add_(0, rows, own)
            for optimiser, rate in zip(optimisers, rates, strict=True):
                optimiser.step(float(rate * cosine(step, steps)))
            recent.append(losses.mean())
            if step % 100 == 99 or step == steps - 1:
                final = float(torch.stack(recent).mean())
                if not np.isfinite(final):
                    raise InputError(
                        f"the basis turned non-finite by step {step}: lower template.learning_rate"
                    )
                recent.clear()
        differences = (codes @ basis).cpu().double()
        centre = differences.mean(dim=0)
        _, spread, rows = torch.linalg.svd(differences - centre, full_matrices=False)
        # The sign of a direction is arbitrary; fix it, so that equal inputs give equal bases.
        peak = rows.abs().argmax(dim=1, keepdim=True)
        rows = rows * rows.gather(1, peak).sign()
        turned = rows[:k] * spread[:k, None] / np.sqrt(n_fields - 1)
        return (mean.cpu() + centre).float().numpy(), turned.float().contiguous().numpy(), final


def prepare(spec: FieldSpec, signals: list[dict], settings: Template, seed: int) -> Shared:
    """See `nefgpt.fitting.kind.Fitter`."""
    mean, basis, loss = learn_basis(spec, *training_points(spec, signals), settings, seed)
    return Shared(mean, basis, {"loss": loss, "n_usable": len(signals)})
