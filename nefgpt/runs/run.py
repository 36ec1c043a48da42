"""A run, or what was exported of one, opened to be used."""

import dataclasses
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json
from nefgpt.base.settings import from_dict
from nefgpt.config import Config, validate
from nefgpt.fields.file import Field
from nefgpt.fields.file import load_field as read_field
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.weights import Fields, gives, read_fields
from nefgpt.generators.components import Differences
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.gpt.tokens import read_tokens
from nefgpt.generators.kind import KINDS, Given, Made, generator
from nefgpt.generators.rows import Row
from nefgpt.runs.field import NeuralField, load_field
from nefgpt.runs.package import ABOUT, check_package, unpack
from nefgpt.signals.kind import kind_of

if TYPE_CHECKING:
    import pandas as pd
    import trimesh

TEMPLATE = "fields/template.safetensors"
CODEBOOK = "codebook.safetensors"
METRICS = "tables/metrics.csv"


class Run:
    """A trained run; see `open`.

    Attributes
    ----------
    folder : its results, RUN/results/NAME, or what was exported.
    config : its configuration.
    exported : what the exported model says of itself; None for a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.exported = None
        if (self.folder / ABOUT).exists():
            self.exported = check_package(self.folder)
        if not (self.folder / "config.json").exists():
            raise InputError(
                f"{self.folder} holds no run: there is no config.json in it. Name the folder of "
                "its results, such as results/airplanes; an unfinished run gets its config.json "
                f"by `snakemake --cores all {self.folder}/config.json`, with its --configfile"
            )
        self.config: Config = validate(read_json(self.folder / "config.json"))
        self._loaded: dict[str, object] = {}

    def __repr__(self) -> str:
        kind = "exported model" if self.exported else "run"
        models = ", ".join(self.models)
        return f"<{kind} {self.config.name!r} of {self.config.signals}: {models}>"

    def file(self, name: str) -> Path:
        """Path of one of its files.

        Raises
        ------
        InputError
            when the run has not made it yet, naming the command that does.
        """
        path = self.folder / name
        if path.exists():
            return path
        if self.exported:
            raise InputError(f"an exported model holds no {name}: open the run it is from")
        raise InputError(
            f"the run in {self.folder} is not finished: it lacks {name}. "
            f"`snakemake --cores all results/{self.config.name}/{name}` makes it, where the run "
            "was started and with its --configfile"
        )

    @property
    def spec(self) -> FieldSpec:
        """What all its fields are, beside their weights."""
        return self.config.field

    @cached_property
    def models(self) -> dict[str, str]:
        """The generators that can be sampled, by name: the kind of each."""
        if self.exported:
            return dict(self.exported["models"])
        return {row.method: row.kind for row in self.config.sampled}

    def portable(self, model: str) -> bool:
        """Whether a generator can do without the train fields, once it is exported."""
        kind = self.models[model]
        return bool(KINDS[kind].learns) or hasattr(generator(kind), "save")

    def settings(self, model: str) -> dict[str, object]:
        """The sampling settings that the run has for a model, by name."""
        kind = KINDS[self.models[model]]
        if kind.learns:
            return dict(getattr(self.config.sampling, kind.samplings))
        if kind.setting is None:
            return dict(getattr(self.config, self.models[model]))
        return {kind.setting: self.config.sampling_of(Row(model, kind.setting, model))}

    @cached_property
    def table(self) -> "pd.DataFrame":
        """Means of the run's metrics: a row for each method and setting, a column each metric."""
        import pandas as pd

        from nefgpt.evaluation.tables import read_metrics

        frame = read_metrics(self.file(METRICS))
        frame = frame.assign(value=pd.to_numeric(frame["value"], errors="coerce"))
        means = frame.groupby(["method", "setting", "metric"], sort=False)["value"].mean()
        return means.unstack("metric", sort=False)

    @cached_property
    def fields(self) -> dict[str, NeuralField]:
        """The fields that were fitted to the train and val splits, by the id of their shape."""
        table = self._fields
        codes = read_tokens(self.file("tokens.parquet"))
        tokens = dict(zip(codes.shape_ids, codes.tokens, strict=True))
        known = table.coefficients
        return {
            name: NeuralField(
                table.spec,
                table.weights[i],
                name,
                table.labels[i],
                tokens.get(name),
                None if known is None else known[i],
                {k: float(v[i]) for k, v in table.measures.items()} | {"split": table.splits[i]},
                self.config.extract,
                self.size,
            )
            for i, name in enumerate(table.shape_ids)
        }

    @cached_property
    def template(self) -> Field:
        """What all its fields start from, with its basis where it has one."""
        return read_field(self.file(TEMPLATE))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What turns its fields into tokens and back."""
        return load_tokenizer(self.file(CODEBOOK))

    @cached_property
    def size(self) -> tuple[int, ...] | None:
        """Of its images, (height, width) or (height, width, 3); None for shapes."""
        if kind_of(self.spec).COMPARED is not None:
            return None
        if self.exported:
            return tuple(self.exported["size"] or ()) or None
        from nefgpt.evaluation.clouds import read_clouds

        return read_clouds(self.file("clouds/test.npy")).shape[1:]

    @cached_property
    def block(self) -> int:
        """Samples of one draw of its rows: numbers are rounded as in such a draw."""
        if self.exported:
            return self.exported["block"]
        test = (row for row in read_json(self.file("shapes.json")) if row[1] == "test")
        return self.config.evaluation.n_samples or sum(1 for _ in test)

    @cached_property
    def _fields(self) -> Fields:
        if self.exported:  # without the training set
            spec, weights, _, _, basis = self.template
            return Fields(
                spec, weights, [], [], [], np.zeros((0, len(weights)), np.float32), basis=basis
            )
        return read_fields(self.file("weights.parquet"))

    # ---------------------------------------------------------------- sampling

    def sample(
        self,
        n: int,
        *,
        model: str | None = None,
        setting: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float | None = None,
        label: int | None = None,
        seed: int = 0,
    ) -> list[NeuralField]:
        """New fields by one of the run's generators.

        Sample i is the same whatever `n` is. With the setting and the seed of one of the run's
        rows they are, bit by bit, the first ones of that row, where a draw is no larger than
        `sampling.batch_size`.

        Parameters
        ----------
        n : how many.
        model : name of a generator; see `models`. The trained one with the least loss on val when
            not given.
        setting : name of one of the run's sampling settings; see `settings`.
        temperature, top_k, top_p, guidance : instead of a setting; temperature 1 and no filter
            when nothing is given.
        label : class of all samples; all classes in turn when not given.
        seed : the same seed gives the same samples.

        Raises
        ------
        InputError
            when there is no such model, setting or class, or the run is not finished.
        """
        chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
        made = self._make(n, model, setting, chosen, label, seed)
        return self._named(made, "sample")

    def complete(
        self,
        tokens: Sequence[int] | np.ndarray | NeuralField,
        k: int | None = None,
        n: int = 4,
        *,
        model: str | None = None,
        setting: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float | None = None,
        label: int | None = None,
        seed: int = 0,
    ) -> list[NeuralField]:
        """What the model continues the first codes of a field with.

        Parameters
        ----------
        tokens : codes, or a field, whose codes and class are then taken.
        k : how many of them are kept; all when not given.
        n : how many continuations.

        The other parameters are those of `sample`.

        Raises
        ------
        InputError
            as `sample`, and when a sequence has no more than `k` codes.
        """
        if isinstance(tokens, NeuralField):
            label = tokens.label if label is None else label
            tokens = self.tokens_of(tokens)
        begin = np.asarray(tokens)
        if k is not None and not 0 <= k <= len(begin):
            raise InputError(f"there are {len(begin)} codes, so that {k} cannot be kept")
        chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
        begin = begin if k is None else begin[:k]
        made = self._make(n, model, setting, chosen, label, seed, begin)
        return self._named(made, "completion")

    def interpolate(
        self, a: NeuralField | str, b: NeuralField | str, steps: int = 8
    ) -> list[NeuralField]:
        """Fields from one to another, both included.

        Their coefficients are mixed where both have them, else their weights: with a basis both
        ways lead through the same fields.

        Parameters
        ----------
        a, b : fields, or what `field` takes.
        steps : how many fields, at least 2.
        """
        if steps < 2:
            raise InputError(f"from one field to another there are at least 2 steps, not {steps}")
        a, b = (self.field(x) if isinstance(x, str) else self.checked(x) for x in (a, b))
        known = a.coefficients is not None and b.coefficients is not None
        found = []
        for i, share in enumerate(np.linspace(0, 1, steps, dtype=np.float32)):
            name, coefficients = f"step-{i}", None
            if known:
                coefficients = (1 - share) * a.coefficients + share * b.coefficients
                weights = self.template.weights + coefficients @ self.template.basis
            else:
                weights = (1 - share) * a.weights + share * b.weights
            found.append(
                self._field(
                    weights, name, a.label if share < 0.5 else b.label, coefficients=coefficients
                )
            )
        return found

    def decode(self, tokens: np.ndarray | Sequence[int]) -> list[NeuralField]:
        """Fields of codes, integers [L] or [n, L]."""
        tokens = np.atleast_2d(np.asarray(tokens))
        length = self.tokenizer.sequence_length
        if tokens.shape[1] != length or (tokens.size and tokens.min() < 0):
            raise InputError(f"a field has {length} codes of 0 to {len(self.tokenizer.codes) - 1}")
        made = self.tokenizer.decode(tokens)
        return [
            self._field(weights, f"field-{i}", None, tokens[i].astype(np.uint16))
            for i, weights in enumerate(made)
        ]

    def encode(
        self,
        what: "str | Path | trimesh.Trimesh | np.ndarray",
        name: str | None = None,
        seed: int | None = None,
    ) -> NeuralField:
        """A new field, fitted as the run fits its own; the run stays as it is.

        Parameters
        ----------
        what : file of a mesh or an image, a mesh in any units, or an image (float [H, W] or
            [H, W, 3] in [0, 1], or uint8, or of Pillow).
        name : of the field; that of the file when not given. With the id of one of the run's
            shapes, its mesh gives that shape's field, bit by bit.
        seed : of points and fit; the run's when not given.

        Returns
        -------
        NeuralField with `tokens`, `quality`, and `coefficients` where the run has a basis.
        """
        from nefgpt.runs.encode import encode

        return encode(self, what, name, self.config.seed if seed is None else seed)

    # ----------------------------------------------------------------- fields

    def field(self, source: str | Path) -> NeuralField:
        """A field by the id of one of its shapes, from a field's file, or of a mesh or image.

        Raises
        ------
        InputError
            when it is none of these, or of another specification.
        """
        path = Path(source)
        if not path.is_file():
            if self.exported is None and str(source) in self.fields:
                return self.fields[str(source)]
            known = (
                "" if self.exported else f" and no shape of the train or val split of {self.folder}"
            )
            raise InputError(f"{source} is no file{known}")
        if path.suffix.lower() != ".safetensors":
            return self.encode(path)
        return self.checked(load_field(path), str(path))

    def tokens_of(self, field: NeuralField) -> np.ndarray:
        """Codes of a field, uint16 [L]."""
        field = self.checked(field)
        if field.tokens is not None:
            return field.tokens
        if field.coefficients is not None:
            found = Differences(field.coefficients[None], self.template.basis)
        else:
            found = Differences((field.weights - self.template.weights)[None])
        return self.tokenizer.encode(found)[0]

    def checked(self, field: NeuralField, source: str | None = None) -> NeuralField:
        """A field as one of the run's: decoded as these, its coefficients in the run's basis.

        Raises
        ------
        InputError
            naming `source`, when it is of another specification than the run's fields.
        """
        if field.spec != self.spec:
            raise InputError(
                f"{source or field.name} has another field specification than the run "
                f"{self.config.name!r}: {field.spec.to_json()} instead of {self.spec.to_json()}"
            )
        known = field.coefficients
        if known is not None and not gives(self.template.space, known, field.weights):
            known = None  # of another run's basis
        return dataclasses.replace(
            field, coefficients=known, extract=self.config.extract, size=self.size
        )

    def _field(
        self,
        weights: np.ndarray,
        name: str,
        label: int | None = None,
        tokens: np.ndarray | None = None,
        coefficients: np.ndarray | None = None,
        record: dict | None = None,
    ) -> NeuralField:
        return NeuralField(
            self.spec,
            weights,
            name,
            label,
            tokens,
            coefficients,
            record or {},
            self.config.extract,
            self.size,
        )

    # ------------------------------------------------------------- generators

    def chosen_model(self, model: str | None = None) -> str:
        """The name of a model, or of the one that is taken when none is named."""
        if model is None:
            trained = [name for name, kind in self.models.items() if KINDS[kind].learns]
            if not trained:
                return next(iter(self.models))
            return min(trained, key=self._val_loss)
        if model not in self.models:
            raise InputError(
                f"the run {self.config.name!r} has no model {model!r}, but {', '.join(self.models)}"
            )
        return model

    def _val_loss(self, model: str) -> float:
        about = read_json(self.file(f"{self.models[model]}/{model}/config.json"))
        return about.get("calibrated_val_loss", np.inf)  # of a GPT; others have none to compare

    def chosen_setting(self, model: str, setting: str | None, chosen: Mapping) -> object:
        """A generator's `Sampling`: by its name, from values, or with defaults."""
        chosen = {name: value for name, value in chosen.items() if value is not None}
        known = self.settings(model)
        if setting is not None:
            if chosen:
                raise InputError(f"give the setting {setting!r} or {', '.join(chosen)}, not both")
            if setting not in known:
                raise InputError(f"{model} has no setting {setting!r}, but {', '.join(known)}")
            return known[setting]
        if not KINDS[self.models[model]].learns:
            if chosen:
                raise InputError(f"{model} has no {', '.join(chosen)} to set")
            return next(iter(known.values()))
        return from_dict(generator(self.models[model]).Sampling, chosen)

    def _make(
        self,
        n: int,
        model: str | None,
        setting: str | None,
        chosen: dict,
        label: int | None,
        seed: int,
        begin: np.ndarray | None = None,
    ) -> Made:
        if n < 1:
            raise InputError(f"n must be at least 1, got {n}")
        model = self.chosen_model(model)
        kind = self.models[model]
        if begin is not None and "codebook" not in KINDS[kind].reads:
            raise InputError(f"{model} knows no codes, and cannot go on with some")
        setting = self.chosen_setting(model, setting, chosen)
        given, module = self.given(model), generator(kind)
        given = given._replace(label=label, begin=begin)
        if model not in self._loaded:
            self._loaded[model] = module.load(given)
        return module.sample(self._loaded[model], given, setting, n, seed)

    def given(self, model: str) -> Given:
        """What a generator makes its fields from."""
        kind, entry = self.models[model], KINDS[self.models[model]]
        folder = None
        if entry.learns or self.exported:
            folder = self.file(f"{kind}/{model}/model.safetensors").parent
        reads = {"codebook": CODEBOOK, "tokens": "tokens.parquet"}
        files = {name: self.file(reads[name]) for name in entry.reads}
        batch = self.config.sampling.batch_size
        # What a trained model decodes is in its codebook, or starts from the template.
        return Given(self._fields, model=folder, batch_size=batch, block=self.block, **files)

    def _named(self, made: Made, what: str) -> list[NeuralField]:
        return [
            self._field(
                weights,
                f"{what}-{i}",
                made.labels[i],
                None if made.tokens is None else made.tokens[i],
                None if made.coefficients is None else made.coefficients[i],
            )
            for i, weights in enumerate(made.weights)
        ]


def open(path: str | Path) -> Run:
    """Open a run to use it.

    Parameters
    ----------
    path : the folder of its results, such as results/airplanes, or what `nefgpt export` made of
        one: a folder, or an archive, which is unpacked to a temporary folder.

    Raises
    ------
    InputError
        when there is no run, or an exported model that cannot be trusted or is of a later format.
    """
    path = Path(path)
    if path.is_dir():
        return Run(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such run and no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no folder of results and no exported model")
    folder = Path(tempfile.mkdtemp(prefix="nefgpt-"))
    try:
        unpack(path, folder)
        run = Run(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(run, shutil.rmtree, folder)  # when it is used no more, or Python ends
    return run
