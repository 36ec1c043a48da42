"""The rooms of the package: each imports only from itself and from those before it."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nefgpt"
ROOMS = (
    "base",
    "inputs",
    "fields",
    "signals",
    "fitting",
    "generators",
    "evaluation",
    "config",  # a module: its blocks are of the rooms before it
    "report",
    "runs",
)
EVERYWHERE = {"stages"}  # what every room may ask


def names_imported(text: str) -> set[str]:
    """Dotted names below `nefgpt` that a module imports, in functions and by importlib too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        # importlib.import_module("nefgpt.signals.shapes"), or with an f-string's first part.
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.add(ast.unparse(node.args[0]).strip("f'\""))
    return {name.removeprefix("nefgpt.") for name in found if name.startswith("nefgpt.")}


def upward(room: str, text: str) -> list[str]:
    """Imports that a module of a room may not have."""
    allowed = EVERYWHERE | set(ROOMS[: ROOMS.index(room) + 1])
    return [name for name in names_imported(text) if re.split(r"[.{]", name)[0] not in allowed]


def test_no_room_imports_from_a_later_one():
    paths = [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem in ROOMS]
    assert len(paths) > 50
    found = {}
    for path in paths:
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if wrong := upward(room, path.read_text()):
            found[str(path)] = wrong
    assert not found


def test_there_are_no_other_rooms():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/*.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert folders | modules == EVERYWHERE | set(ROOMS)


def test_upward_imports_are_seen_wherever_they_are():
    for text in (
        "from nefgpt.report import page",
        "import nefgpt.report.page",
        "from nefgpt import report",
        "def f():\n    from nefgpt.report.page import build",
        "importlib.import_module('nefgpt.report.page')",
        "import_module(f'nefgpt.report.{name}')",
        "import_module(f'nefgpt.{name}')",
        "if TYPE_CHECKING:\n    from nefgpt.report.page import build",
    ):
        assert upward("signals", text), text
    for text in (
        "from nefgpt.base import cli",
        "import numpy",
        "from nefgpt.stages import VERSIONS",
    ):
        assert not upward("signals", text), text
