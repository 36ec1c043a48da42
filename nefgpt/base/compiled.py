"""Functions that numba compiles to machine code, and the threads that run them."""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
from numba.np import linalg

log = logging.getLogger(__name__)

# Sums may be regrouped, for vector registers; NaN and infinity keep their meaning.
MATH = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}


def _load_without_scipy() -> None:
    """Load what numba loads at the first call, which else looks for SciPy's BLAS.

    To load SciPy takes a sixth of a field's whole job. It is there, as this package needs it.
    """
    look, linalg.ensure_blas = linalg.ensure_blas, lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = look


_load_without_scipy()


def _stamp(path: str) -> tuple:
    """What changes with the files that a compiled function is made from."""
    paths = [Path(path), *map(Path(__file__).with_name, ("compiled.py", "vectors.py"))]
    return tuple((s.st_mtime, s.st_size) for s in map(Path.stat, paths))


def compiled(function: Callable, **options) -> Callable:
    """Compile at the first call, and keep the result on disk where a folder for it can be had.

    The function may run in several threads at once, so it must not write what another reads.

    Parameters
    ----------
    options : of numba.njit, before those of `MATH`.
    """
    options = {"nogil": True, **MATH, **options}
    try:
        made = numba.njit(function, cache=True, **options)
        # numba itself looks at the function's own file alone.
        made._cache._cache_file._source_stamp = _stamp(function.__code__.co_filename)
        return made
    except RuntimeError as error:  # neither the package's nor the user's folder is writable
        log.warning("%s is compiled anew in every process: %s", function.__name__, error)
        return numba.njit(function, **options)


def threads() -> int:
    """Threads to compute with: as many as OpenMP is told to use (Snakemake does), or one a core."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(told), 1) if told.isdecimal() else numba.config.NUMBA_NUM_THREADS


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads beside the one that calls; to start them takes longer than a small step."""
    return ThreadPoolExecutor(count - 1)


def in_threads(work: Callable[[slice], None], n: int) -> None:
    """Share `n` rows among the `threads`."""
    most = threads()
    count = min(most, n)
    cuts = np.linspace(0, n, count + 1).astype(int)
    mine, *others = map(slice, cuts[:-1], cuts[1:])
    waiting = [_pool(most).submit(work, part) for part in others]
    work(mine)
    for future in waiting:
        future.result()
