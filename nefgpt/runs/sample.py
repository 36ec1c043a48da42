"""The command `nefgpt sample`: new meshes or images of a trained run."""

import sys

from nefgpt.runs import options
from nefgpt.runs.run import open
from nefgpt.runs.write import new_folder, write

EXAMPLES = """
    nefgpt sample results/airplanes --n 100 --out planes
    nefgpt sample results/airplanes --n 8 --temperature 0.8 --format ply --out cooler
    nefgpt sample results/airplanes --n 8 --setting t1 --seed 7 --resolution 96 --out rough
    nefgpt sample results/airplanes --n 8 --model gaussian --out simple
    nefgpt sample results/digits --n 20 --class 3 --guidance 1.5 --out threes
    nefgpt sample airplanes.nefgpt --n 10 --out from-a-file
"""


def main() -> None:
    """Command line: sample fields and write what they hold."""
    parser = options.parser(
        "Sample new shapes or images: their files, samples.csv, a contact sheet (sheet.png), and "
        "fields.parquet, which `nefgpt decode` reads. The same seed gives the same samples, "
        "however many.",
        EXAMPLES,
    )
    options.add_run(parser)
    parser.add_argument("--n", type=int, default=8, help="how many (8)")
    options.add_sampling(parser)
    options.add_files(parser)
    args = parser.parse_args()
    run = open(args.run)
    resolution, title = options.resolution_of(args, run), options.title_of(run, args)
    fields = run.sample(args.n, **options.sampling_of(args))
    folder = new_folder(args.out)
    classes = len({field.label for field in fields})
    across = classes if classes > 1 else None  # one below the other where they come in turn
    rows = write(run, fields, folder, args.format, resolution, title, across=across)
    sys.stdout.write(options.outcome(fields, rows, folder))
