"""The configuration: its blocks are dataclasses of the rooms, checked here.

`workflow/schemas/config.schema.json` is generated from it (`nefgpt config --schema`).
"""

import argparse
import dataclasses
import reprlib
from pathlib import Path
from typing import Annotated

import yaml
from annotated_types import Ge, Len, Lt
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from nefgpt.base.errors import InputError
from nefgpt.base.files import write_json
from nefgpt.base.settings import Count, settings
from nefgpt.evaluation.settings import ClassifierTraining, Evaluation, Tuning
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.settings import Fit, Template
from nefgpt.generators.kind import BOUNDS, KINDS, TRAINED
from nefgpt.generators.rows import RESERVED, Row, rows_of
from nefgpt.generators.settings import (
    Averages,
    Gaussian,
    Gpt,
    Noise,
    Regression,
    Setting,
    Tokens,
)
from nefgpt.inputs.settings import Dataset
from nefgpt.signals.kind import name_of
from nefgpt.signals.settings import Extract, Sdf

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]

# Aliases make a page of YAML as long as memory: only its beginning is ever printed.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 80, 80, 80


@settings
class Sampling:
    """The sampling settings, by name."""

    settings: Annotated[dict[Name, Setting], Len(1)]
    batch_size: Count = 32


def _mirror(field: object) -> object:
    mirror = field.get("mirror") if isinstance(field, dict) else None
    if isinstance(mirror, bool):  # which would be taken for coordinate 0 or 1
        raise ValueError(f"mirror = {mirror}: give a coordinate (0, 1, 2) or null")
    return field


@settings
class Config:
    """The whole configuration of one run."""

    name: Name
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    dataset: Dataset
    sdf: Sdf = Sdf()
    field: Annotated[FieldSpec, BeforeValidator(_mirror)] = FieldSpec()
    template: Template = Template()
    fit: Fit = Fit()
    tokens: Tokens = Tokens()
    gpt: Annotated[dict[Name, Gpt], Len(1)]
    sampling: Sampling
    gaussian: Gaussian = Gaussian()
    noise: dict[Name, Noise] = dataclasses.field(default_factory=dict)
    averages: dict[Name, Averages] = dataclasses.field(default_factory=dict)
    extract: Extract = Extract()
    evaluation: Evaluation = Evaluation()
    classifier: ClassifierTraining = ClassifierTraining()
    tuning: Tuning | None = None
    regression: Regression | None = None

    def __post_init__(self) -> None:
        taken = set(RESERVED)
        for kind in TRAINED:
            for model in sorted(set(getattr(self, kind)) & taken):
                raise ValueError(f"{kind}.{model}: a row of the table is called so")
            taken |= set(getattr(self, kind))
        if self.tuning and self.tuning.model not in self.gpt:
            raise ValueError(f"tuning.model = {self.tuning.model!r}: there is no such entry in gpt")
        images = self.dataset.images
        if images != (self.field.in_dim == 2) or images != (self.signals == "images"):
            wanted = "in_dim: 2, target: brightness" if images else "in_dim: 3, target: sdf"
            raise ValueError(f"dataset.kind {self.dataset.kind} needs field: {{{wanted}}}")
        if self.field.out_dim not in self.dataset.channels:
            wanted = " or ".join(map(str, self.dataset.channels))
            raise ValueError(f"dataset.kind {self.dataset.kind} needs field.out_dim {wanted}")
        judged = self.evaluation
        if images and (judged.normalisation != "shape" or judged.emd_points or judged.fpd):
            raise ValueError("evaluation.normalisation, emd_points and fpd are for shapes")

    @property
    def signals(self) -> str:
        """The kind of signals, one of `nefgpt.signals.kind.KINDS`."""
        return name_of(self.field)

    @property
    def rows(self) -> list[Row]:
        """All rows of the table; see `nefgpt.generators.rows`."""
        models = [
            Row(model, setting, kind)
            for kind in TRAINED
            for model in getattr(self, kind)
            for setting in getattr(self.sampling, KINDS[kind].samplings)
        ]
        simple = (kind for kind, entry in KINDS.items() if not (entry.learns or entry.setting))
        return rows_of(self.signals, {kind: getattr(self, kind) for kind in simple}, models)

    @property
    def sampled(self) -> list[Row]:
        """Rows of samples, as the figures show them: those of trained models first."""
        made = [row for row in self.rows if row.kind and row.kind not in BOUNDS]
        return sorted(made, key=lambda row: row.kind not in TRAINED)

    def sampling_of(self, row: Row) -> object | None:
        """How a row's fields are made: its generator's `Sampling`, or None without settings."""
        entry = KINDS[row.kind]
        if entry.learns:
            return getattr(self.sampling, entry.samplings)[row.setting]
        block = getattr(self, row.kind, None)
        return block if entry.setting else block[row.setting]


_ADAPTER = TypeAdapter(Config)


def validate(values: dict) -> Config:
    """Check a configuration and fill in defaults.

    Raises
    ------
    InputError
        naming each bad key, its value and what is allowed.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "configuration"
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "unexpected_keyword_argument":
                text = "unknown key; see config/config.yaml for the known ones"
                lines.append(f"  {key}: {text}")
            elif problem["type"] == "missing":
                lines.append(f"  {key}: missing")
            else:
                given = SHORT.repr(problem["input"])
                given = given if len(given) < 80 else given[:77] + "..."
                lines.append(f"  {key} = {given}: {text}")
        raise InputError("the configuration is not valid:\n" + "\n".join(lines)) from error


def load(path: Path) -> Config:
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
        write_json(args.schema, _ADAPTER.json_schema())
    if args.config:
        load(args.config)
