"""Functions that run as machine code, and the threads that run them.

To load numba takes longer than to fit a field. So it is loaded to compile only: what it made is
kept on disk, and LLVM alone runs it. A module names such functions and what they take; the module
of its name and `_kernels` defines them, and is imported to compile them.
"""

import ctypes
import functools
import hashlib
import importlib.util
import operator
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# Sums may be regrouped, for vector registers; NaN and infinity keep their meaning.
MATH = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}
# What machine code is made from, beside the module that names a function and that of the kernels.
SOURCES = tuple(f"nefgpt.base.{name}" for name in ("compiled", "compiling", "registers", "vectors"))
_LOADING = threading.Lock()


class Array(NamedTuple):
    """A C-contiguous array, as a compiled function takes it."""

    dtype: np.dtype
    ndim: int


F1, F2, F3 = (Array(np.dtype(np.float32), n) for n in (1, 2, 3))
D1, D2 = (Array(np.dtype(np.float64), n) for n in (1, 2))
I1, I2 = (Array(np.dtype(np.int64), n) for n in (1, 2))
B3 = Array(np.dtype(np.bool_), 3)


class Compiled:
    """A function that is compiled at its first call, unless its machine code is kept.

    Several threads may run it at once, so it must not write what another reads, and it allocates
    nothing: work memory is among its arguments. It returns nothing, or an integer.

    Parameters
    ----------
    module : the one that names it; `<module>_kernels` defines it.
    kinds : what it takes, each an `Array`, int, float, or a tuple of these.
    """

    def __init__(self, module: str, name: str, *kinds: object) -> None:
        self.module, self.name, self.kinds = module, name, kinds
        # numba's own convention: where the result goes, where an exception goes, the arguments.
        self.words = [ctypes.c_void_p, ctypes.c_void_p, *_words(kinds)]
        self._run = None

    def __call__(self, *arguments) -> int:
        if self._run is None:
            with _LOADING:
                self._run = self._run or self._load()
        result, problem = ctypes.c_int64(), ctypes.c_void_p()
        words = [ctypes.byref(result), ctypes.byref(problem)]
        self._add(words, self.kinds, arguments)
        if status := self._run(*words):
            raise RuntimeError(f"{self.name} failed with numba's status {status}")
        return result.value

    def _add(self, words: list, kind: object, value: object) -> None:
        """Add an argument to the `words`, which are of the types that `_words` says."""
        if isinstance(kind, Array):
            fits = isinstance(value, np.ndarray) and (value.dtype, value.ndim) == kind
            if not (fits and value.flags.c_contiguous and value.flags.aligned):
                found = getattr(value, "dtype", type(value)), getattr(value, "shape", ())
                raise TypeError(f"{self.name} takes a C-contiguous {kind}, and got {found}")
            words += None, None, value.size, value.itemsize, value.ctypes.data
            words += value.shape
            words += value.strides
        elif isinstance(kind, tuple):
            for inner, part in zip(kind, value, strict=True):
                self._add(words, inner, part)
        else:
            words.append(operator.index(value) if kind is int else float(value))

    def _load(self) -> Callable:
        modules = self.module, f"{self.module}_kernels", *SOURCES
        key = b"\0".join([_processor(), repr(self.kinds).encode(), *map(_source, modules)])
        file = f"{self.module}.{self.name}-{hashlib.sha256(_processor()).hexdigest()[:16]}.code"
        found = next(filter(None, (read(folder / file, key) for folder in folders())), None)
        if found is None:
            from nefgpt.base import compiling

            found = compiling.compile_and_keep(self, file, key)
        # An engine for each: in a common one, what two functions share would be the first's copy.
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(found[1]))
        self.engine.finalize_object()
        address = self.engine.get_function_address(found[0])
        return ctypes.CFUNCTYPE(ctypes.c_int32, *self.words)(address)


def _words(kind: object) -> list:
    """The types of C that stand for an argument: numba takes arrays and tuples in their parts."""
    if isinstance(kind, Array):
        pointer, word = ctypes.c_void_p, ctypes.c_int64
        # Its memory's owner (none), its Python object (none), its size, its numbers, its layout.
        return [pointer, pointer, word, word, pointer, *[word] * (2 * kind.ndim)]
    if isinstance(kind, tuple):
        return [word for part in kind for word in _words(part)]
    return [{int: ctypes.c_int64, float: ctypes.c_double}[kind]]


@functools.cache
def _source(module: str) -> bytes:
    return Path(importlib.util.find_spec(module).origin).read_bytes()


@functools.cache
def _processor() -> bytes:
    """Processor, compiler and settings: what machine code is for."""
    numba = importlib.util.find_spec("numba").origin  # to look up its version takes 17 ms
    versions = numba, os.stat(numba).st_mtime_ns, llvmlite.__version__, np.__version__
    unlike = {"NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR"}  # make no other code
    names = sorted(name for name in os.environ if name.startswith("NUMBA_") and name not in unlike)
    own = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    python = sys.implementation.cache_tag, __file__
    return repr((python, versions, own, [(name, os.environ[name]) for name in names])).encode()


def folders() -> list[Path]:
    """Where machine code is kept: in the first of them that can be written."""
    if told := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(told)]
    own = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nefgpt")
    beside = Path(__file__).with_name("__pycache__")
    return [beside, own] if own.is_absolute() else [beside]  # a user may have no home


def read(path: Path, key: bytes) -> tuple[str, bytes] | None:
    """A function's name in its machine code, and that; None where none was made from `key`."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if content[:32] != hashlib.sha256(key + content[32:]).digest():
        return None
    symbol, _, code = content[32:].partition(b"\0")
    return symbol.decode(), code


def threads() -> int:
    """Threads to compute with: as many as OpenMP is told to use (Snakemake does), or one a core."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if told.isdecimal():
        return max(int(told), 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache
def _pool(count: int) -> "ThreadPoolExecutor":
    """Threads beside the one that calls; to start them takes longer than a small step."""
    from concurrent.futures import ThreadPoolExecutor  # most jobs have one thread

    return ThreadPoolExecutor(count - 1)


def in_threads(work: Callable[[slice], None], n: int) -> None:
    """Share `n` rows among the `threads`."""
    most = threads()
    count = max(1, min(most, n))
    cuts = np.linspace(0, n, count + 1).astype(int)
    mine, *others = map(slice, cuts[:-1], cuts[1:])
    waiting = [_pool(most).submit(work, part) for part in others]
    try:
        work(mine)
    finally:
        for future in waiting:
            future.result()
