"""The command `nefgpt`: every stage is there, says what it takes, and loads no other."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nefgpt.__main__ import overview
from nefgpt.stages import COMMANDS, FILES, STAGES

ROOT = Path(__file__).parents[2]


def nefgpt(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nefgpt", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("name", [*FILES, *COMMANDS, *STAGES])
def test_every_command_says_what_it_takes(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"nefgpt {name}", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"nefgpt.{(FILES | COMMANDS | STAGES)[name].module}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nefgpt {name} ")


def test_the_overview_names_every_command_and_loads_none():
    done = nefgpt("--help")
    assert done.returncode == 0 and done.stdout == overview()
    listed = re.findall(r"^  (\w+)  +\S", done.stdout, re.M)
    called = [*FILES, *COMMANDS]
    assert listed[: len(called)] == called, "what people call comes first"
    assert sorted(listed[len(called) :]) == sorted(STAGES)
    assert len({*called, *STAGES}) == len(called) + len(STAGES)
    code = "import sys; sys.argv = ['nefgpt']; from nefgpt.__main__ import main; main();"
    code += "sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=100)
    assert done.returncode == 0


def test_unknown_commands_and_bad_input_end_in_one_line():
    assert nefgpt("fitt").stderr == (
        "error: nefgpt has no command 'fitt'; nefgpt --help lists them\n"
    )
    done = nefgpt("config", "nowhere.yaml")
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_rules_name_stages_that_there_are():
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for words in re.findall(r'"python -m nefgpt ([^"]*)', path.read_text()):
            assert words.split()[0] in STAGES, words
