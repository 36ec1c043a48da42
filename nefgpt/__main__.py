"""The command `nefgpt`: what to do with a trained run, and the stages of one."""

import importlib
import sys

from nefgpt.base import cli
from nefgpt.stages import COMMANDS, FILES, STAGES


def overview() -> str:
    """What `nefgpt --help` says."""
    width = max(map(len, [*FILES, *COMMANDS, *STAGES]))
    lines = ["usage: nefgpt COMMAND ...", "", "Each has --help."]
    for heading, commands in (("With any files:", FILES), ("With a trained run:", COMMANDS)):
        lines += ["", heading, ""]
        lines += [f"  {name:<{width}}  {command.does}" for name, command in commands.items()]
    lines += ["", "The stages of a run, which Snakemake calls:"]
    for room in dict.fromkeys(stage.room for stage in STAGES.values()):
        lines += ["", f"{room}:"]
        some = [(name, stage) for name, stage in STAGES.items() if stage.room == room]
        lines += [f"  {name:<{width}}  {stage.does}" for name, stage in some]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command or stage that is named; it alone is loaded."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return
    name = words[0]
    entry = (FILES | COMMANDS | STAGES).get(name)
    if entry is None:
        sys.exit(f"error: nefgpt has no command {name!r}; nefgpt --help lists them")
    sys.argv = [f"nefgpt {name}", *words[1:]]  # argparse takes the program's name from here
    cli.run(importlib.import_module(f"nefgpt.{entry.module}").main)


if __name__ == "__main__":
    main()
