"""Compiled functions: numba's own results without numba, and no code that does not fit."""

import ast
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from nefgpt.base import compiled, compiling
from nefgpt.base.errors import InputError
from nefgpt.fields import fused
from nefgpt.fields.fits import Batch, Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.generators.gpt import codebook
from nefgpt.signals import chamfer, parts, surface

PACKAGE = Path(compiled.__file__).parents[1]
MODULES = fused, chamfer, surface, parts, codebook
FUNCTIONS = [
    function
    for module in MODULES
    for function in vars(module).values()
    if isinstance(function, compiled.Compiled)
]


def some_work() -> list[np.ndarray]:
    """Results of every compiled function."""
    rng = np.random.default_rng(0)
    spec = FieldSpec(hidden=(9, 17), mirror=0)
    free = np.stack([random_weights(spec, i) for i in range(3)])
    points = rng.random((3, 300, 3), np.float32) - np.float32(0.5)
    target = rng.random((3, 300), np.float32) - np.float32(0.5)
    chosen, rows = rng.integers(300, size=(60, 280)), np.arange(3)
    basis = rng.normal(size=(4, spec.n_weights)).astype(np.float32)
    results = [fused.values(spec, free[0], points[0])]
    batch = Batch(points, target, rows, chosen[0])
    results += fused.gradients(spec, free, Space(free[0]), batch, "l1")
    for schedule, start, some in (("cosine", free, None), ("plateau", free[:, :4], basis)):
        settings = Optimiser(loss="mse", pull=0.01, averaging=0.9, schedule=schedule)
        fits = fused.Fit(spec, points, target, start, Space(free[0], some), settings)
        fits.advance(chosen, np.linspace(1, 0.1, 60))
        results += [part for part in fits.result() if part is not None]
    results.append(surface.evaluate_near(spec, free[1], 40, 0.01))
    clouds = rng.normal(size=(9, 70, 3)).astype(np.float32)
    results += chamfer.both_nearest(clouds[0], clouds[1])
    results += [chamfer.chamfer_matrix(clouds), *chamfer.nearest_clouds(clouds[:2], clouds[2:], 3)]
    results += parts.connected_parts(rng.integers(50, size=(20, 3)), 50)
    return [*map(np.asarray, results), codebook.fit_codes(rng.normal(size=500), 16)]


def by_numba(path: str) -> None:
    """Write what numba itself computes, with its own cache; called in a process of its own."""
    called = set()
    for function in FUNCTIONS:
        plain = getattr(importlib.import_module(f"{function.module}_kernels"), function.name)
        again = numba.jit(plain.py_func, cache=True, **plain.targetoptions)

        def run(*arguments, again=again, function=function):
            called.add(function)
            return again(*arguments)

        setattr(sys.modules[function.module], f"_{function.name}", run)
    np.savez(path, *some_work())
    assert called == set(FUNCTIONS)


