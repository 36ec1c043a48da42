"""Diffusion as a generator: learns to take noise away from fields, and makes fields of noise.

On all weights it is HyperDiffusion's way (Erkoc et al. 2023), on coefficients mNIF's second stage
(You et al. 2023). Both predict the field itself, by mean squared error; a velocity (Salimans and Ho
2022), a mixture of field and noise that has one size at all times, keeps narrow distributions
better. Samples are drawn by DDIM (Song et al. 2021). Noise schedules and steps are those of the
diffusers package.
"""

import copy
import dataclasses
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from nefgpt.base.adam import Adam
from nefgpt.base.device import computing, device
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_json, sha256_of, write_json
from nefgpt.base.seeds import stable_seed
from nefgpt.base.training import (
    Plan,
    State,
    autocast,
    batch_rows,
    fit,
    learning_rate,
    write_losses,
)
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.generators.diffusion.network import Mlp, Transformer
from nefgpt.generators.kind import Given, Made, by_blocks, classes_of
from nefgpt.generators.settings import Diffusion as Settings
from nefgpt.generators.settings import DiffusionSetting as Sampling
from nefgpt.stages import VERSIONS

__all__ = ["Sampling", "Settings", "load", "sample", "train"]

COLUMNS = ["iteration", "train_loss", "val_loss", "learning_rate", "fields_per_second"]
SCHEDULES = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
PREDICTIONS = {"field": "sample", "velocity": "v_prediction"}
EVALUATIONS = 16  # times at which each field of the val split is asked for


def scheduler(settings: Settings):
    """The diffusers package's DDIM with a model's noise.

    Raises
    ------
    InputError
        when the package is missing.
    """
    try:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    except ImportError as error:
        raise InputError(
            f"the generator diffusion needs the package diffusers ({error}): "
            "pip install 'nefgpt[diffusion]'"
        ) from error
    return DDIMScheduler(
        num_train_timesteps=settings.noise_steps,
        beta_schedule=SCHEDULES[settings.schedule],
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type=PREDICTIONS[settings.predicts],
        clip_sample=False,
        timestep_spacing="trailing",
    )


class Data(NamedTuple):
    """Fields as a denoiser sees them: (numbers - mean) / scale.

    Attributes
    ----------
    numbers : float32 [n, D].
    labels : int64 [n]; `n_classes` stands for none.
    n_classes : 0 without classes.
    mean, scale : float32 [D].
    """

    numbers: Tensor
    labels: Tensor
    n_classes: int
    mean: np.ndarray
    scale: np.ndarray


def _numbers(fields: Fields, settings: Settings) -> np.ndarray:
    """What is learned of each field, float32 [n, D]."""
    if settings.learns == "weights":
        return fields.weights
    if fields.coefficients is None:
        raise InputError(
            "diffusion on coefficients needs fields that were fitted in a basis "
            "(template.kind: basis): set learns: weights"
        )
    return fields.coefficients


