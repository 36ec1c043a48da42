"""The template: what all other fields start from, and the basis they are written in.

Two kinds, by the configuration's `template` block:

- one shape, no basis (`n_components: 0`, the paper): a field fitted from a random start, whose
  weights initialise all others, so that hidden units keep their meaning;
- a basis (`n_components: k`): the mean field and k directions in weight space, learned jointly
  with the coefficients of many train shapes. Every other field is then mean + coefficients x
  basis, a smooth function of few numbers (as in mixtures of neural implicit functions, You et
  al. 2023, with the mixture taken over whole weight vectors).
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nefgpt import cli
from nefgpt.adam import Adam
from nefgpt.errors import InputError
from nefgpt.field import FieldSpec, random_weights
from nefgpt.fit import cosine, draw_points, fit_fields, save_field, training_points
from nefgpt.gpu import computing, device
from nefgpt.io import load_signal, stable_seed
from nefgpt.signals import kind_of
from nefgpt.stacked import loss_and_gradient, torch_on_one_thread

log = logging.getLogger(__name__)


@computing()
def learn_basis(
    spec: FieldSpec, points: np.ndarray, values: np.ndarray, settings: dict, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Learn a mean field and a basis of weight space from F shapes.

    Minimises the fitting loss of weights mean + C B over mean [W], B [k, W] and C [F, k]
    together, each step on `fields_per_step` shapes.

    Parameters
    ----------
    points : float32 [F, N, in_dim] in field coordinates.
    values : float32 [F, N].
    settings : steps, points_per_step, fields_per_step, learning_rate, coefficient_learning_rate,
        loss, pull (L2 penalty on the coefficients), n_components.

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
    n_fields, n_points = values.shape
    k = min(settings["n_components"], n_fields - 1)
    if k < 1:
        raise InputError("template.n_components: a basis needs at least two train shapes")
    draw = torch.Generator().manual_seed(seed)
    mean = torch.from_numpy(random_weights(spec, stable_seed(seed, "mean"))).to(where)
    basis = (torch.randn(k, spec.n_weights, generator=draw) * 0.02).to(where)
    codes = (torch.randn(n_fields, k, generator=draw) * 0.1).to(where)
    rates = [settings["learning_rate"], settings["coefficient_learning_rate"]]
    optimisers = [Adam([(group, 0.0)], (0.9, 0.99)) for group in ([mean, basis], [codes])]
    points, target = (
        torch.from_numpy(array).to(where) for array in (points, spec.target_of(values))
    )
    rng = np.random.default_rng(stable_seed(seed, "points"))
    steps, per_step = settings["steps"], min(settings["fields_per_step"], n_fields)
    order, recent = torch.zeros(0, dtype=torch.long), []
    with torch_on_one_thread():
        for step in tqdm(range(steps), desc="basis", unit="step", mininterval=1):
            if len(order) < per_step:
                order = torch.cat([order, torch.randperm(n_fields, generator=draw)])
            rows, order = order[:per_step].to(where), order[per_step:]
            (chosen,) = draw_points(n_points, settings["points_per_step"], 1, rng)
            chosen = torch.from_numpy(chosen).to(where)
            some = codes[rows]
            fields = mean + some @ basis, mean, None, points, target, rows, chosen
            losses, gradient = loss_and_gradient(spec, *fields, loss=settings["loss"])
            gradient /= per_step
            mean.grad, basis.grad = gradient.sum(dim=0), some.T @ gradient
            codes.grad = torch.zeros_like(codes)
            # A shape can be twice among the rows, where one order of all ends and the next begins.
            own = gradient @ basis.T + 2 * settings["pull"] / per_step * some
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
        return (mean.cpu() + centre).float().numpy(), turned.float().numpy(), final


def make(spec: FieldSpec, shapes: dict[str, Path], out: Path, settings: dict, seed: int) -> None:
    """Write `template.safetensors` from one shape, or with a basis from many.

    Raises
    ------
    InputError
        when a shape that is needed was rejected, or the fit turned non-finite.
    """
    record = {"shape_ids": sorted(shapes), "seed": seed, "n_shapes": settings["n_shapes"]}
    record |= {"shape_id": min(shapes), "steps": settings["steps"]}
    clouds = {shape_id: load_signal(path) for shape_id, path in sorted(shapes.items())}
    usable = [cloud for cloud in clouds.values() if not cloud["rejected"]]
    if settings["n_components"]:
        if len(usable) < 2:
            raise InputError("fewer than two of the template's shapes are usable; see rejected.tsv")
        mean, basis, loss = learn_basis(spec, *training_points(spec, usable), settings, seed)
        record |= {"loss": loss, "n_usable": len(usable)}
        save_field(out, spec, mean, record, basis)
        return
    for shape_id, cloud in clouds.items():
        if cloud["rejected"]:
            raise InputError(
                f"the template shape {shape_id} was rejected ({cloud['rejected']}): name another "
                "one as template.shape_id"
            )
    zero = np.zeros(spec.n_weights, np.float32)
    start = random_weights(spec, stable_seed(seed, "template"))[None]
    fitted = fit_fields(
        spec, *training_points(spec, usable), start, zero, settings, stable_seed(seed, "fit")
    )
    if fitted.failed[0] >= 0:
        raise InputError(
            f"the template's fit ({record['shape_id']}) turned non-finite at step "
            f"{int(fitted.failed[0])}: lower template.learning_rate"
        )
    record |= {"loss": float(fitted.losses[0]), "steps": int(fitted.steps[0])}
    kind = kind_of(spec)
    record |= kind.quality(spec, fitted.weights[0], usable[0], settings["quality_resolution"])
    save_field(out, spec, fitted.weights[0], record)
    log.info("template: %s", ", ".join(f"{name} {record[name]:.3f}" for name in kind.QUALITY))


def main() -> None:
    """Command line of the template."""
    parser = argparse.ArgumentParser(description="Fit the template, or learn a basis.")
    parser.add_argument("--shapes", required=True, help="JSON object: shape id -> .npz, or @file")
    parser.add_argument("--field", required=True, help="field specification, JSON or @file")
    parser.add_argument("--settings", required=True, help="template settings, JSON or @file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shapes = {key: Path(path) for key, path in cli.json_argument(args.shapes).items()}
    spec = FieldSpec.from_dict(cli.json_argument(args.field))
    make(spec, shapes, args.out, cli.json_argument(args.settings), args.seed)
