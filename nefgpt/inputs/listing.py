"""Which shapes a run has, and their splits: folder listings only, no mesh is read.

The workflow calls this whenever it builds its DAG, so imports stay light.
"""

import argparse
import hashlib
import logging
import os
import re
from collections import Counter
from pathlib import Path

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import write_json
from nefgpt.inputs import mnist, shapenet
from nefgpt.inputs.folders import Below, below, folder_of, named, resolved
from nefgpt.inputs.lists import SPLITS, match, split_name
from nefgpt.inputs.settings import Dataset, SplitFiles
from nefgpt.inputs.splits import Shape, hash_unit, shares_of_rest, split_of

log = logging.getLogger(__name__)

MAX_ID = 200  # characters
MESHES_PER_PACK = 16
IMAGES_PER_PACK = 256
DIGITS = "scikit-learn digits"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"}
SUFFIXES = {".obj", ".off", ".ply", ".stl", ".glb", ".gltf"}
# Of the same kind and not read: said when they lie among the others.
OTHER_IMAGES = {".heic", ".avif", ".jp2", ".svg", ".psd", ".exr", ".hdr", ".pgm", ".ppm", ".npy"}
OTHER_MESHES = {".fbx", ".dae", ".3ds", ".3mf", ".blend", ".usd", ".usdz", ".step"}
OTHER_MESHES |= {".stp", ".iges", ".wrl", ".x3d", ".vtk", ".ac", ".lwo", ".msh", ".binvox"}


def safe_id(relative: Path) -> str:
    """A shape id from a relative path: letters, digits, '.', '_' and '-' only.

    Ids name files, so they stay short of the longest name that a file may have; and none is
    "template", whose field file is the template's.
    """
    text = relative.with_suffix("").as_posix().replace("/", "__")
    text = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if len(text) > MAX_ID:
        text = f"{text[: MAX_ID - 17]}-{_digest(relative)[:16]}"
    return f"x{text}" if text[0] in ".-" or text.lower() == "template" else text


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()


def _usable(path: Path) -> None:
    """Refuse names that no table can hold, or in which Snakemake sees a wildcard."""
    if not str(path).isprintable() or set("{}") & set(str(path)):
        raise InputError(f"cannot use the file name {str(path)!a}: rename it or move it away")


def _ids(root: Path, paths: list[Path]) -> dict[str, Path]:
    """Files below `root` by their ids."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        _usable(path)
        found.setdefault(safe_id(path.relative_to(root)), []).append(path)
    shapes = {}
    for shape_id, same in found.items():
        for path in same:
            # All of a colliding group get a suffix, so that the listing's order names nobody.
            tail = _digest(path.relative_to(root))[:8]
            name = shape_id if len(same) == 1 else f"{shape_id}-{tail}"
            if name in shapes:
                raise InputError(f"{path} and {shapes[name]} get one id, {name}: rename one")
            shapes[name] = path
    return shapes


def _shapenet(root: Path, synset: str | None) -> dict[str, Path]:
    shapes: dict[str, Path] = {}
    for name, paths in shapenet.models(root, synset).items():
        _usable(paths[0])
        shape_id = safe_id(Path(name + ".x"))
        if len(paths) > 1 or shape_id in shapes:
            raise InputError(f"shape id {shape_id} is in two synsets: set dataset.synset")
        shapes[shape_id] = paths[0]
    return shapes


def _digits() -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    from sklearn.datasets import load_digits

    labels = {f"digit-{i:04}": int(label) for i, label in enumerate(load_digits().target)}
    return {name: f"{DIGITS}#{i}" for i, name in enumerate(labels)}, labels, {}


def _class_folders(
    root: Path, paths: dict[str, Path], classes: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Labels and published splits of image files, by the folders that they lie in.

    The first folder that is not the same for all names the class, classes in sorted order; folders
    named train, val and test hold splits instead, and the classes lie below. Without `classes`
    there may be no folders, and then no labels.
    """
    parts = {name: path.relative_to(root).parts[:-1] for name, path in paths.items()}
    published = {}
    while len({some[:1] for some in parts.values()}) == 1 and all(map(len, parts.values())):
        if max(map(len, parts.values())) == 1:  # a single class
            break
        parts = {name: some[1:] for name, some in parts.items()}
    tops = {some[0] for some in parts.values() if some}
    splits = {top: split_name(top) for top in tops if split_name(top) in SPLITS}
    if len(set(splits.values())) > 1:
        if len(splits) < len(tops) or not all(parts.values()):
            more = sorted(tops - set(splits)) or ["files"]
            raise InputError(
                f"{root.absolute()} has {more[0]} beside {' and '.join(sorted(splits))}, which "
                "would be splits: are these classes? then rename them, else move it away"
            )
        published = {name: splits[some[0]] for name, some in parts.items()}
        if len(set(splits.values())) < len(SPLITS):  # a share of train is held back for the other
            published = {name: split for name, split in published.items() if split != "train"}
        parts = {name: some[1:] for name, some in parts.items()}
    if not classes and not any(parts.values()):
        return {}, published
    for name, some in parts.items():
        if not some:
            raise InputError(f"{paths[name]} is in no subfolder, which would name its class")
    order = {folder: i for i, folder in enumerate(sorted({some[0] for some in parts.values()}))}
    return {name: order[some[0]] for name, some in parts.items()}, published


