"""What is called better is better."""

import numpy as np
import pytest

from nefgpt.config import validate
from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.generators.kind import KINDS
from nefgpt.generators.rows import RESERVED
from tests.workflow.running import TINY


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("1-NNA %", 51.0, 44.0), ("1-NNA %", 49.0, 60.0), ("COV %", 60.0, 50.0), ("MMD x100", 2, 3)],
)
def test_better_is_better(name, better, worse):
    assert COLUMNS[name].worse(better) < COLUMNS[name].worse(worse)
    assert np.isnan(COLUMNS[name].worse(np.nan))


def test_headings_point_to_the_best():
    assert COLUMNS["1-NNA %"].heading == "1-NNA % → 50"
    assert COLUMNS["COV %"].heading == "COV % ↑"
    assert Column("a", "a").heading == "a"


def test_the_ladder_comes_before_the_generators():
    config = validate(dict(TINY))
    methods = [row.method for row in config.rows]
    assert methods == [*RESERVED[2:3], *RESERVED[4:7], "tiny"]
    several = {"mixture", "noise", "averages", "diffusion"}  # a row for each entry
    assert [row.kind for row in config.rows] == [None, *(k for k in KINDS if k not in several)]
    assert [row.method for row in config.sampled] == ["tiny", "gaussian"]


def test_rows_without_a_model_are_named_by_the_configuration():
    entries = {"noise": {"a": {}, "b": {"space": "weights", "scale": 0.1}}, "averages": {}}
    config = validate(TINY | entries)
    rows = [row for row in config.rows if row.kind in entries]
    assert [row[:2] for row in rows] == [("noise", "a"), ("noise", "b")]
    assert [config.sampling_of(row).scale for row in rows] == [0.4, 0.1]
