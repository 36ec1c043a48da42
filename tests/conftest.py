"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# The machines are shared: a slow example is no bug, and the same commit gives the same result.
settings.register_profile("nefgpt", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("nefgpt")


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> Path:
    """A folder with two finished runs of toy size: results/airplanes and results/digits."""
    from tests.toys import AIRPLANES, DIGITS, finished

    folder = tmp_path_factory.mktemp("toys")
    for values in (AIRPLANES, DIGITS):
        finished(folder, values)
    return folder
