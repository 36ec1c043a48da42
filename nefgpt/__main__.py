"""The command `nefgpt`: one subcommand a stage."""

import importlib
import sys

from nefgpt.base import cli
from nefgpt.stages import STAGES


def overview() -> str:
    """What `nefgpt --help` says."""
    lines = ["usage: nefgpt STAGE ...", "", "The stages, each with --help:"]
    width = max(map(len, STAGES))
    for room in dict.fromkeys(stage.room for stage in STAGES.values()):
        lines += ["", f"{room}:"]
        some = [(name, stage) for name, stage in STAGES.items() if stage.room == room]
        lines += [f"  {name:<{width}}  {stage.does}" for name, stage in some]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the stage that is named; it alone is loaded."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return
    name = words[0]
    if name not in STAGES:
        sys.exit(f"error: nefgpt has no stage {name!r}; nefgpt --help lists them")
    sys.argv = [f"nefgpt {name}", *words[1:]]  # argparse takes the program's name from here
    cli.run(importlib.import_module(f"nefgpt.{STAGES[name].module}").main)


if __name__ == "__main__":
    main()
