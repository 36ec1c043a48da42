"""A job's settings from JSON: all keys are known, and what is missing has its default."""

import json
from dataclasses import asdict

import pytest

from nefgpt.base.cli import settings_argument
from nefgpt.base.errors import InputError
from nefgpt.evaluation.settings import Tuning
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.settings import StartFit, Template
from nefgpt.generators.settings import Regression
from nefgpt.inputs.settings import Dataset, Split, SplitFiles


@pytest.mark.parametrize(
    "settings",
    [
        FieldSpec(hidden=(4, 3), mirror=1),
        Dataset(n_shapes=9, split=Split(train=0.5, val=0.2, test=0.3)),
        Dataset(n_shapes=9, split_files=SplitFiles(train="a", val="b", test="c")),
        Tuning(model="tiny", n_samples=3, top_k=(None, 4), temperature=(0.5, 1.0)),
        Regression(n_fields=(1, 2), fit=StartFit(steps=3)),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_settings_survive_a_command_line(settings):
    assert settings_argument(type(settings), json.dumps(asdict(settings))) == settings


def test_missing_keys_have_their_defaults():
    assert settings_argument(Optimiser, '{"steps": 3}') == Optimiser(steps=3)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Optimiser, '{"step": 3, "steps": 3, "a": 1}', "Optimiser has no settings a, step$"),
        (Dataset, '{"n_shapes": 9, "split": {"trian": 1}}', "Split has no settings trian"),
        (Dataset, '{"n_shapes": 9, "split": {"train": 1.0}}', "Split: .* add up to 1.4"),
        (SplitFiles, '{"train": "a", "val": "b"}', "SplitFiles: .*'test'"),
        (Template, '{"n_shapes": 2}', "Template: kind one takes one shape"),
        (Template, '{"n_shapes": 2, "kind": "basis"}', "kind basis needs n_components >= 1"),
        (Template, '{"kind": "mean", "n_shapes": 2, "n_components": 3}', "has no n_components"),
        (Template, '{"kind": "reptile"}', "kind reptile learns from several shapes"),
        (Optimiser, "[1]", "expected a JSON object"),
    ],
)
def test_bad_settings_are_named(kind, text, message):
    with pytest.raises(InputError, match=message):
        settings_argument(kind, text)
