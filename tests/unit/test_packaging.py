"""What is installed: every module, and what the page is made of."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".html", ".css", ".js"}


def test_a_wheel_holds_the_whole_package(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nefgpt", tmp_path / "nefgpt", ignore=ignored)
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as stored:
        held = {name for name in stored.namelist() if name.startswith("nefgpt/")}
    files = [path for path in (ROOT / "nefgpt").rglob("*") if path.suffix in SUFFIXES]
    assert held == {str(path.relative_to(ROOT)) for path in files}
    page = "page.html", "page.js", "style.css", "viewer.js"
    assert {f"nefgpt/report/{name}" for name in page} <= held
