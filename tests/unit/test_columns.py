"""What is called better is better."""

import numpy as np
import pytest

from nefgpt.config import validate
from nefgpt.evaluation.columns import COLUMNS, Column
from nefgpt.generators import rows
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
    found = validate(dict(TINY)).rows
    assert [row for row, _ in found] == [*rows.RESERVED[:1], *rows.RESERVED[2:], "tiny"]
