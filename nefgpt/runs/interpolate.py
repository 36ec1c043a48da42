"""The command `nefgpt interpolate`: fields from one shape to another."""

import sys

from nefgpt.runs import options
from nefgpt.runs.run import open
from nefgpt.runs.write import new_folder, write

EXAMPLES = """
    nefgpt interpolate results/airplanes planes/0000.glb planes/0001.glb --steps 5 --out between
    nefgpt interpolate airplanes.nefgpt encoded/mine.safetensors mine.obj --steps 2 --out same
    nefgpt interpolate results/digits seven.png sevens/seven.safetensors --steps 3 --out still
"""


def main() -> None:
    """Command line: mix two fields' coefficients, or their weights where there is no basis."""
    parser = options.parser(
        "Fields on the straight line from A to B, both included: in the coefficients of the run's "
        "basis, or in all weights where it has none. A and B are ids of shapes that the run was "
        "fitted to, fields (.safetensors), meshes or images.",
        EXAMPLES,
    )
    options.add_run(parser)
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="id or file")
    parser.add_argument("--steps", type=int, default=8, help="how many fields, A and B too (8)")
    options.add_files(parser)
    args = parser.parse_args()
    run = open(args.run)
    resolution = options.resolution_of(args, run)
    a, b = run.field(args.a), run.field(args.b)
    fields = run.interpolate(a, b, args.steps)
    folder, title = new_folder(args.out), f"{run.config.name}: from {a.name} to {b.name}"
    rows = write(run, fields, folder, args.format, resolution, title)
    sys.stdout.write(options.outcome(fields, rows, folder))
