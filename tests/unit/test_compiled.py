"""Compiled functions work also where nothing can be kept on disk."""

import subprocess
import sys

import numba

from nefgpt.base import compiled


def test_without_a_folder_for_the_result(monkeypatch, caplog):
    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    real = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    with caplog.at_level("WARNING"):
        double = compiled.compiled(lambda x: 2 * x)
    assert double(3) == 6
    assert "compiled anew in every process" in caplog.text


def test_a_first_call_loads_no_linear_algebra():
    code = """
import sys
import numpy as np
from nefgpt.signals.parts import connected_parts
connected_parts(np.array([[0, 1, 2]]), 4)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "numba.np.arraymath" in loaded and "scipy.linalg" not in loaded
