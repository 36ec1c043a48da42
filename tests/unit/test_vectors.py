"""Vector instructions against exact functions, on every width that this processor has."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.special import expit, ndtr

from nefgpt.base import vectors
from nefgpt.base.vectors import BLOCK, LANES

ROOT = Path(__file__).parents[2]
X = np.concatenate([np.linspace(-12, 12, BLOCK - 8), [-1e6, -1e-30, 0, 1e-40, 1e-3, 87, 1e6, 2e9]])
X = X.astype(np.float32)


def with_slope(function):
    @numba.njit
    def run(values, slopes):
        for p in range(0, BLOCK, LANES):
            function(values, 0, p, slopes)

    values, slopes = X[None].copy(), np.zeros((1, BLOCK), np.float32)
    run(values, slopes)
    return values[0].astype(float), slopes[0].astype(float)


def elementwise(function):
    @numba.njit
    def run(values):
        for p in range(0, BLOCK, LANES):
            function(values, p)

    values = X.copy()
    run(values)
    return values.astype(float)


def test_activations_are_exact():
    x = X.astype(float)
    size = np.maximum(1, np.abs(x))
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    for function, value, slope in (
        (vectors.gelu, x * ndtr(x), ndtr(x) + x * density),
        (vectors.silu, x * expit(x), expit(x) * (1 + x * (1 - expit(x)))),
        (vectors.relu, np.maximum(x, 0), x > 0),
    ):
        values, slopes = with_slope(function)
        assert np.max(np.abs(values - value) / size) < 4e-7
        assert np.max(np.abs(slopes - slope)) < 1e-6
    assert np.max(np.abs(elementwise(vectors.tanh) - np.tanh(x))) < 3e-7
    assert np.max(np.abs(elementwise(vectors.sigmoid) - expit(x))) < 3e-7


@numba.njit
def _halved(value, flushed):
    mode = vectors.flush_subnormals() if flushed else np.int32(0)
    value[0] *= np.float32(0.5)
    if flushed:
        vectors.restore_mode(mode)
    return mode


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"),
    reason="how other processors flush subnormal numbers is not known here",
)
def test_subnormal_numbers_are_zero_where_told_and_nowhere_else():
    for flushed, expected in ((False, 5e-41), (True, 0.0), (False, 5e-41)):
        value = np.array([1e-40], np.float32)
        _halved(value, flushed)
        assert value[0] == np.float32(expected)


# Narrower registers than this processor's widest are those of others.
NARROWER = {"8": ("haswell", "+avx,+avx2,+fma"), "4": ("nehalem", "+sse4.2")}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86 names")
@pytest.mark.parametrize("lanes", NARROWER)
def test_other_widths_compute_the_same(lanes, tmp_path):
    if int(lanes) >= LANES:
        pytest.skip("this processor has no wider registers")
    name, features = NARROWER[lanes]
    told = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    told["NUMBA_CACHE_DIR"] = str(tmp_path)
    code = f"from nefgpt.base.vectors import LANES; import sys; sys.exit(LANES != {lanes})"
    words = "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_fused.py"
    more = "tests/unit/test_metrics.py", "tests/unit/test_vectors.py", "-m", "not slow"
    for command in (("-c", code), (*words, *more)):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | told,
            text=True,
            capture_output=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
