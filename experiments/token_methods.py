"""The ways of fitting and coding fields that tokenise.py compares.

A method is a fit (all shapes of `Data` to flat weights) and a coding (fields to tokens and
back). Fits are kept in a folder, so that methods which code the same fields share them.
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.base.seeds import stable_seed
from nefgpt.fields.align import align
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fields.stacked import evaluate
from nefgpt.fitting import mean, reptile
from nefgpt.fitting.basis import learn_basis
from nefgpt.fitting.kind import Fitter
from nefgpt.fitting.optimise import cosine, draw_points, fit_fields, training_points
from nefgpt.fitting.settings import Template
from nefgpt.generators.components import Differences
from nefgpt.generators.gpt.codebook import fit_codes
from nefgpt.generators.gpt.tokenizer import Tokenizer, fit_tokenizer
from nefgpt.generators.settings import Tokens
from nefgpt.inputs.airplanes import write
from nefgpt.signals.chamfer import chamfer_matrix
from nefgpt.signals.file import load_signal
from nefgpt.signals.sdf import prepare
from nefgpt.signals.settings import Sampling
from nefgpt.signals.shapes import real

PACK = 4  # fields fitted together; on one CPU core faster than one, and than many


@dataclasses.dataclass
class Fitted:
    """Fields float32 [n, W] (train ones first) and what they are written relative to.

    Attributes
    ----------
    origin : float32 [W], the template that tokens are differences to.
    seconds : per field.
    setup : seconds spent once, on template or basis.
    """

    weights: np.ndarray
    origin: np.ndarray
    seconds: float
    setup: float


@dataclasses.dataclass
class Data:
    """Procedural airplanes: signals, their training points [n, N, 3] and values [n, N]."""

    signals: list[dict]
    points: np.ndarray
    values: np.ndarray
    n_train: int


def load_data(folder: Path, n_train: int, n_held: int, sdf: Sampling, seed: int) -> Data:
    """Sample what the folder lacks, read the rest; train shapes first."""
    signals = []
    for index in range(n_train + n_held):
        name = write.shape_id(seed, index)
        out = folder / f"sdf-{seed}-{sdf.n_uniform}-{sdf.n_near}" / f"{name}.npz"
        if not out.exists():
            mesh = write.write_mesh(folder / "meshes", seed, index)
            prepare(mesh, name, out, sdf, seed)
        signals.append(load_signal(out))
    if any(signal["rejected"] for signal in signals):
        raise InputError(f"{folder} holds shapes without a signed distance; delete it")
    # Every method's specification trains on the same rows.
    points, values = training_points(FieldSpec(), signals)
    return Data(signals, points, values, n_train)


class Lab:
    """Fits by name, each made once and kept in `folder`/fits.

    Parameters
    ----------
    options : spec (FieldSpec), steps, basis_steps, codes, seed,
        template, fit (blocks of the default configuration) and gpt (one model's settings).
    """

    def __init__(self, data: Data, folder: Path, **options) -> None:
        self.data, self.folder, self.options = data, folder, options
        self.spec: FieldSpec = options["spec"]
        self.steps, self.seed = options["steps"], options["seed"]
        # What fits depend on: the codes only matter to `rounded`, whose name holds them.
        plain = {key: str(value) for key, value in options.items() if key not in ("codes", "gpt")}
        # As dicts: the published table names fits by that text.
        plain |= {key: str(dataclasses.asdict(options[key])) for key in ("template", "fit")}
        sizes = [data.n_train, list(data.values.shape)]
        text = json.dumps([plain, sizes], sort_keys=True)
        self.identity = hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def n(self) -> int:
        """Number of shapes."""
        return len(self.data.signals)

    def fitted(self, name: str) -> Fitted:
        """The fit of that name, from the folder or made now."""
        suffix = f"-{self.options['codes']}" if name == "rounded" else ""
        path = self.folder / "fits" / f"{name}{suffix}-{self.identity}.npz"
        if not path.exists():
            found = FITS[name](self)
            with atomic_path(path) as temporary:
                np.savez(temporary, **vars(found))
        with np.load(path, allow_pickle=False) as stored:
            kept = {key: stored[key] for key in stored.files}
        return Fitted(kept["weights"], kept["origin"], float(kept["seconds"]), float(kept["setup"]))

    def settings(self, **changed) -> Optimiser:
        """Settings of `fit_fields` with all weights free."""
        plain = {"steps": self.steps, "points_per_step": 2048, "learning_rate": 0.01}
        plain |= {"loss": "l1", "pull": 0.0, "schedule": "cosine", "averaging": 0.0}
        return Optimiser(**plain | changed)

    def fit(
        self,
        start: np.ndarray,
        anchor: np.ndarray,
        settings: Optimiser,
        spec: FieldSpec | None = None,
        rows: list[int] | None = None,
        basis: np.ndarray | None = None,
        pack: int = PACK,
        order: int = 0,
    ) -> np.ndarray:
        """Fields [n, W] of all shapes, or of `rows`; a non-finite one raises InputError.

        `start` and `anchor` may have a row for each field; then packs are of one field.
        """
        rows, spec = list(range(self.n)) if rows is None else rows, spec or self.spec
        start, parts = np.broadcast_to(start, (len(rows), start.shape[-1])), []
        for i in range(0, len(rows), pack):
            these = rows[i : i + pack]
            own = anchor[i] if anchor.ndim == 2 else anchor
            found = fit_fields(
                spec,
                self.data.points[these],
                self.data.values[these],
                start[i : i + pack],
                Space(own, basis),
                settings,
                stable_seed(self.seed, "fit", order),
                progress=False,
            )
            if (found.failed >= 0).any():
                raise InputError(f"a fit turned non-finite (shapes {these}): lower its rate")
            parts.append(found.weights)
        return np.concatenate(parts)

    def random_start(self, name: object, spec: FieldSpec | None = None) -> np.ndarray:
        """Random weights [W] of that name."""
        return random_weights(spec or self.spec, stable_seed(self.seed, "start", name))

    @functools.cached_property
    def centrality(self) -> np.ndarray:
        """Mean Chamfer distance [n_train] of every train shape to the others."""
        train = self.data.signals[: self.data.n_train]
        return chamfer_matrix(np.stack([real(s)[::4] for s in train])).mean(axis=1)

    def template(self, which: str, spec: FieldSpec | None = None, **changed) -> np.ndarray:
        """Weights [W] of a template: one shape's field, or one field of all train shapes."""
        settings = self.settings(**{"steps": 3 * self.steps, "pull": 1e-6} | changed)
        if which == "mean":
            return self.learned(mean, {"kind": "mean", **vars(settings)}, spec)
        start = self.random_start("template", spec)[None]
        distance = self.centrality
        row = int(distance.argmin() if which == "typical" else distance.argmax())
        return self.fit(start, np.zeros_like(start[0]), settings, spec, [row])[0]

    def learned(self, how: Fitter, settings: dict, spec: FieldSpec | None = None) -> np.ndarray:
        """What a fitter of the package finds from all train shapes to start from [W]."""
        settings = Template(n_shapes=self.data.n_train, **settings)
        train = self.data.signals[: self.data.n_train]
        return how.prepare(spec or self.spec, train, settings, self.seed).anchor


def timed(
    lab: Lab, setup: Callable[[], np.ndarray], fit: Callable[[np.ndarray], np.ndarray]
) -> Fitted:
    """Fit all shapes from what `setup` made, and time both."""
    began = time.perf_counter()
    origin = setup()
    middle = time.perf_counter()
    weights = fit(origin)
    spent = time.perf_counter() - middle
    return Fitted(weights, origin, spent / lab.n, middle - began)


def from_template(which: str, **changed) -> Callable[[Lab], Fitted]:
    """All weights free, from a template; `short` divides the steps."""
    short = changed.pop("short", 1)

    def run(lab: Lab) -> Fitted:
        settings = lab.settings(steps=max(1, lab.steps // short), **changed)
        return timed(lab, lambda: lab.template(which), lambda t: lab.fit(t, t, settings))

    return run


def from_random(lab: Lab) -> Fitted:
    """Every field from its own random weights; the origin is the train fields' mean."""
    starts = np.stack([lab.random_start(i) for i in range(lab.n)])
    zero = np.zeros(lab.spec.n_weights, np.float32)
    found = timed(lab, lambda: zero, lambda t: lab.fit(starts, t, lab.settings()))
    return dataclasses.replace(found, origin=found.weights[: lab.data.n_train].mean(axis=0))


def aligned(lab: Lab) -> Fitted:
    """`random`, aligned to the field of the most typical train shape."""
    found = lab.fitted("random")
    began = time.perf_counter()
    result = align(lab.spec, found.weights, found.weights[int(lab.centrality.argmin())])
    seconds = found.seconds + (time.perf_counter() - began) / lab.n
    return Fitted(result, result[: lab.data.n_train].mean(axis=0), seconds, found.setup)


def reptile_start(lab: Lab) -> np.ndarray:
    """A start that few steps lead far from."""
    settings = vars(lab.settings(steps=min(300, lab.steps), points_per_step=1024))
    return lab.learned(reptile, {"kind": "reptile", "fields_per_step": 8, **settings})


def from_reptile(lab: Lab) -> Fitted:
    """From the meta-learned start."""
    return timed(lab, lambda: reptile_start(lab), lambda t: lab.fit(t, t, lab.settings()))


def from_reptile_short(lab: Lab) -> Fitted:
    """From the same start, a fifth of the steps."""
    first = lab.fitted("reptile")
    settings = lab.settings(steps=max(1, lab.steps // 5))
    found = timed(lab, lambda: first.origin, lambda t: lab.fit(t, t, settings))
    return dataclasses.replace(found, setup=first.setup)


def rounded_fit(lab: Lab) -> Fitted:
    """`mean`, then a quarter of its steps on through rounding to its own codebook.

    The loss is that of the rounded weights; gradients pass the rounding unchanged
    (straight-through).
    """
    first = lab.fitted("mean")
    tokenizer = scalar(lab, first)
    codes, origin = torch.from_numpy(tokenizer.codes), torch.from_numpy(tokenizer.template)
    borders = (codes[1:] + codes[:-1]) / 2
    data = lab.data.points, lab.spec.target_of(lab.data.values)
    points, target = map(torch.from_numpy, data)
    steps, parts = max(1, lab.steps // 4), []
    began = time.perf_counter()
    for i in range(0, lab.n, PACK):
        rng = np.random.default_rng(stable_seed(lab.seed, "rounded"))
        free = torch.from_numpy(first.weights[i : i + PACK]).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([free])
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 2e-3 * cosine(step, steps)
            chosen = torch.from_numpy(draw_points(target.shape[1], 2048, 1, rng)[0])
            nearest = codes[torch.bucketize((free - origin).detach(), borders)] + origin
            weights = free + (nearest - free).detach()
            found = evaluate(lab.spec, weights, points[i : i + PACK, chosen])
            error = found - target[i : i + PACK, chosen]
            optimiser.zero_grad()
            error.abs().mean(dim=1).sum().backward()
            optimiser.step()
        parts.append(free.detach())
    spent = (time.perf_counter() - began) / lab.n
    return Fitted(torch.cat(parts).numpy(), first.origin, first.seconds + spent, first.setup)


def in_basis(k: int) -> Callable[[Lab], Fitted]:
    """Coefficients in a basis of k directions, learned and fitted as the default run does."""

    def run(lab: Lab) -> Fitted:
        train = slice(lab.data.n_train)
        changed = {"n_components": k, "steps": lab.options["basis_steps"]}
        settings = dataclasses.replace(lab.options["template"], **changed)
        began = time.perf_counter()
        origin, basis, _ = learn_basis(
            lab.spec,
            lab.data.points[train],
            lab.data.values[train],
            settings,
            stable_seed(lab.seed, "basis"),
        )
        setup = time.perf_counter() - began
        zero = np.zeros(len(basis), np.float32)
        fit = lab.options["fit"]
        fit = dataclasses.replace(fit, steps=min(lab.steps, fit.steps))
        found = timed(lab, lambda: origin, lambda t: lab.fit(zero, t, fit, basis=basis))
        return dataclasses.replace(found, setup=setup)

    return run


def residual(lab: Lab) -> Fitted:
    """`basis-32`, then all weights free, with a strong pull to where the basis left each."""
    first = lab.fitted("basis-32")
    own = first.weights
    settings = lab.settings(steps=max(1, lab.steps // 2), pull=0.01, learning_rate=0.003)
    found = timed(lab, lambda: own, lambda start: lab.fit(start, own, settings, pack=1))
    return Fitted(found.weights, first.origin, first.seconds + found.seconds, first.setup)


def paper(lab: Lab) -> Fitted:
    """The paper's recipe at this experiment's size: frequency 1, occupancy at 0.005, MSE."""
    spec = spec_of("paper", lab)
    recipe = {"loss": "mse", "schedule": "plateau"}
    return timed(
        lab,
        lambda: lab.template("rare", spec, **recipe),
        lambda t: lab.fit(t, t, lab.settings(**recipe), spec),
    )


def spec_of(fit: str, lab: Lab) -> FieldSpec:
    """The specification of a fit's fields."""
    if fit != "paper":
        return lab.spec
    recipe = {"frequency": 1.0, "octaves": 2, "target": "occupancy", "offset": 0.005}
    return dataclasses.replace(lab.spec, mirror=None, **recipe)


FITS: dict[str, Callable[[Lab], Fitted]] = {
    "random": from_random,
    "aligned": aligned,
    "typical": from_template("typical"),
    "rare": from_template("rare"),
    "mean": from_template("mean"),
    "mean-short": from_template("mean", short=5),
    "pull-1e-4": from_template("mean", pull=1e-4),
    "pull-1e-3": from_template("mean", pull=1e-3),
    "pull-1e-2": from_template("mean", pull=1e-2),
    "reptile": from_reptile,
    "reptile-short": from_reptile_short,
    "rounded": rounded_fit,
    "basis-32": in_basis(32),
    "basis-64": in_basis(64),
    "residual": residual,
    "paper": paper,
}


# --- Codings --------------------------------------------------------------------------------

Coded = tuple[np.ndarray, np.ndarray]  # tokens [n, L] and the fields [n, W] they decode to


def scalar(lab: Lab, found: Fitted) -> Tokenizer:
    """The paper's tokenizer, learned from the train fields."""
    settings = Tokens(kind="scalar", n_codes=lab.options["codes"])
    train = Differences(found.weights[: lab.data.n_train] - found.origin)
    return fit_tokenizer(train, found.origin, settings)


def components(lab: Lab, fields: np.ndarray, origin: np.ndarray, k: int) -> Tokenizer:
    """The shipped tokenizer of k principal components, learned from the train fields."""
    settings = Tokens(kind="basis", n_codes=lab.options["codes"], n_components=k)
    return fit_tokenizer(Differences(fields[: lab.data.n_train] - origin), origin, settings)


def through(tokenizer: Tokenizer, fields: np.ndarray) -> Coded:
    """Tokens of fields, and what they decode to."""
    tokens = tokenizer.encode(Differences(fields - tokenizer.template))
    return tokens, tokenizer.decode(tokens)


def code_scalar(lab: Lab, found: Fitted) -> Coded:
    """One token a weight."""
    return through(scalar(lab, found), found.weights)


def code_scaled(per: str) -> Callable[[Lab, Fitted], Coded]:
    """One token a weight, its difference divided by the train deviation of its layer or place."""

    def run(lab: Lab, found: Fitted) -> Coded:
        base = scalar(lab, found)
        train = found.weights[: lab.data.n_train] - found.origin
        scale = np.sqrt(np.square(train).mean(axis=0))
        if per == "layer":
            for _, start, stop in lab.spec.slices:
                scale[start:stop] = np.sqrt(np.square(scale[start:stop]).mean())
        base.scale = np.maximum(scale, 1e-6).astype(np.float32)
        base.codes = fit_codes(train / base.scale, lab.options["codes"])
        return through(base, found.weights)

    return run


def code_components(k: int) -> Callable[[Lab, Fitted], Coded]:
    """One token a principal component."""

    def run(lab: Lab, found: Fitted) -> Coded:
        return through(components(lab, found.weights, found.origin, k), found.weights)

    return run


def code_rounded(lab: Lab, found: Fitted) -> Coded:
    """One token a weight, in the codebook that the fit was rounded to."""
    return through(scalar(lab, lab.fitted("mean")), found.weights)


def code_residual(k: int | None) -> Callable[[Lab, Fitted], Coded]:
    """Codes of `basis-32`'s fields, then of what is left: k components, or every weight."""

    def run(lab: Lab, found: Fitted) -> Coded:
        tokens, decoded = code_components(32)(lab, lab.fitted("basis-32"))
        left, none = found.weights - decoded, np.zeros_like(found.origin)
        if k is None:
            rest = Fitted(left, none, 0.0, 0.0)
            more, decoded_more = code_scalar(lab, rest)
        else:
            more, decoded_more = through(components(lab, left, none, k), left)
        return np.concatenate([tokens, more], axis=1), decoded + decoded_more

    return run


# Name of a method: its fit, and its coding.
METHODS: dict[str, tuple[str, Callable[[Lab, Fitted], Coded]]] = {
    "random starts": ("random", code_scalar),
    "random starts, aligned": ("aligned", code_scalar),
    "random starts, aligned, 32 components": ("aligned", code_components(32)),
    "paper's recipe": ("paper", code_scalar),
    "template typical": ("typical", code_scalar),
    "template rare": ("rare", code_scalar),
    "template mean": ("mean", code_scalar),
    "template mean, a fifth of the steps": ("mean-short", code_scalar),
    "template mean, 32 components": ("mean", code_components(32)),
    "template mean, scaled by layer": ("mean", code_scaled("layer")),
    "template mean, scaled by position": ("mean", code_scaled("position")),
    "pull 1e-4": ("pull-1e-4", code_scalar),
    "pull 1e-3": ("pull-1e-3", code_scalar),
    "pull 1e-2": ("pull-1e-2", code_scalar),
    "pull 1e-3, 32 components": ("pull-1e-3", code_components(32)),
    "reptile": ("reptile", code_scalar),
    "reptile, a fifth of the steps": ("reptile-short", code_scalar),
    "rounded in the fit": ("rounded", code_rounded),
    "basis 32": ("basis-32", code_components(32)),
    "basis 64": ("basis-64", code_components(64)),
    "basis 32 + residual, 32 components": ("residual", code_residual(32)),
    "basis 32 + residual, all weights": ("residual", code_residual(None)),
}
