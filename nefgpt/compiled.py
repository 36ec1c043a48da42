"""Functions that numba compiles to machine code."""

import logging
from collections.abc import Callable

import numba
import numba.np.linalg

log = logging.getLogger(__name__)

# Sums may be regrouped, for vector registers; NaN and infinity keep their meaning.
MATH = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}


def _no_blas() -> None:
    raise ImportError("compiled functions multiply no matrices")


# Numba looks for SciPy's at the first call, which takes a sixth of a field's whole job.
numba.np.linalg.ensure_blas = _no_blas


def compiled(function: Callable, **options) -> Callable:
    """Compile at the first call, and keep the result on disk where a folder for it can be had.

    The function may run in several threads at once, so it must not write what another reads.

    Parameters
    ----------
    options : of numba.njit, before those of `MATH`.
    """
    options = {"nogil": True, **MATH, **options}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as error:  # neither the package's nor the user's folder is writable
        log.warning("%s is compiled anew in every process: %s", function.__name__, error)
        return numba.njit(function, **options)