def _images(dataset: Dataset) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Sources, labels and (where they are published) splits of images by id."""
    if dataset.kind == "digits":
        return _digits()
    root = folder_of("dataset.root", dataset.root)
    found = below(root)
    if dataset.kind == "mnist" and (files := mnist.idx_files(found)):
        sources, labels, published = mnist.listed(files)
        _say(dataset.root, f"{len(sources)} images", "")
        return sources, labels, published
    paths = _ids(root, found.of(IMAGE_SUFFIXES))
    if not paths:
        more = mnist.not_read(found) if dataset.kind == "mnist" else ""
        raise InputError(_nothing(dataset.root, found, "images", IMAGE_SUFFIXES) + more)
    _say(dataset.root, f"{len(paths)} images", found.left_out(IMAGE_SUFFIXES, OTHER_IMAGES))
    labels, published = _class_folders(root, paths, classes=dataset.kind == "mnist")
    return {name: str(path) for name, path in paths.items()}, labels, published


def _meshes(dataset: Dataset) -> dict[str, Path]:
    """Mesh files by id."""
    root = folder_of("dataset.root", dataset.root)
    if dataset.kind == "shapenet":
        paths = _shapenet(root, dataset.synset)
        if any(path.exists() for path in paths.values()):
            _say(dataset.root, f"{len(paths)} models", "")
            return paths
        n = len(below(root).of(SUFFIXES))
        cure = f"; {n} meshes lie elsewhere below it: try dataset.kind: folder" if n else ""
        raise InputError(
            f"{named('dataset.root', dataset.root)}: no meshes found, that is no folder "
            f"synset/model with {' or '.join(shapenet.MODELS)}{cure}"
        )
    found = below(root)
    if paths := _ids(root, found.of(SUFFIXES)):
        _say(dataset.root, f"{len(paths)} meshes", found.left_out(SUFFIXES, OTHER_MESHES))
        return paths
    raise InputError(_nothing(dataset.root, found, "meshes", SUFFIXES))


def _nothing(root: str, found: Below, what: str, suffixes: set[str]) -> str:
    return (
        f"{named('dataset.root', root)}: no {what} found ({', '.join(sorted(suffixes))}) among "
        f"{found.kinds()}"
    )


def _say(root: str, what: str, more: str) -> None:
    full = resolved(root).absolute()
    log.info("dataset: %s in %s%s", what, full, f"; {more}" if more else "")


def _splits(
    dataset: Dataset, paths: dict[str, str], published: dict[str, str], seed: int
) -> dict[str, str]:
    """Splits by id, of those alone that are in a list where there are lists."""
    if not dataset.split_files:
        shares = shares_of_rest(dataset.split, set(published.values()))
        return {name: published.get(name) or split_of(name, shares, seed) for name in paths}
    splits = match(paths, dataset.split_files, dataset.synset)
    if isinstance(dataset.split_files, SplitFiles) and not dataset.split_files.val:
        shares = shares_of_rest(dataset.split, {"test"})
        for name in [name for name, split in splits.items() if split == "train"]:
            splits[name] = split_of(name, shares, seed)
    return splits


def _no_empty_split(dataset: Dataset, splits: dict[str, str]) -> None:
    counts = Counter(splits.values())
    for name in SPLITS:
        if not counts[name]:
            where = f" in {resolved(dataset.root).absolute()}" if dataset.root else ""
            cure = f"raise dataset.split.{name}"
            if dataset.split_files:
                cure = f"name some of them in dataset.split_files for {name}"
            elif dataset.n_shapes:
                cure = f"raise dataset.n_shapes or dataset.split.{name}"
            raise InputError(
                f"the {name} split is empty: of the {len(splits)} shapes found{where}, "
                + ", ".join(f"{counts[other]} are {other}" for other in SPLITS if other != name)
                + f"; add shapes, or {cure}"
            )


def list_shapes(dataset: Dataset, results: Path, seed: int) -> list[Shape]:
    """All inputs of a run, sorted by id; the log says how many, where, and what was passed over.

    Raises
    ------
    InputError
        for a missing folder, no shape, lists that name none, or an empty split.
    """
    packs: dict[str, int] = {}
    labels: dict[str, int] = {}
    published: dict[str, str] = {}
    if dataset.images:
        paths, labels, published = _images(dataset)
    elif dataset.kind == "procedural":
        from nefgpt.inputs.airplanes.write import SYNSET, shape_id

        ids = [shape_id(seed, i) for i in range(dataset.n_shapes)]
        base = results / "dataset" / SYNSET
        paths = {name: str(base / name / "models" / "model_normalized.obj") for name in ids}
        packs = {name: i // MESHES_PER_PACK for i, name in enumerate(ids)}
    else:
        paths = {name: str(path) for name, path in _meshes(dataset).items()}
    splits = _splits(dataset, paths, published, seed)
    if dataset.n_shapes and not packs:
        kept = sorted(splits, key=lambda name: hash_unit(seed, f"cap {name}"))
        splits = {name: splits[name] for name in kept[: dataset.n_shapes]}
    if dataset.images:
        packs = {name: i // IMAGES_PER_PACK for i, name in enumerate(sorted(splits))}
    _no_empty_split(dataset, splits)
    return [
        Shape(name, paths[name], splits[name], packs.get(name), labels.get(name))
        for name in sorted(splits)
    ]


def main() -> None:
    """Command line: write a run's configuration, or its list of shapes."""
    parser = argparse.ArgumentParser(description="List the shapes of a run.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="write JSON rows [id, split, label]")
    listing.add_argument("--dataset", required=True, help="dataset block, JSON or @file")
    listing.add_argument("--results", type=Path, required=True)
    listing.add_argument("--seed", type=int, default=0)
    listing.add_argument("--out", type=Path, required=True)
    config = commands.add_parser("config", help="write the resolved configuration")
    config.add_argument("--config", required=True, help="JSON or @file")
    config.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "config":
        write_json(args.out, cli.json_argument(args.config))
        return
    shapes = list_shapes(cli.settings_argument(Dataset, args.dataset), args.results, args.seed)
    write_json(args.out, [[shape.shape_id, shape.split, shape.label] for shape in shapes])
