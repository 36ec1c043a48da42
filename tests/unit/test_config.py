import json
from dataclasses import asdict
from pathlib import Path

import pytest

from nefgpt.base.errors import InputError
from nefgpt.config import load, main, validate

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path):
    assert load(path).name


def test_the_schema_is_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["config", "--schema", str(tmp_path / "schema.json")])
    main()
    stored = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert stored == json.loads((tmp_path / "schema.json").read_text())


@pytest.mark.parametrize(
    ("block", "key", "value", "message"),
    [
        ("fit", "step", 3, "fit.step: unknown key"),
        ("fit", "steps", 0, "fit.steps = 0"),
        ("sdf", "backend", "magic", "sdf.backend = 'magic'"),
        ("dataset", "n_shapes", None, "needs n_shapes"),
        ("field", "mirror", 3, "field.mirror = 3"),
        ("field", "mirror", False, "field = .*: mirror = False: give a coordinate"),
    ],
)
def test_bad_values_are_named(block, key, value, message):
    values = asdict(load(ROOT / "config/config.yaml"))
    values[block][key] = value
    with pytest.raises(InputError, match=message):
        validate(values)


def test_images_have_no_third_coordinate_to_mirror():
    values = asdict(load(ROOT / "config/digits.yaml"))
    values["field"]["mirror"] = 2
    with pytest.raises(InputError, match="mirror = 2: there are 2"):
        validate(values)
