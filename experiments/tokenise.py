"""How well fields survive as tokens, and how predictable the tokens are, by kind of fit.

    python experiments/tokenise.py --folder build/tokenise --out tokenise.csv

Fits procedural airplanes by each method of token_methods.py, codes them, and appends a row as
each method is measured; run again, it goes on with what is missing. Prints Markdown tables.
Needs no download; signals and fits stay in the folder.
"""

import argparse
import csv
import logging
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import token_methods
from token_measures import explained, fidelity
from token_methods import METHODS, Data, Lab

from nefgpt import config
from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import read_table
from nefgpt.fields import fused
from nefgpt.fields.align import align
from nefgpt.generators.gpt.bits import gpt_bits, positional_bits
from nefgpt.signals.shapes import iou

ROOT = Path(__file__).parents[1]

log = logging.getLogger(__name__)

PAIRS = ("two random starts", "two random starts, aligned", "the mean template twice")
STEP = 0.02  # of the uniform codes of a pair's difference, in units of weights


def number(value: float) -> str:
    """Six significant digits."""
    return f"{value:.6g}"


def measure(lab: Lab, name: str, args: argparse.Namespace) -> dict:
    """One row of the table."""
    fit, code = METHODS[name]
    found, n_train = lab.fitted(fit), lab.data.n_train
    tokens, decoded = code(lab, found)
    spec, length = token_methods.spec_of(fit, lab), tokens.shape[1]
    row = {"tokens": length}
    parts = {"train": slice(min(args.measured, n_train)), "held": slice(n_train, None)}
    for stage, fields in {"": found.weights, "_coded": decoded}.items():
        for split, rows in parts.items():
            signals = lab.data.signals[rows]
            measures = fidelity(spec, fields[rows], signals, args.resolution)
            row |= {f"{split}_{key}{stage}": number(value) for key, value in measures.items()}
    bits = positional_bits(tokens[:n_train], tokens[n_train:], args.codes).mean()
    row |= {"bits_token": number(bits), "bits_field": number(bits * length)}
    row["bits_weight"] = number(bits * length / spec.n_weights)
    row["gpt_bits_token"] = ""
    if name in args.gpt:
        with tempfile.TemporaryDirectory(dir=args.folder) as where:
            settings = lab.options["gpt"]
            gpt = gpt_bits(tokens, n_train, args.codes, settings, Path(where), args.seed)
        row["gpt_bits_token"] = number(gpt)
    row["explained_32"] = number(explained(found.weights, n_train))
    row["mean_difference"] = number(np.abs(found.weights - found.origin).mean())
    return row | {"seconds_field": number(found.seconds), "seconds_setup": number(found.setup)}


def unigram_bits(values: np.ndarray) -> float:
    """Entropy in bits of values rounded to multiples of `STEP`."""
    counts = np.unique(np.rint(values / STEP), return_counts=True)[1]
    share = counts / counts.sum()
    return float((share * np.log2(1 / share)).sum())


def measure_pair(lab: Lab, name: str, args: argparse.Namespace) -> dict:
    """Two fits of the same held-out shapes: how far apart they are, and what lies between."""
    data, spec = lab.data, lab.spec
    rows = list(range(data.n_train, lab.n))[: args.measured]
    if name == PAIRS[2]:
        first = lab.fitted("mean")
        start = first.origin
    else:
        first = lab.fitted("random")
        start = np.stack([lab.random_start(("again", i)) for i in rows])
    one = first.weights[rows]
    two = lab.fit(start, np.zeros(spec.n_weights, np.float32), lab.settings(), rows=rows, order=1)
    if name == PAIRS[1]:
        two = np.stack([align(spec, b[None], a)[0] for a, b in zip(one, two, strict=True)])
    losses, overlaps = [], []
    chosen = np.random.default_rng(0).permutation(data.values.shape[1])[:8192]
    points, values = (part[rows].take(chosen, axis=1) for part in (data.points, data.values))
    for share in (0.0, 0.5, 1.0):
        between = (one + share * (two - one)).astype(np.float32)
        found = np.stack([fused.values(spec, w, p) for w, p in zip(between, points, strict=True)])
        losses.append(float(np.abs(found - spec.target_of(values)).mean()))
        pairs = zip(found < spec.surface_level(), values < 0, strict=True)
        overlaps.append(float(np.median([iou(a, b) for a, b in pairs])))
    ends = (losses[0] + losses[2]) / 2
    row = {"distance": number(np.linalg.norm(one - two, axis=1).mean()), "loss_ends": number(ends)}
    row |= {"loss_middle": number(losses[1]), "barrier": number(losses[1] - ends)}
    row |= {"iou_ends": number((overlaps[0] + overlaps[2]) / 2), "iou_middle": number(overlaps[1])}
    return row | {"bits_weight": number(unigram_bits(two - one))}


