"""Writing: what a disk refuses is named, and what killed jobs left is found."""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from nefgpt.base import files
from nefgpt.base.errors import InputError


def failing(path, error: Exception) -> None:
    with files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_refusing_disk_is_named(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match=r"cannot write .*x\.npz: .*No space left on device"):
        failing(tmp_path / "x.npz", full)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/x\.npz"):
        failing(tmp_path / "file" / "x.npz", full)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_writers_that_hide_the_reason(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"):
        failing(tmp_path / "x.pt", RuntimeError("a bug"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(InputError, match=r"cannot write .*x\.pt: the disk is full"):
        failing(tmp_path / "x.pt", RuntimeError("unexpected pos 64 vs 0"))
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(InputError, match=r"cannot write .*x\.npy: the disk is full"),
        files.atomic_path(tmp_path / "x.npy"),
    ):
        raise OSError("8192 requested and 4096 written")  # as numpy says it


def test_only_unfinished_files_are_removed(tmp_path):
    (tmp_path / "a").mkdir()
    kept = [".gitignore", "x.npz", "a/.hidden.json", "a/x-abcdefgh.npz"]
    for name in kept:
        (tmp_path / name).touch()
    finished = [tmp_path / "a/x y-1.2.safetensors", tmp_path / "log"]
    with files.atomic_path(finished[0]) as one, files.atomic_path(finished[1]) as two:
        files.remove_unfinished(tmp_path)
        assert not one.exists() and not two.exists()
        one.touch()
        two.touch()
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*finished, *(tmp_path / name for name in kept)}


def test_unwritable_folders_are_named(tmp_path):
    files.check_writable(tmp_path / "not" / "there" / "yet")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot write to /proc: "):
        files.check_writable("/proc/none")


def test_files_of_the_future_are_found(tmp_path):
    path = tmp_path / "a" / "b"
    path.parent.mkdir()
    path.touch()
    assert files.clock_advice(tmp_path) is None
    os.utime(path, (time.time() + 1000,) * 2)
    assert files.clock_advice(tmp_path).endswith(f"find {tmp_path} -newermt now -exec touch {{}} +")
