"""Compile the functions of `nefgpt.base.compiled`, and keep their machine code on disk."""

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import numba
from numba import types

from nefgpt.base.compiled import Array, Compiled, folders, read
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, check_writable

log = logging.getLogger(__name__)

# Nothing of numba may be needed to run them: neither its reference counts nor Python's objects.
_ALONE = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _type(kind: object) -> types.Type:
    if isinstance(kind, Array):
        return types.Array(numba.from_dtype(kind.dtype), kind.ndim, "C")
    if isinstance(kind, tuple):
        return types.BaseTuple.from_types([_type(part) for part in kind])
    return {int: types.int64, float: types.float64}[kind]


def machine_code(function: Compiled) -> tuple[str, bytes]:
    """Compile a function: its name in the object code, and that.

    Raises
    ------
    RuntimeError
        when it cannot be called as `Compiled` does, or needs what only numba has.
    """
    plain = getattr(importlib.import_module(f"{function.module}_kernels"), function.name)
    made = numba.jit(plain.py_func, **plain.targetoptions, **_ALONE)
    kinds = tuple(map(_type, function.kinds))
    result = made._compiler.compile(kinds, None)
    words = result.target_context.get_arg_packer(kinds).argument_types
    known = {"i64": ctypes.c_int64, "double": ctypes.c_double}
    taken = [known.get(str(word), ctypes.c_void_p) for word in words]
    returned = result.signature.return_type
    if taken != function.words[2:] or returned not in (types.none, types.int64):
        raise RuntimeError(f"{function.name} takes {taken} and returns {returned}")
    module, process = llvm.parse_assembly(result.library.get_llvm_str()), ctypes.CDLL(None)
    parts = [part for part in (*module.functions, *module.global_variables) if part.is_declaration]
    needed = [part.name for part in parts if not part.name.startswith("llvm.")]
    if missing := [name for name in needed if not hasattr(process, name)]:
        raise RuntimeError(f"{function.name} needs {missing}, which only numba has")
    return result.fndesc.llvm_func_name, result.library._get_compiled_object()


@functools.cache
def _folder() -> Path | None:
    """Where machine code can be kept; says so once where nowhere."""
    problem = None
    for folder in folders():
        try:
            check_writable(folder)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        except (InputError, OSError) as error:
            problem = error
    log.warning("functions are compiled anew in every process: %s", problem)
    return None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another process that compiles; where files have no locks both may."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stream = stack.enter_context((folder / "nefgpt.lock").open("a"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def compile_and_keep(function: Compiled, file: str, key: bytes) -> tuple[str, bytes]:
    """Compile a function and keep what `read` finds; another process may have been quicker."""
    folder = _folder()
    if folder is None:
        return machine_code(function)
    with _alone(folder):
        if found := read(folder / file, key):
            return found
        symbol, code = machine_code(function)
        content = symbol.encode() + b"\0" + code
        try:
            with atomic_path(folder / file) as temporary:
                temporary.write_bytes(hashlib.sha256(key + content).digest() + content)
        except InputError as error:
            log.warning("%s is compiled anew in every process: %s", function.name, error)
    return symbol, code
