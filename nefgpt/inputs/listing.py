"""Which shapes a run has, and their splits: folder listings only, no mesh is read.

The workflow calls this whenever it builds its DAG, so imports stay light.
"""

import argparse
import hashlib
import os
import re
from pathlib import Path

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import write_json
from nefgpt.inputs.settings import Dataset
from nefgpt.inputs.splits import SPLITS, Shape, _shares, _split_lists, hash_unit, split_of

MAX_ID = 200  # characters
MESHES_PER_PACK = 16
IMAGES_PER_PACK = 256
DIGITS = "scikit-learn digits"
IMAGE_SUFFIX = ".png"
SUFFIXES = {".obj", ".off", ".ply", ".stl", ".glb", ".gltf"}


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


def _folder(root: Path, suffixes: set[str]) -> dict[str, Path]:
    paths = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if os.path.splitext(name)[1].lower() in suffixes
    )
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
    if (root / "models").is_dir() or re.fullmatch(r"\d{8}", root.name):
        raise InputError(
            f"dataset.root = {root} looks like one synset: name the folder that holds the synsets"
        )
    synsets = [synset] if synset else sorted(e.name for e in os.scandir(root) if e.is_dir())
    shapes: dict[str, Path] = {}
    for name in synsets:
        if not (root / name).is_dir():
            raise InputError(f"dataset.synset = {name!r}: there is no folder {root / name}")
        for entry in sorted(os.scandir(root / name), key=lambda e: e.name):
            if not entry.is_dir():
                continue
            _usable(Path(entry.path))
            shape_id = safe_id(Path(entry.name + ".x"))
            if shape_id in shapes:
                raise InputError(f"shape id {shape_id} is in two synsets: set dataset.synset")
            version_1 = Path(entry.path) / "model.obj"
            version_2 = Path(entry.path) / "models" / "model_normalized.obj"
            shapes[shape_id] = version_1 if version_1.exists() else version_2
    return shapes


def _digits() -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    from sklearn.datasets import load_digits

    labels = {f"digit-{i:04}": int(label) for i, label in enumerate(load_digits().target)}
    return {name: f"{DIGITS}#{i}" for i, name in enumerate(labels)}, labels, {}


def _idx(root: Path) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Images of MNIST's IDX files; those of the published test files are marked."""
    from nefgpt.inputs.idx import read_idx

    paths, labels, published = {}, {}, {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        files = []
        for what in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            found = [p for p in root.glob(f"{prefix}-{what}*") if p.suffix in ("", ".gz")]
            if not found:
                raise InputError(f"dataset.root = {root}: there is no {prefix}-{what}[.gz]")
            files.append(min(found))
        for i, label in enumerate(read_idx(files[1])):
            name = f"{part}-{i:05}"
            paths[name], labels[name] = f"{files[0]}#{i}", int(label)
            if part == "test":
                published[name] = "test"
    return paths, labels, published


def _pngs(root: Path, classes: bool) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """PNG files whose first folder under `root` names their class, classes in sorted order.

    Without `classes` there may be no subfolders, and then no labels.
    """
    paths = _folder(root, {IMAGE_SUFFIX})
    if not classes and all(path.parent == root for path in paths.values()):
        return {name: str(path) for name, path in paths.items()}, {}, {}
    folders = {name: path.relative_to(root).parts[0] for name, path in paths.items()}
    for path in paths.values():
        if path.parent == root:
            raise InputError(f"{path} is in no subfolder, which would name its class")
    order = {folder: i for i, folder in enumerate(sorted(set(folders.values())))}
    labels = {name: order[folder] for name, folder in folders.items()}
    return {name: str(path) for name, path in paths.items()}, labels, {}


def _images(dataset: Dataset) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Sources, labels and (where they are published) splits of images by id."""
    if dataset.kind == "digits":
        return _digits()
    root = Path(dataset.root)
    if not root.is_dir():
        raise InputError(f"dataset.root = {root}: there is no such folder")
    if dataset.kind == "images":
        return _pngs(root, classes=False)
    return _idx(root) if any(root.glob("*-ubyte*")) else _pngs(root, classes=True)


def list_shapes(dataset: Dataset, results: Path, seed: int) -> list[Shape]:
    """All inputs of a run, sorted by id.

    Raises
    ------
    InputError
        for a missing folder, no shape, or an empty split.
    """
    packs: dict[str, int] = {}
    labels: dict[str, int] = {}
    published: dict[str, str] = {}
    paths: dict
    images = dataset.images
    if images:
        paths, labels, published = _images(dataset)
    elif dataset.kind == "procedural":
        from nefgpt.inputs.airplanes.write import SYNSET, shape_id

        ids = [shape_id(seed, i) for i in range(dataset.n_shapes)]
        base = results / "dataset" / SYNSET
        paths = {name: base / name / "models" / "model_normalized.obj" for name in ids}
        packs = {name: i // MESHES_PER_PACK for i, name in enumerate(ids)}
    else:
        root = Path(dataset.root)
        if not root.is_dir():
            raise InputError(f"dataset.root = {root}: there is no such folder")
        shapenet = dataset.kind == "shapenet"
        paths = _shapenet(root, dataset.synset) if shapenet else _folder(root, SUFFIXES)
    if not paths:
        what = "images" if images else "meshes"
        raise InputError(f"dataset.root = {dataset.root}: no {what} found")
    if dataset.n_shapes and not packs:
        kept = sorted(paths, key=lambda name: hash_unit(seed, f"cap {name}"))
        paths = {name: paths[name] for name in kept[: dataset.n_shapes]}
    if images:
        packs = {name: i // IMAGES_PER_PACK for i, name in enumerate(sorted(paths))}
    if dataset.split_files:
        listed = _split_lists(dataset.split_files)
        splits = {name: listed[name] for name in paths if name in listed}
    else:
        shares = _shares(dataset.split, published)
        splits = {name: published.get(name) or split_of(name, shares, seed) for name in paths}
    shapes = [
        Shape(name, str(paths[name]), splits[name], packs.get(name), labels.get(name))
        for name in sorted(splits)
    ]
    for name in SPLITS:
        if not any(shape.split == name for shape in shapes):
            raise InputError(
                f"the {name} split is empty: add shapes or change dataset.split(_files)"
            )
    return shapes


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
