"""What the commands of people have in common."""

import argparse
import textwrap
from pathlib import Path

from nefgpt.runs.field import SIZES, NeuralField, within
from nefgpt.runs.run import Run
from nefgpt.runs.write import FORMATS, check_new

VALUES = ("temperature", "top_k", "top_p", "guidance")  # of sampling, instead of a setting


def parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A command's parser, with examples below its options."""
    return argparse.ArgumentParser(
        description=description,
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """The run, which comes first."""
    parser.add_argument("run", metavar="RUN", help="folder of results, or an exported model")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How fields are sampled."""
    some = parser.add_argument_group("sampling")
    some.add_argument("--model", help="one of the run's; the one with the least loss on val")
    some.add_argument("--setting", help="one of the run's sampling settings, instead of values:")
    some.add_argument("--temperature", type=float, help="1 when neither is given; 0 is greedy")
    some.add_argument("--top-k", type=int, help="keep the k most probable codes")
    some.add_argument("--top-p", type=float, help="keep the most probable codes up to mass p")
    some.add_argument("--guidance", type=float, help="of a model with classes, towards the class")
    some.add_argument("--class", dest="label", type=int, help="of all; else all classes in turn")
    some.add_argument("--seed", type=int, default=0, help="the same seed, the same samples (0)")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Where files go, and what they are."""
    some = parser.add_argument_group("files")
    some.add_argument("--out", type=Path, required=True, help="a new folder")
    some.add_argument("--format", choices=FORMATS, default="glb", help="of meshes (glb)")
    help = "grid samples per axis of a mesh (256); pixels of an image (as the run's)"
    some.add_argument("--resolution", type=int, help=help)


def resolution_of(args: argparse.Namespace, run: Run) -> int | None:
    """Grid samples per axis, or pixels; None: as the run's images.

    Raises
    ------
    InputError
        before anything is computed, when it is out of range or `args.out` holds files.
    """
    check_new(args.out)
    if args.resolution is not None:
        within("--resolution", args.resolution, *SIZES[run.config.signals])
    return 256 if args.resolution is None and run.size is None else args.resolution


def sampling_of(args: argparse.Namespace) -> dict:
    """Keywords of `Run.sample` that `add_sampling` reads."""
    return {name: getattr(args, name) for name in ("model", "setting", "label", "seed", *VALUES)}


def title_of(run: Run, args: argparse.Namespace) -> str:
    """What a contact sheet's samples are of."""
    given = [args.setting] if args.setting else []
    given += [
        f"{n.replace('_', '-')} {getattr(args, n):g}"
        for n in VALUES
        if getattr(args, n) is not None
    ]
    label = [] if args.label is None else [f"class {args.label}"]
    words = [run.config.name, run.chosen_model(args.model), *given, *label, f"seed {args.seed}"]
    return ", ".join(words)


def outcome(fields: list[NeuralField], rows: list[dict], folder: Path) -> str:
    """One line on what was written."""
    empty = sum(not row["valid"] for row in rows)
    ending = f", {empty} of them empty" if empty else ""
    return f"{len(fields)} fields in {folder}{ending}\n"