def _scales(train: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale [D] of the train fields: zero where a number never changes."""
    size = train.shape[1]
    if how == "none":
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    mean, scale = train.mean(axis=0, dtype=float), train.std(axis=0, dtype=float)
    if how == "all":
        scale = np.full(size, np.sqrt(np.mean(scale**2)))
    steady = scale <= 1e-6 * np.abs(train).max(axis=0)
    return mean.astype(np.float32), np.where(steady, 0, scale).astype(np.float32)


def read_data(path: Path, settings: Settings) -> tuple[Data, Data, FieldSpec]:
    """The train and the val fields of a table.

    Raises
    ------
    InputError
        when a split is empty or a number is not finite.
    """
    fields = read_fields(path)
    numbers = _numbers(fields, settings)
    labels = [-1 if label is None else label for label in fields.labels]
    rows = {name: fields.of_split(name) for name in ("train", "val")}
    for name, chosen in rows.items():
        if not len(chosen):
            raise InputError(f"{path}: the {name} split is empty, and diffusion needs it")
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: a field has numbers that are not finite: fit the fields anew")
    mean, scale = _scales(numbers[rows["train"]], settings.normalise)
    n_classes = max(labels) + 1 if -1 not in labels else 0
    divisor = np.where(scale > 0, scale, 1)
    known = np.array(labels) if n_classes else np.zeros(len(labels), int)
    parts = [
        Data(
            torch.from_numpy((numbers[chosen] - mean) / divisor),
            torch.from_numpy(known[chosen].astype(np.int64)),
            n_classes,
            mean,
            scale,
        )
        for chosen in rows.values()
    ]
    return parts[0], parts[1], fields.spec


def _network(settings: Settings, spec: FieldSpec, size: int, n_classes: int) -> nn.Module:
    more = {"n_classes": n_classes, "n_times": settings.noise_steps, "dropout": settings.dropout}
    if settings.network == "mlp":
        return Mlp(size, settings.width, settings.layers, **more)
    # Coefficients have no layers; the transformer takes them one by one.
    whole = settings.learns == "weights"
    parts = tuple(stop - start for _, start, stop in spec.slices) if whole else (1,) * size
    return Transformer(parts, settings.width, settings.layers, settings.heads, **more)


class Averaged(nn.Module):
    """A network, and the running mean of its weights that samples are made by."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self.mean = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self) -> None:
        """Move the mean towards the weights; early ones are forgotten sooner."""
        self.updates += 1
        n = int(self.updates)
        decay = min(self.decay, n / (n + 9))
        means, weights = list(self.mean.parameters()), list(self.network.parameters())
        torch._foreach_lerp_(means, weights, 1 - decay)


def _state(folder: Path | None, table: Path, settings: Settings, seed: int) -> State | None:
    if folder is None:
        return None
    text = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    return State(folder, text, str(seed), sha256_of(table), str(VERSIONS["diffusion"]))


@computing()
def train(
    table: Path, out_dir: Path, settings: Settings, seed: int, resume_dir: Path | None = None
) -> None:
    """Write model.safetensors, config.json and losses.csv of one denoiser to `out_dir`.

    Parameters
    ----------
    table : weights.parquet; its train split is learned, its val split chooses the weights kept.
    settings : one entry of the configuration's `diffusion` block.
    resume_dir : where the state of an unfinished run lies; removed at the end.

    Raises
    ------
    InputError
        when the loss turns non-finite, or the table cannot be used.
    """
    noise, where = scheduler(settings), device()
    learned, held, spec = read_data(table, settings)
    context = autocast(settings.precision, where)
    torch.manual_seed(stable_seed(seed, "diffusion"))
    network = _network(settings, spec, learned.numbers.shape[1], learned.n_classes)
    model = Averaged(network, settings.averaging).to(where)

    def loss(network: nn.Module, x: Tensor, label: Tensor, time: Tensor, eps: Tensor) -> Tensor:
        x, label, time, eps = (t.to(where) for t in (x, label, time, eps))
        wanted = x if settings.predicts == "field" else noise.get_velocity(x, eps, time)
        with context():
            found = network(noise.add_noise(x, eps, time), time, label)
        return F.mse_loss(found.float(), wanted, reduction="none").mean(dim=1)

    def losses_of(iteration: int) -> Iterator[Tensor]:
        if iteration:
            model.update()
        rng = np.random.default_rng(stable_seed(seed, "batch", iteration))
        rows = batch_rows(len(learned.numbers), settings.batch_size, iteration, seed)
        x, label = learned.numbers[rows], learned.labels[rows]
        if settings.class_dropout and learned.n_classes:
            without = torch.from_numpy(rng.random(len(rows)) < settings.class_dropout)
            label = label.masked_fill(without, learned.n_classes)
        time = torch.from_numpy(rng.integers(settings.noise_steps, size=len(rows)))
        eps = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        yield loss(model.network, x, label, time, eps).mean()

    @torch.no_grad()
    def evaluate() -> tuple[np.ndarray, dict]:
        model.eval()
        rng, found = np.random.default_rng(stable_seed(seed, "val")), []
        for time in np.linspace(0, settings.noise_steps - 1, EVALUATIONS).astype(int):
            eps = torch.from_numpy(rng.standard_normal(held.numbers.shape, dtype=np.float32))
            times = torch.full((len(eps),), int(time))
            found.append(loss(model.mean, held.numbers, held.labels, times, eps).cpu().numpy())
        return np.mean(found, axis=0), {}

    plan = Plan(
        title="diffusion",
        key="diffusion.<model>.learning_rate",
        iterations=settings.iterations,
        rate_of=functools.partial(learning_rate, settings),
        eval_every=settings.eval_every,
        seed=seed,
    )
    parameters = list(model.network.parameters())
    optimiser = Adam([(parameters, settings.weight_decay)])
    state = _state(resume_dir, table, settings, seed)
    course = fit(model, optimiser, plan, losses_of, evaluate, state)
    _write(out_dir, course, settings, learned, spec, seed)
    if state:
        state.clear()


def _write(folder: Path, course, settings: Settings, data: Data, spec: FieldSpec, seed: int):
    """Write model.safetensors (the mean weights, with the fields' mean and scale) and the rest."""
    prefix = "mean."
    tensors = {
        f"network.{name.removeprefix(prefix)}": weight
        for name, weight in course.weights.items()
        if name.startswith(prefix)
    }
    tensors |= {"mean": torch.from_numpy(data.mean), "scale": torch.from_numpy(data.scale)}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    about = {
        "settings": dataclasses.asdict(settings),
        "field": json.loads(spec.to_json()),
        "n_classes": data.n_classes,
        "seed": seed,
        "iteration": course.kept["iteration"],
        "val_loss": course.kept["val_loss"],
        "n_parameters": sum(t.numel() for n, t in tensors.items() if n.startswith("network.")),
    }
    write_json(folder / "config.json", about)
    rows = [
        row | {"fields_per_second": round(row["iterations_per_second"] * settings.batch_size, 1)}
        for row in course.rows
    ]
    write_losses(folder / "losses.csv", [{name: row[name] for name in COLUMNS} for row in rows])


class Loaded(NamedTuple):
    """A trained denoiser.

    Attributes
    ----------
    mean, scale : float32 [D], of the train fields.
    """

    network: nn.Module
    settings: Settings
    n_classes: int
    mean: np.ndarray
    scale: np.ndarray


def load(given: Given) -> Loaded:
    """Read a denoiser; raise InputError when it is broken or of other fields."""
    about, path = read_json(given.model / "config.json"), given.model / "model.safetensors"
    try:
        settings, tensors = Settings(**about["settings"]), load_file(path)
        mean, scale = (tensors.pop(name).numpy() for name in ("mean", "scale"))
        spec, n_classes = FieldSpec.from_json(json.dumps(about["field"])), int(about["n_classes"])
        network = _network(settings, spec, len(mean), n_classes)
        prefix = "network."
        network.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise InputError(
            f"cannot load the denoiser in {given.model}: {error}; delete the folder and train again"
        ) from error
    if spec != given.fields.spec or len(mean) != _numbers(given.fields, settings).shape[1]:
        raise InputError(f"{given.model} was trained on other fields: delete it and train again")
    return Loaded(network.to(device()).eval(), settings, n_classes, mean, scale)


@computing()
@torch.inference_mode()
def denoise(loaded: Loaded, noise: np.ndarray, labels: np.ndarray, setting: Sampling, seed: int):
    """Fields' numbers float32 [n, D] from noise [n, D] by DDIM.

    Parameters
    ----------
    labels : int64 [n]; the number of classes stands for none.
    seed : of the noise that is added where `setting.eta` is above 0.
    """
    steps, where = scheduler(loaded.settings), device()
    steps.set_timesteps(setting.steps)
    x, label = torch.from_numpy(noise).to(where), torch.from_numpy(labels).to(where)
    guided = setting.guidance is not None and loaded.n_classes
    for number, time in enumerate(steps.timesteps):
        times = torch.full((len(x),), int(time), device=where)
        found = loaded.network(x, times, label)
        if guided:
            free = loaded.network(x, times, torch.full_like(label, loaded.n_classes))
            found = free + setting.guidance * (found - free)
        more = None
        if setting.eta:
            rng = np.random.default_rng(stable_seed(seed, "step", number))
            more = torch.from_numpy(rng.standard_normal(noise.shape, dtype=np.float32)).to(where)
        x = steps.step(found, time, x, eta=setting.eta, variance_noise=more).prev_sample
    return x.cpu().numpy()


def sample(loaded: Loaded, given: Given, setting: Sampling, n: int, seed: int) -> Made:
    """Make `n` fields, of all classes in turn where there are any."""
    size, step = len(loaded.mean), given.batch_size
    # Whole batches: a sample is the same whatever number is asked for.
    filled = -(-n // step) * step
    labels = classes_of(filled, loaded.n_classes, given.label)
    known = np.array([loaded.n_classes if label is None else label for label in labels], np.int64)
    parts = [np.empty((0, size), np.float32)]
    for begin in tqdm(range(0, filled, step), desc="denoise", unit="batch", mininterval=1):
        own = stable_seed(seed, "diffusion", begin)
        noise = np.random.default_rng(own).standard_normal((step, size), dtype=np.float32)
        parts.append(denoise(loaded, noise, known[begin : begin + step], setting, own))
    numbers = np.concatenate(parts)[:n] * loaded.scale + loaded.mean
    if loaded.settings.learns == "weights":
        return Made(numbers, labels[:n])
    space = given.fields.space
    weights = by_blocks(lambda rows: space.anchor + rows @ space.basis, numbers, given.block)
    return Made(weights.astype(np.float32), labels[:n], coefficients=numbers)
