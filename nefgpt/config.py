"""The configuration: one model per block, the single source of keys, types and ranges.

`workflow/schemas/config.schema.json` is generated from it (`nefgpt config --schema`).
"""

import argparse
import math
import reprlib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nefgpt.base.errors import InputError
from nefgpt.base.files import write_json
from nefgpt.generators.rows import RESERVED
from nefgpt.inputs.listing import IMAGE_KINDS

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Positive = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]


# Aliases make a page of YAML as long as memory: only its beginning is ever printed.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 80, 80, 80


class Block(BaseModel):
    """A block of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)


class Split(Block):
    """Shares of the three splits; they add up to one."""

    train: Share = 0.6
    val: Share = 0.1
    test: Share = 0.3

    @model_validator(mode="after")
    def _sum(self):
        total = self.train + self.val + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, val and test add up to {total:g} instead of 1")
        return self


class SplitFiles(Block):
    """Published split lists, one id a line."""

    train: str
    val: str
    test: str


class Dataset(Block):
    """Where the meshes or images come from."""

    kind: Literal["procedural", "shapenet", "folder", "digits", "mnist"] = "procedural"
    root: str | None = None
    synset: str | None = None
    n_shapes: Annotated[int, Field(ge=1, le=10**6)] | None = None
    split: Split = Split()
    split_files: SplitFiles | None = None
    max_rejected_fraction: Share = 0.1

    @model_validator(mode="after")
    def _needs(self):
        if self.kind == "procedural" and self.n_shapes is None:
            raise ValueError("kind procedural needs n_shapes")
        if self.kind not in ("procedural", "digits") and self.root is None:
            what = "images" if self.kind == "mnist" else "meshes"
            raise ValueError(f"kind {self.kind} needs root, the folder of the {what}")
        return self


class Sdf(Block):
    """SDF point clouds."""

    backend: Literal["libigl", "mesh_to_sdf"] = "libigl"
    method: Literal["scan", "sample"] = "scan"
    n_uniform: Annotated[int, Field(ge=1000, le=10**9)] = 100_000
    n_near: Annotated[int, Field(ge=1000, le=10**9)] = 100_000
    sigma: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    extent: Annotated[float, Field(gt=0, le=1)] = 0.9
    # A pack's ids and paths are one argument of a shell command, which ends at 128 KiB.
    shapes_per_job: Annotated[int, Field(ge=1, le=200)] = 16


class FieldBlock(Block):
    """The field's specification; see nefgpt.fields.spec.FieldSpec."""

    in_dim: Literal[2, 3] = 3
    octaves: Annotated[int, Field(ge=0, le=10)] = 2
    include_input: bool = True
    frequency: Annotated[float, Field(gt=0)] = 2 * math.pi
    # strict: `false` would be taken for coordinate 0
    mirror: Annotated[int, Field(ge=0, le=2, strict=True)] | None = None
    hidden: Annotated[list[Positive], Field(min_length=1, max_length=16)] = [16, 16, 16]
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    output_bias: bool = False
    output_activation: Literal["tanh", "sigmoid", "none"] = "tanh"
    target: Literal["sdf", "occupancy", "brightness"] = "sdf"
    sdf_scale: Annotated[float, Field(gt=0)] = 0.02
    offset: Annotated[float, Field(ge=-0.05, le=0.05)] = 0.004


class Optimiser(Block):
    """How one fit is run."""

    steps: Positive = 800
    points_per_step: Positive = 4096
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    loss: Literal["l1", "mse"] = "l1"
    pull: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "plateau"] = "cosine"
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    quality_resolution: Annotated[int, Field(ge=16, le=512)] = 96


class Template(Optimiser):
    """What all fields start from; see nefgpt.fitting.template."""

    shape_id: str | None = None
    n_shapes: Positive = 1
    n_components: Annotated[int, Field(ge=0, le=4096)] = 0
    fields_per_step: Positive = 16
    coefficient_learning_rate: Annotated[float, Field(gt=0)] = 0.02

    @model_validator(mode="after")
    def _basis(self):
        if self.n_components and self.n_shapes < 2:
            raise ValueError("n_components > 0 learns a basis, which needs n_shapes >= 2")
        if self.shape_id and self.n_shapes > 1:
            raise ValueError("shape_id names one shape, so n_shapes must be 1")
        if not self.n_components and self.n_shapes > 1:
            raise ValueError("n_shapes > 1 learns a basis, which needs n_components >= 1")
        return self


class Fit(Optimiser):
    """The fit of every field."""

    # A pack's ids are one argument of a shell command, which ends at 128 KiB.
    fields_per_job: Annotated[int, Field(ge=1, le=1000)] = 1


class Tokens(Block):
    """Vector quantisation."""

    kind: Literal["scalar", "basis"] = "basis"
    n_codes: Annotated[int, Field(ge=2, le=60_000)] = 127
    n_components: Positive = 32


class Gpt(Block):
    """One transformer and its training."""

    embedding: Positive = 128
    heads: Positive = 4
    layers: Positive = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    iterations: Positive = 1000
    batch_size: Positive = 32
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    min_learning_rate: Annotated[float, Field(ge=0)] = 1e-4
    warmup: Annotated[int, Field(ge=0, le=10**9)] = 50
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    eval_every: Positive = 50
    jitter: Share = 0.0
    mix: Share = 0.0
    label_smoothing_width: Annotated[float, Field(ge=0)] = 0.0
    class_dropout: Share = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _divides(self):
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is no multiple of heads {self.heads}")
        return self


class Setting(Block):
    """One way of sampling from the model's distribution."""

    top_k: Positive | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] = 1.0
    guidance: Annotated[float, Field(ge=0)] | None = None


