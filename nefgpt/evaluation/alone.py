"""`nefgpt evaluate`: the table of a run, for folders by anybody's method."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from nefgpt.base.errors import InputError
from nefgpt.base.files import write_text
from nefgpt.evaluation import folders, frechet, intervals, tables
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.evaluation.protocol import in_class_frame
from nefgpt.evaluation.score import NEIGHBOURS, measure_draws, nearest_table
from nefgpt.evaluation.settings import NORMALISATIONS, Fpd
from nefgpt.signals.kind import named

EXAMPLES = """
examples:
  nefgpt evaluate generated/ test/
  nefgpt evaluate generated/ test/ --train train/ --out scores
  nefgpt evaluate samples.npy test.npy --normalisation none     (clouds [n, points, 3] as they are)
  nefgpt evaluate generated/ test/ --normalisation class --emd-points 512
  nefgpt evaluate generated/ test/ --fpd pointnet=pointnet_modelnet40.safetensors

A folder holds meshes (.obj .off .ply .stl .glb), point clouds (.ply .npy .npz .xyz .txt) or images
(.png), in subfolders or not. Give as many generated as reference shapes: the larger set is cut
down to the size of the smaller one. docs/metrics.md says what each column means.
"""


def read_set(
    path: Path, args: argparse.Namespace, lost: bool = False
) -> tuple[list[str], np.ndarray]:
    """Ids and what is compared of one folder or file.

    Parameters
    ----------
    lost : whether a shape that cannot be used stays, as one without a surface.
    """
    if path.is_file():
        compared = folders.read_many(path)
        if compared.shape[-1] == 3 and compared.ndim == 3 and args.normalisation != "none":
            usable = np.isfinite(compared).all(axis=(1, 2))
            for i in np.flatnonzero(usable):
                points = folders.few_points(compared[i], args.points, args.seed, f"{path}[{i}]")
                compared[i, : args.points] = folders.normalise_cloud(points, args.normalisation)
            compared = compared[:, : args.points]
        return [str(i) for i in range(len(compared))], compared
    suffixes = {one.suffix.lower() for one in folders.files_below(path).values()}
    if suffixes <= folders.IMAGES:
        return folders.read_images_of(path)
    how = "class" if args.normalisation == "none" else args.normalisation
    return folders.read_clouds_of(path, args.points, args.seed, how, lost)


def check_alike(sets: dict[str, np.ndarray]) -> None:
    """Refuse sets whose members differ in size, or of which some are images."""
    shapes = {name: compared.shape[1:] for name, compared in sets.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"these cannot be compared, of different sizes or kinds: {told}")


def evaluate(
    generated: np.ndarray,
    reference: np.ndarray,
    train: np.ndarray | None,
    args: argparse.Namespace,
) -> tuple[pd.DataFrame, dict, dict]:
    """Metrics of one set of samples, what `halves` finds, and what is near to each sample."""
    clouds = generated.ndim == 3 and generated.shape[2] == 3
    kind = named("shapes" if clouds else "images")
    if not clouds and (args.fpd or args.emd_points):
        raise InputError("--fpd and --emd-points compare points, and these are images")
    normalisation = args.normalisation
    if clouds and normalisation == "class":
        # Without a train set its place is taken by the references.
        frame, *sets = in_class_frame(reference if train is None else train, generated, reference)
        (generated, reference), train = sets, None if train is None else frame
    emd = {}
    if args.emd_points:
        from nefgpt.signals.emd import emd_matrix

        n = min(args.emd_points, reference.shape[1])
        emd = {"moved": emd_matrix(reference[:, :n]), "moved_points": n}
    known = Known(reference, kind.distances(reference), **emd)
    if args.fpd:
        known = known._replace(network=frechet.network_of(args.fpd))
    draw = Samples(generated, pd.DataFrame(index=range(len(generated))), kind, args.seed)
    near = {}
    if train is not None:
        known = known._replace(nearest_train=kind.nearest(reference, train, 1)[1][:, 0])
        nearest, apart = kind.nearest(generated, train, min(NEIGHBOURS, len(train)))
        draw.distance = apart[:, 0]
        near = {"valid": draw.valid, "nearest": nearest, "distance": draw.distance}
    metrics = measure_draws([(draw, known)], normalisation)
    metrics.insert(0, "method", args.name or args.generated.stem)
    metrics.insert(1, "setting", "")
    return metrics, intervals.halves([(draw, known)], args.seed), near


def told(metrics: pd.DataFrame, spread: pd.DataFrame, args: argparse.Namespace, points: int) -> str:
    """What is printed: by what protocol, and each measure with its interval.

    Parameters
    ----------
    points : of each cloud; 0 for images.
    """
    first = metrics.iloc[0]
    lines = [f"{first['method']}: {first['n_generated']} samples, {args.reference}: as many"]
    protocol = f"seed {args.seed}, normalisation {first['normalisation']}"
    if points:
        protocol += f", {points} points"
    if args.emd_points:
        protocol += f", {args.emd_points} for EMD"
    extractors = "; ".join(sorted(set(metrics["extractor"]) - {""}))
    lines += [protocol + (f", features by {extractors}" if extractors else ""), ""]
    ends = {line.metric: line for line in spread.itertuples()}
    width = max(len(tables.HEADINGS.get(name, name)) for name in metrics["metric"])
    for name, value in zip(metrics["metric"], metrics["value"], strict=True):
        text = tables.printed(name, np.array([value]))
        if name in ends:
            low, high = (tables.printed(name, np.array([x])) for x in ends[name][5:7])
            text = f"{text:<8} [{low}, {high}]"
        lines.append(f"{tables.HEADINGS.get(name, name):<{width}}  {text}".rstrip())
    if ends:
        lines += ["", f"in brackets: {intervals.LEVEL} % intervals, from halves of both sets"]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Score folders of meshes, point clouds or images as a run's table does.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("generated", type=Path, help="folder, or a .npy of all")
    parser.add_argument("reference", type=Path, help="real ones that the method has not seen")
    parser.add_argument("--train", type=Path, help="what it has seen: for novelty and copies")
    parser.add_argument("--out", type=Path, help="folder to write the tables to")
    parser.add_argument("--name", help="of the method; the folder's name")
    parser.add_argument("--points", type=int, default=2048, help="of each cloud (2048)")
    parser.add_argument("--seed", type=int, default=0, help="of points and of what is cut down (0)")
    parser.add_argument(
        "--normalisation",
        choices=[*NORMALISATIONS, "none"],
        default="shape",
        help="of clouds (shape); none leaves them as they are",
    )
    parser.add_argument("--emd-points", type=int, help="EMD too, of so many points of each cloud")
    parser.add_argument("--fpd", metavar="EXTRACTOR=FILE", help="pointnet or pointnet2")
    return parser


def main() -> None:
    """Command line of the evaluation of anybody's samples."""
    args = _parser().parse_args()
    if args.points < 2 or (args.emd_points or 1) < 1:
        raise InputError("--points and --emd-points are numbers of points, 2 or more and 1 or more")
    if args.fpd:
        extractor, _, checkpoint = args.fpd.partition("=")
        if extractor not in frechet.NAMES or not checkpoint:
            raise InputError(f"--fpd {args.fpd}: say {' or '.join(frechet.NAMES)}, = and a file")
        args.fpd = Fpd(extractor=extractor, checkpoint=checkpoint)
    paths = [path for path in (args.generated, args.reference, args.train) if path]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise InputError(f"{', '.join(missing)}: there is no such file or folder")
    _, generated = read_set(args.generated, args, lost=True)
    _, reference = read_set(args.reference, args)
    ids, train = read_set(args.train, args) if args.train else ([], None)
    sets = {str(args.generated): generated, str(args.reference): reference}
    check_alike(sets | ({} if train is None else {str(args.train): train}))
    if few := [name for name, compared in sets.items() if len(compared) < 2]:
        raise InputError(f"{', '.join(few)}: one alone is no set to compare, it takes two or more")
    metrics, halves, near = evaluate(generated, reference, train, args)
    spread = intervals.table([(metrics, halves)])
    if args.out:
        write_text(args.out / "metrics.csv", metrics.to_csv(index=False))
        write_text(args.out / "intervals.csv", spread.to_csv(index=False))
        if near:
            write_text(args.out / "nearest.csv", nearest_table(ids, near).to_csv(index=False))
    points = generated.shape[1] if generated.ndim == 3 and generated.shape[2] == 3 else 0
    sys.stdout.write(told(metrics, spread, args, points))
