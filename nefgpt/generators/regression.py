"""The regression transformer: fields as sequences of continuous weights, without codes.

The papers' first approach: each weight is predicted from those before it, and a field is written
from its first weight on. `experiment` measures how well a few fields are memorised when all of
them were fitted from one template (conditioned) and when each began at its own random weights
(unconditioned).
"""

import argparse
import functools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nefgpt.base import cli
from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, write_text
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import Plan, batch_rows, fit, learning_rate
from nefgpt.fields.spec import FieldSpec
from nefgpt.fields.stacked import evaluate
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.generators.settings import Regressor
from nefgpt.generators.transformer import BETAS, Decoder, DecoderConfig, KeyValueCache

STARTS = ("conditioned", "unconditioned")
SIZES = ("embedding", "heads", "layers")
_LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}
# Images span [-1, 1], shapes [-0.5, 0.5].
_HALF_SIDE = {2: 1.0, 3: 0.5}
_SMALLEST_SCALE = 1e-4
_EXACT = 1e-10  # mean square error at which a field counts as met: 100 dB, not infinitely many

Rollouts = dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]


class RegressionTransformer(Decoder):
    """Decoder that reads one number per position and predicts the next.

    Inside, every position is standardised by its own mean and deviation over a table's train
    fields, so that fields from one template and from random starts look alike: zero mean, unit
    variance, and no position's scale to learn. In plain weights (one mean and one deviation for
    all positions) the same budget left three times the teacher-forced error.

    Parameters
    ----------
    mean, scale : float32 [W].
    """

    def __init__(self, config: DecoderConfig, mean: Tensor, scale: Tensor) -> None:
        width = config.embedding
        super().__init__(config, number=nn.Linear(1, width), head=nn.Linear(width, 1))
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, weights: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Prediction of the weight that follows each position.

        Parameters
        ----------
        weights : Tensor
            float [B, T]; with a cache, the T weights after those the cache already holds.
        cache : KeyValueCache, optional
            Extended in place by T positions.

        Returns
        -------
        Tensor
            float [B, T], in units of weights.
        """
        start = cache.length if cache is not None else 0
        stop = start + weights.shape[1]
        standard = (weights - self.mean[start:stop]) / self.scale[start:stop]
        hidden = self.decode(self.number(standard.unsqueeze(-1)), cache)  # [B, T, E]
        predicted = self.head(hidden).squeeze(-1)
        return self.mean[start + 1 : stop + 1] + self.scale[start + 1 : stop + 1] * predicted


@computing()
def train(
    weights: np.ndarray, population: np.ndarray, settings: Regressor, seed: int
) -> RegressionTransformer:
    """Train on whole fields by teacher forcing.

    Parameters
    ----------
    weights : float32 [n, W], the fields to memorise.
    population : float32 [m, W], the fields whose mean and deviation standardise each position.
    seed : fixes the start, the order of the fields and the noise.

    Raises
    ------
    InputError
        when the loss turns non-finite (naming the iteration).
    """
    where = device()
    torch.manual_seed(stable_seed(seed, "regression"))
    sizes = {name: getattr(settings, name) for name in SIZES}
    mean, scale = (
        torch.from_numpy(population.mean(axis=0)),
        torch.from_numpy(population.std(axis=0)),
    )
    # Weights of a unit that is dead in the template are the same in all fields.
    scale = scale.clamp_min(_SMALLEST_SCALE)
    config = DecoderConfig(context=weights.shape[1] - 1, **sizes)
    model = RegressionTransformer(config, mean, scale).to(where)
    rows = torch.from_numpy(weights).to(where)
    loss_of, batch = _LOSSES[settings.loss], min(settings.batch_size, len(rows))

    def losses_of(iteration: int) -> Iterator[Tensor]:
        fields = rows[batch_rows(len(rows), batch, iteration, seed)]
        inputs = fields[:, :-1].clone()
        # The first weight is given at test time too; those after it are predictions.
        inputs[:, 1:] += settings.noise * model.scale[1:-1] * torch.randn_like(inputs[:, 1:])
        scale = model.scale[1:]
        yield loss_of(model(inputs) / scale, fields[:, 1:] / scale)

    plan = Plan(
        title=f"regression, {len(rows)} fields",
        key="regression.learning_rate",
        iterations=settings.iterations,
        rate_of=functools.partial(learning_rate, settings),
    )
    fit(model, Adam([(model.parameters(), 0.0)], BETAS), plan, losses_of)
    return model.eval()


@computing()
@torch.inference_mode()
def roll_out(model: RegressionTransformer, first_weights: Tensor, length: int) -> Tensor:
    """Write fields from their first weights on, each prediction being the next input.

    Parameters
    ----------
    first_weights : float32 [n].
    length : weights of a field; at most the model's context + 1.

    Returns
    -------
    Tensor
        float32 [n, length]; column 0 is `first_weights`.
    """
    cache = KeyValueCache(
        model.config, len(first_weights), first_weights.device, first_weights.dtype
    )
    fields = first_weights.new_empty(len(first_weights), length)
    fields[:, 0] = first_weights
    for position in range(1, length):
        fields[:, position] = model(fields[:, position - 1 : position], cache)[:, 0]
    return fields


def frame_points(in_dim: int, resolution: int = 28) -> Tensor:
    """Centres of the cells of a grid over the field's frame, float32 [resolution**in_dim, in_dim].

    The first coordinate varies slowest.
    """
    axis = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    grid = torch.meshgrid(*[axis * _HALF_SIDE[in_dim]] * in_dim, indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, in_dim)


@torch.inference_mode()
def signal_psnr(
    spec: FieldSpec, original: np.ndarray, written: np.ndarray, points: Tensor
) -> np.ndarray:
    """Peak signal-to-noise ratio of every written field against every original, in dB.

    The peak is the span of the originals' values; a field that is met exactly has 100 dB.

    Parameters
    ----------
    original, written : float32 [n, W].
    points : float32 [P, in_dim].

    Returns
    -------
    float32 [n, n]; row i is written field i, column j original j.
    """
    expected, found = (evaluate(spec, torch.from_numpy(w), points) for w in (original, written))
    span = (expected.max() - expected.min()).clamp_min(1e-6)
    apart = (((row - expected) / span).square().flatten(1) for row in found)
    error = torch.stack([part.mean(dim=1) for part in apart])
    return (-10 * error.clamp_min(_EXACT).log10()).numpy()


def _train_rows(fields: Fields, start: str, n: int) -> np.ndarray:
    rows = fields.of_split("train")
    if len(rows) < n:
        raise InputError(
            f"the {start} table has {len(rows)} train fields, and {n} are needed: lower "
            "regression.n_fields or add shapes"
        )
    return rows


@computing()
def experiment(
    conditioned: Fields, unconditioned: Fields, settings: Regressor, seed: int, points: Tensor
) -> tuple[pd.DataFrame, Rollouts]:
    """Train on the first N train fields of each table, write them again, compare.

    Parameters
    ----------
    conditioned, unconditioned : fields of the same shapes and specification; the first fitted
        from one template, the others each from its own random weights.
    settings : its `n_fields` lists the N.
    points : float32 [P, in_dim], where a field's signal is compared; see `frame_points`.

    Returns
    -------
    DataFrame
        One row per N and start. Errors are mean absolute differences of weights after the first:
        `teacher_forced_error` with the true weights as inputs, `roll_out_error` with the model's
        own, `relative_error` the latter over that of the mean of the table's train fields.
        `psnr` is the mean over the fields, in dB, `nearest_psnr` that to whichever original is
        nearest: high where the model writes a field that it knows, though not the one begun.
    dict
        (start, N) to original and written fields, float32 [N, W] each.

    Raises
    ------
    InputError
        when the tables do not fit.
    """
    if conditioned.spec != unconditioned.spec:
        raise InputError("the two tables of fields have different specifications")
    spec, most = conditioned.spec, max(settings.n_fields)
    tables = dict(zip(STARTS, (conditioned, unconditioned), strict=True))
    # The mean of a single field is no guess but the field itself.
    rows = {start: _train_rows(table, start, max(2, most)) for start, table in tables.items()}
    shapes = [[tables[start].shape_ids[i] for i in rows[start][:most]] for start in STARTS]
    if shapes[0] != shapes[1]:
        raise InputError("the two tables do not begin with the same train shapes")
    results, rollouts = [], {}
    for n in settings.n_fields:
        for start, table in tables.items():
            population = table.weights[rows[start]]
            original = population[:n]
            model = train(original, population, settings, seed)
            given = torch.from_numpy(original).to(model.mean.device)
            written = roll_out(model, given[:, 0], spec.n_weights).cpu().numpy()
            with torch.inference_mode():
                forced = model(given[:, :-1]).cpu().numpy()
            error = np.abs(written - original)[:, 1:].mean()
            psnr = signal_psnr(spec, original, written, points)
            results.append(
                {
                    "n_fields": n,
                    "start": start,
                    "loss": settings.loss,
                    "iterations": settings.iterations,
                    "teacher_forced_error": np.abs(forced - original[:, 1:]).mean(),
                    "roll_out_error": error,
                    "relative_error": error
                    / np.abs(population.mean(axis=0) - original)[:, 1:].mean(),
                    "psnr": psnr.diagonal().mean(),
                    "nearest_psnr": psnr.max(axis=1).mean(),
                }
            )
            rollouts[start, n] = (original, written)
    return pd.DataFrame(results), rollouts


def write_rollouts(path: Path, spec: FieldSpec, rollouts: Rollouts) -> None:
    """Write `<start>_<N>_original` and `<start>_<N>_written` and the specification as npz."""
    arrays = {"spec": np.array(spec.to_json())}
    for (start, n), pair in rollouts.items():
        for name, fields in zip(("original", "written"), pair, strict=True):
            arrays[f"{start}_{n}_{name}"] = fields.astype(np.float32)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def read_rollouts(path: Path) -> tuple[FieldSpec, Rollouts]:
    """Read what `write_rollouts` wrote; raise InputError when it is missing or broken."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            spec = FieldSpec.from_json(str(stored["spec"]))
            cases = [name.split("_")[:2] for name in stored.files if name.endswith("_original")]
            return spec, {
                (start, int(n)): (stored[f"{start}_{n}_original"], stored[f"{start}_{n}_written"])
                for start, n in cases
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def main() -> None:
    """Command line of the experiment: writes regression.csv and rollouts.npz."""
    parser = argparse.ArgumentParser(
        description="How well a regression transformer memorises fields, by their starts.",
    )
    parser.add_argument("--conditioned", type=Path, required=True, help="weights.parquet")
    parser.add_argument("--unconditioned", type=Path, required=True, help="weights.parquet")
    parser.add_argument("--settings", required=True, help="the regression block, JSON or @file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out-dir", type=Path, required=True)
    args = parser.parse_args()
    conditioned, unconditioned = read_fields(args.conditioned), read_fields(args.unconditioned)
    table, rollouts = experiment(
        conditioned,
        unconditioned,
        cli.settings_argument(Regressor, args.settings),
        args.seed,
        frame_points(conditioned.spec.in_dim),
    )
    write_rollouts(args.out_dir / "rollouts.npz", conditioned.spec, rollouts)
    write_text(args.out_dir / "regression.csv", table.to_csv(index=False))