def read_rows(path: Path) -> list[dict]:
    """Rows of an earlier run; none where there is no file."""
    if not path.exists():
        return []
    return read_table(path, []).to_dict("records")


def append_missing(path: Path, names: list[str], gpt: list[str], made, same: dict) -> list[dict]:
    """Append a row for every name without one of the settings `same`; return the rows of those.

    A row without the GPT's bits is measured anew where `gpt` asks for them.
    """

    def known() -> dict[str, dict]:
        return {row["method"]: row for row in read_rows(path) if row.items() >= same.items()}

    for name in names:
        row = known().get(name)
        if row and (name not in gpt or row["gpt_bits_token"]):
            continue
        began = time.perf_counter()
        row = {"method": name, **same, **made(name)}
        row["seconds_measured"] = number(time.perf_counter() - began)
        new = not path.exists()
        if not new and next(iter(read_rows(path)), row).keys() != row.keys():
            raise InputError(f"{path} has other columns than this experiment's: name another file")
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        log.info("%s: %s s", name, row["seconds_measured"])
    rows = known()
    return [rows[name] for name in names]


def as_table(rows: list[dict]) -> str:
    """The methods as Markdown; "a → b" is before → after coding."""

    def arrow(row: dict, key: str, digits: int) -> str:
        before, after = float(row[key]), float(row[f"{key}_coded"])
        return f"{before:.{digits}f} → {after:.{digits}f}"

    lines = [
        "| method | IoU train | IoU held-out | near, held-out | Chamfer held-out | tokens "
        "| bits a token | GPT | bits a field | bits a weight | explained | difference "
        "| s a field |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        gpt = row["gpt_bits_token"]
        cells = [row["method"], arrow(row, "train_iou", 3), arrow(row, "held_iou", 3)]
        cells += [arrow(row, "held_iou_near", 3), arrow(row, "held_chamfer", 2), row["tokens"]]
        cells += [f"{float(row['bits_token']):.2f}", gpt and f"{float(gpt):.2f}"]
        cells += [f"{float(row['bits_field']):.0f}", f"{float(row['bits_weight']):.2f}"]
        cells += [f"{float(row['explained_32']):.0f} %", f"{float(row['mean_difference']):.3f}"]
        cells += [f"{float(row['seconds_field']):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_pair_table(rows: list[dict]) -> str:
    """The pairs as Markdown."""
    lines = [
        "| two fits of one shape | distance | loss at the ends | halfway | barrier "
        "| IoU at the ends | halfway | bits a weight |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    keys = ("loss_ends", "loss_middle", "barrier", "iou_ends", "iou_middle")
    for row in rows:
        cells = [row["method"], f"{float(row['distance']):.1f}"]
        cells += [f"{float(row[key]):.3f}" for key in keys]
        lines.append(f"| {' | '.join(cells)} | {float(row['bits_weight']):.2f} |")
    return "\n".join(lines)


def make_lab(data: Data, args: argparse.Namespace, defaults: config.Config) -> Lab:
    """What all methods share."""
    hidden = tuple(args.hidden or defaults.field.hidden)
    return Lab(
        data,
        args.folder,
        spec=replace(defaults.field, hidden=hidden),
        steps=args.steps,
        basis_steps=args.basis_steps,
        codes=args.codes,
        seed=args.seed,
        template=defaults.template,
        fit=defaults.fit,
        gpt=replace(
            defaults.gpt["tiny"],
            embedding=64,
            layers=2,
            dropout=0.0,
            batch_size=8,
            iterations=args.gpt_iterations,
            eval_every=50,
        ),
    )


def main() -> None:
    """Command line of the experiment."""
    parser = argparse.ArgumentParser(
        prog="python experiments/tokenise.py",
        description="Compare ways of fitting fields by what their tokens keep of the shapes and "
        "by how predictable the tokens are. Settings not named here are config/config.yaml's.",
        epilog=f"Methods: {'; '.join(METHODS)}.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="signals and fits stay here")
    parser.add_argument("--out", type=Path, required=True, help="CSV; <name>-pairs.csv beside it")
    parser.add_argument("--train", type=int, default=96, help="train shapes")
    parser.add_argument("--held-out", type=int, default=24, help="held-out shapes")
    parser.add_argument("--measured", type=int, default=24, help="fidelity of this many a split")
    parser.add_argument("--steps", type=int, default=500, help="of a fit; fewer in a basis")
    parser.add_argument("--basis-steps", type=int, default=3000, help="of learning a basis")
    parser.add_argument("--points", type=int, default=25000, help="uniform ones, and near ones")
    parser.add_argument("--hidden", type=int, nargs="+", help="field widths; the configuration's")
    parser.add_argument("--codes", type=int, default=127, help="of every method's codebook")
    parser.add_argument("--resolution", type=int, default=64, help="grid of the Chamfer distance")
    names = {"nargs": "*", "choices": METHODS, "metavar": "METHOD"}
    parser.add_argument("--methods", **names, default=list(METHODS), help="default: all, see below")
    parser.add_argument("--gpt", **names, default=[], help="methods that a GPT is trained on")
    parser.add_argument("--gpt-iterations", type=int, default=400)
    parser.add_argument("--no-pairs", action="store_true", help="leave out the pairs of fits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hardware", default=f"{os.cpu_count()} CPU cores", help="for the record")
    args = parser.parse_args()
    least = {"train": 2, "held_out": 1, "measured": 1, "steps": 1, "basis_steps": 1, "codes": 2}
    least |= {"points": 1000, "resolution": 2, "gpt_iterations": 1}
    for key, value in least.items():
        if vars(args)[key] < value:
            raise InputError(f"--{key.replace('_', '-')} must be at least {value}")
    defaults = config.load(ROOT / "config/config.yaml")
    sdf = replace(defaults.sdf, n_uniform=args.points, n_near=args.points)
    data = token_methods.load_data(args.folder, args.train, args.held_out, sdf, args.seed)
    lab = make_lab(data, args, defaults)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    shown = ("train", "held_out", "measured", "steps", "basis_steps", "points", "resolution")
    settings = [f"{key}={vars(args)[key]}" for key in (*shown, "gpt_iterations", "seed")]
    settings += [f"weights={lab.spec.n_weights}", f"fits={lab.identity}"]
    same = {"codes": str(args.codes), "settings": " ".join(settings), "hardware": args.hardware}
    rows = append_missing(
        args.out, args.methods, args.gpt, lambda name: measure(lab, name, args), same
    )
    sys.stdout.write(as_table(rows) + "\n")
    if args.no_pairs:
        return
    pairs = args.out.with_name(f"{args.out.stem}-pairs.csv")
    rows = append_missing(pairs, list(PAIRS), [], lambda name: measure_pair(lab, name, args), same)
    sys.stdout.write("\n" + as_pair_table(rows) + "\n")


if __name__ == "__main__":
    cli.run(main)