class Sampling(Block):
    """The sampling settings, by name."""

    settings: Annotated[dict[Name, Setting], Field(min_length=1)]
    batch_size: Positive = 32


class Gaussian(Block):
    """The simplest generator: a Gaussian over principal components of the weights."""

    n_components: Positive = 32


class Extract(Block):
    """Surface extraction."""

    resolution: Annotated[int, Field(ge=16, le=1024)] = 96
    level: Annotated[float, Field(ge=-0.05, le=0.05)] = 0.0
    min_component: Share = 0.0


class Evaluation(Block):
    """Sizes and seeds of the evaluation."""

    n_samples: Positive | None = None
    draws: Annotated[int, Field(ge=1, le=1000)] = 1


class Classifier(Block):
    """The classifier that says whether a sample shows its class; used where there are labels."""

    epochs: Positive = 30
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3


class Tuning(Block):
    """A grid of sampling settings, compared on the val split."""

    model: Name
    n_samples: Positive
    top_k: Annotated[list[Positive | None], Field(min_length=1)] = [None]
    top_p: Annotated[list[Annotated[float, Field(gt=0, le=1)] | None], Field(min_length=1)] = [None]
    temperature: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = [1.0]
    guidance: Annotated[list[Annotated[float, Field(ge=0)] | None], Field(min_length=1)] = [None]


class StartFit(Block):
    """How the experiment's fields are fitted, from the template and from random starts."""

    steps: Positive = 1000
    points_per_step: Positive = 4096
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    loss: Literal["l1", "mse"] = "mse"
    schedule: Literal["cosine", "plateau"] = "cosine"
    quality_resolution: Annotated[int, Field(ge=16, le=512)] = 64


class Regression(Block):
    """The transformer on continuous weights: how many fields it can memorise."""

    n_fields: Annotated[list[Positive], Field(min_length=1)] = [1, 4, 16, 32]
    n_shapes: Annotated[int, Field(ge=2)] = 48
    fit: StartFit = StartFit()
    embedding: Positive = 64
    heads: Positive = 2
    layers: Positive = 2
    loss: Literal["l1", "mse"] = "l1"
    iterations: Positive = 400
    batch_size: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    min_learning_rate: Annotated[float, Field(ge=0)] = 1e-4
    warmup: Annotated[int, Field(ge=0)] = 20
    noise: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _fits(self):
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is no multiple of heads {self.heads}")
        if max(self.n_fields) > self.n_shapes:
            raise ValueError(f"n_fields asks for more than n_shapes = {self.n_shapes} fields")
        return self


class Config(Block):
    """The whole configuration of one run."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dataset: Dataset
    sdf: Sdf = Sdf()
    field: FieldBlock = FieldBlock()
    template: Template = Template()
    fit: Fit = Fit()
    tokens: Tokens = Tokens()
    gpt: Annotated[dict[Name, Gpt], Field(min_length=1)]
    sampling: Sampling
    gaussian: Gaussian = Gaussian()
    extract: Extract = Extract()
    evaluation: Evaluation = Evaluation()
    classifier: Classifier = Classifier()
    tuning: Tuning | None = None
    regression: Regression | None = None

    @model_validator(mode="after")
    def _names(self):
        taken = sorted(set(self.gpt) & set(RESERVED))
        if taken:
            raise ValueError(f"gpt.{taken[0]}: this name is a row of the ladder; choose another")
        if self.tuning and self.tuning.model not in self.gpt:
            raise ValueError(f"tuning.model = {self.tuning.model!r}: there is no such entry in gpt")
        return self

    @model_validator(mode="after")
    def _signal(self):
        images = self.dataset.kind in IMAGE_KINDS
        if self.field.mirror is not None and self.field.mirror >= self.field.in_dim:
            raise ValueError(
                f"field.mirror = {self.field.mirror}: there are {self.field.in_dim} coordinates, "
                "0 is the first"
            )
        if images != (self.field.in_dim == 2) or images != (self.field.target == "brightness"):
            wanted = "in_dim: 2, target: brightness" if images else "in_dim: 3, target: sdf"
            raise ValueError(f"dataset.kind {self.dataset.kind} needs field: {{{wanted}}}")
        return self


def validate(values: dict) -> dict:
    """Check a configuration and fill in defaults.

    Raises
    ------
    InputError
        naming each bad key, its value and what is allowed.
    """
    try:
        return Config.model_validate(values).model_dump()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "configuration"
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                text = "unknown key; see config/config.yaml for the known ones"
                lines.append(f"  {key}: {text}")
            elif problem["type"] == "missing":
                lines.append(f"  {key}: missing")
            else:
                given = SHORT.repr(problem["input"])
                given = given if len(given) < 80 else given[:77] + "..."
                lines.append(f"  {key} = {given}: {text}")
        raise InputError("the configuration is not valid:\n" + "\n".join(lines)) from error


def load(path: Path) -> dict:
    """Read and validate a YAML configuration."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    # The safe loader still raises whatever a bad number, date or depth leads to.
    except Exception as error:
        known = isinstance(error, OSError | yaml.YAMLError)
        reason = error if known else repr(error)
        raise InputError(f"cannot read configuration {path}: {reason}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no configuration")
    return validate(values)


def main() -> None:
    """Command line: validate a configuration, or write the JSON schema."""
    parser = argparse.ArgumentParser(description="Check a configuration file.")
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("--schema", type=Path, help="write the JSON schema to this file")
    args = parser.parse_args()
    if args.schema:
        write_json(args.schema, Config.model_json_schema())
    if args.config:
        load(args.config)
