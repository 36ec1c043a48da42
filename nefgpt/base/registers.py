"""The processor's vector registers, and the sizes that compiled functions take from them."""

import os

import llvmlite.binding as llvm


def _widest() -> int:
    """Floats in the widest vector register of the processor that numba compiles for."""
    told = os.environ.get("NUMBA_CPU_FEATURES")
    if told is None:  # a processor that is named has only what is named with it
        named = os.environ.get("NUMBA_CPU_NAME")
        told = "" if named else llvm.get_host_cpu_features().flatten()
    return 16 if "+avx512f" in told else 8 if "+avx" in told else 4


LANES = _widest()  # LLVM by itself stays at 256 bits where it could have 512
# What is kept in registers at a time; with the widest ones comes twice the number.
ROWS, VECTORS = (8, 2) if LANES == 16 else (4, 2)  # of `affine`: rows, and vectors of points
LEFT, RIGHT = {16: (4, 4), 8: (4, 2), 4: (2, 2)}[LANES]  # of `outer`
CLOSE = 4 if LANES == 16 else 2  # points of `nearest`
BLOCK = 256  # points; of 128 to 512 the fastest, or near it, for fields of 16 to 32 units
STEP = VECTORS * LANES  # points that `affine` takes at a time
