"""Settings of all tests."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The machines are shared: a slow example is no bug, and the same commit gives the same result.
settings.register_profile("nefgpt", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("nefgpt")
# Small steps are over before a second thread has begun; on a busy machine both then wait.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> Path:
    """A folder with two finished runs of toy size: results/airplanes and results/digits."""
    from tests.toys import AIRPLANES, DIGITS, finished

    folder = tmp_path_factory.mktemp("toys")
    for values in (AIRPLANES, DIGITS):
        finished(folder, values)
    return folder