def test_results_are_those_of_numba(tmp_path):
    """Bit for bit.

    A process in which numba compiles joins the parts of functions that it has compiled one by one,
    whose sums are grouped otherwise than where they are compiled together; so the second counts.
    """
    code = f"import test_compiled; test_compiled.by_numba({str(tmp_path / 'found.npz')!r})"
    for _ in range(2):
        process = start(tmp_path, code, package=f"{PACKAGE.parent}:{Path(__file__).parent}")
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    with np.load(tmp_path / "found.npz") as found:
        for ours, theirs in zip(some_work(), found.values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


WORK = """
import logging, sys
logging.basicConfig(format="%(message)s")
import numpy as np
from nefgpt.signals.parts import connected_parts
count, part = connected_parts(np.array([[0, 1, 2]]), 4)
assert (count, part.tolist()) == (2, [0, 0, 0, 1])
print("numba" in sys.modules)
"""


def start(folder: Path, code: str = WORK, package: Path | str = PACKAGE.parent, **told: str):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(package)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment | told,
        cwd=os.sep,  # Python looks for packages there first
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def compiles(folder: Path, **told) -> bool:
    """Whether a process that finds connected parts has to load numba for it."""
    process = start(folder, **told)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert error == ""
    return out == "True\n"


def kept(folder: Path) -> Path:
    (path,) = folder.glob("nefgpt.signals.parts.parts-*.code")
    return path


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A folder with the machine code of `parts`."""
    folder = tmp_path_factory.mktemp("warm")
    assert compiles(folder)
    return folder


def test_what_is_kept_needs_no_numba(warm):
    assert not compiles(warm)


def test_other_processors_and_settings_have_code_of_their_own(warm, tmp_path):
    shutil.copytree(warm, tmp_path, dirs_exist_ok=True)
    assert compiles(tmp_path, NUMBA_CPU_FEATURES="")
    assert compiles(tmp_path, NUMBA_CPU_NAME="generic")
    assert compiles(tmp_path, NUMBA_OPT="1")
    assert len(list(tmp_path.glob("*.code"))) == 4
    assert not compiles(tmp_path) and not compiles(tmp_path, NUMBA_CPU_NAME="generic")
    assert not compiles(tmp_path, NUMBA_NUM_THREADS="1"), "makes no other code"


def test_other_features_and_versions_are_another_processor(monkeypatch):
    def processor() -> bytes:
        compiled._processor.cache_clear()
        return compiled._processor()

    own = processor()
    assert processor() == own
    for change in (
        lambda patch: patch.setattr(compiled.llvm, "get_host_cpu_name", lambda: "another"),
        lambda patch: patch.setattr(
            compiled.llvm, "get_host_cpu_features", lambda: compiled.llvm.targets.FeatureMap()
        ),
        lambda patch: patch.setattr(numba.__spec__, "origin", __file__),
        lambda patch: patch.setattr(compiled.llvmlite, "__version__", "0.0"),
        lambda patch: patch.setenv("NUMBA_CPU_FEATURES", "+sse2"),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            assert processor() != own
    assert processor() == own


@pytest.mark.parametrize(
    "source",
    ["signals/parts", "signals/parts_kernels", "base/vectors", "base/compiled", "base/compiling"],
)
def test_code_of_a_changed_source_is_not_used(source, tmp_path):
    package, folder = tmp_path / "nefgpt", tmp_path / "kept"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert compiles(folder, package=tmp_path) and not compiles(folder, package=tmp_path)
    with (package / f"{source}.py").open("a") as stream:
        stream.write("# changed\n")
    assert compiles(folder, package=tmp_path) and not compiles(folder, package=tmp_path)
    kept(folder)


def test_functions_are_made_from_known_sources_alone():
    """What a change of would go unseen: `SOURCES` is short."""
    for function in FUNCTIONS:
        path = PACKAGE.parent / f"{function.module.replace('.', '/')}_kernels.py"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("nefgpt"):
                assert node.module in {*compiled.SOURCES, function.module}


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_broken_code_is_compiled_anew(damage, warm, tmp_path):
    shutil.copytree(warm, tmp_path, dirs_exist_ok=True)
    path = kept(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-9], "empty": b"", "flipped": content}[damage])
    assert compiles(tmp_path) and not compiles(tmp_path)


def test_without_a_folder_for_the_result(tmp_path):
    (tmp_path / "file").write_text("no folder\n")
    code = WORK + "compiled_again = connected_parts(np.array([[3, 1, 2]]), 5)\n"
    code += "from nefgpt.fields import fused, spec\n"
    code += "some = spec.FieldSpec(hidden=(2,))\n"
    code += "fused.values(some, spec.random_weights(some, 0), np.zeros((2, 3), np.float32))\n"
    process = start(tmp_path / "file" / "kept", code)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and out == "True\n"
    assert error.count("compiled anew in every process") == error.count("\n") == 1


def test_the_users_folder_where_the_packages_is_read_only(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.folders() == [PACKAGE / "base/__pycache__", tmp_path / "nefgpt"]
    monkeypatch.setattr(compiled, "folders", lambda: [Path("/dev/null/kept"), tmp_path / "kept"])
    monkeypatch.setattr(compiling, "folders", compiled.folders)
    compiling._folder.cache_clear()
    parts._parts._load()
    compiling._folder.cache_clear()
    assert kept(tmp_path / "kept").exists()


def test_a_disk_that_is_full_stops_nothing(monkeypatch, tmp_path, caplog):
    @contextlib.contextmanager
    def full(path):
        raise InputError("the disk is full")
        yield

    monkeypatch.setattr(compiling, "_folder", lambda: tmp_path)
    monkeypatch.setattr(compiling, "atomic_path", full)
    found = compiling.compile_and_keep(parts._parts, "file", b"key")
    assert len(found[1]) > 1000 and "anew in every process: the disk is full" in caplog.text


def test_two_first_processes_compile_once(tmp_path):
    code = "import nefgpt.base.compiling as c; made = c.machine_code\n"
    code += "c.machine_code = lambda f: (print(f.name), made(f))[1]\n" + WORK
    both = [start(tmp_path, code) for _ in range(2)]
    outs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert "".join(out for out, _ in outs).count("parts\n") == 1
    assert not compiles(tmp_path)


def test_arguments_that_do_not_fit_are_refused():
    for faces in (np.zeros((3, 3), np.int32), np.zeros((3, 3), int).T[:2].T, [[0, 1, 2]]):
        with pytest.raises(TypeError, match=r"parts takes a C-contiguous Array.*int64.*2"):
            parts._parts(faces, np.arange(3), np.empty(3, np.int64))


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (lambda a: len(np.zeros(len(a))), "Only accept returning of array passed"),
        (lambda a: (print(len(a)), len(a))[1], r"lengths needs \[.*numba_gil_ensure"),  # noqa: T201
    ],
)
def test_a_function_that_needs_more_than_itself_is_refused(definition, reason, monkeypatch):
    module = type(sys)("some_kernels")
    module.lengths = numba.njit(definition)
    monkeypatch.setitem(sys.modules, "some_kernels", module)
    function = compiled.Compiled("some", "lengths", compiled.F1)
    with pytest.raises((numba.core.errors.NumbaError, RuntimeError), match=reason):
        compiling.machine_code(function)
