"""The command `nefgpt complete`: what the model continues the first tokens of a shape with."""

import dataclasses
import sys

from nefgpt.base.errors import InputError
from nefgpt.runs import options
from nefgpt.runs.run import open
from nefgpt.runs.write import new_folder, write

EXAMPLES = """
    nefgpt complete results/airplanes --tokens 2 --shape planes/0000.glb --n 7 --out ideas
    nefgpt complete airplanes.nefgpt --tokens 3 --shape mine.obj --temperature 1.2 --out more
    nefgpt complete results/digits --tokens 4 --shape seven.png --class 7 --out sevens-on
"""


def main() -> None:
    """Command line: keep the first codes of a shape, sample the others."""
    parser = options.parser(
        "Keep the first codes of a shape and let the model write the others: the first of a basis "
        "say most. Writes the shape as it is (given) and its continuations.",
        EXAMPLES,
    )
    options.add_run(parser)
    parser.add_argument("--tokens", type=int, required=True, metavar="K", help="how many are kept")
    what = "id of a shape that the run was fitted to, a field (.safetensors), a mesh or an image"
    parser.add_argument("--shape", required=True, metavar="ID|FILE", help=what)
    parser.add_argument("--n", type=int, default=7, help="how many continuations (7)")
    options.add_sampling(parser)
    options.add_files(parser)
    args = parser.parse_args()
    run = open(args.run)
    length = run.tokenizer.sequence_length
    if not 0 <= args.tokens < length:
        raise InputError(
            f"--tokens {args.tokens}: a sequence of this run has {length} codes, so 0 to "
            f"{length - 1} of them can be kept"
        )
    resolution, title = options.resolution_of(args, run), options.title_of(run, args)
    given = run.field(args.shape)
    fields = run.complete(given, args.tokens, args.n, **options.sampling_of(args))
    title = (
        f"{given.name} (first), and what follows its first {args.tokens} of {length} codes: {title}"
    )
    names = ["given", *(f"{i:04}" for i in range(len(fields)))]
    fields = [dataclasses.replace(given, tokens=run.tokens_of(given)), *fields]
    folder = new_folder(args.out)
    rows = write(run, fields, folder, args.format, resolution, title, names, across=8)
    sys.stdout.write(options.outcome(fields, rows, folder))
