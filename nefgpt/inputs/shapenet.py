"""ShapeNet's folders, root/synset/model/..., of version 1 or 2."""

import logging
import os
import re
from pathlib import Path

from nefgpt.base.errors import InputError
from nefgpt.inputs.folders import is_folder, named, visible

log = logging.getLogger(__name__)

SYNSET = re.compile(r"\d{8}")
MODELS = ("model.obj", os.path.join("models", "model_normalized.obj"))  # of version 1, and 2


def _folders(root: Path) -> list[str]:
    return [entry.name for entry in visible(root) if is_folder(entry)]


def _is_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in MODELS)


def synset_folders(root: Path, synset: str | None) -> list[Path]:
    """The folders of the synsets of a run, sorted.

    `root` may also be one synset's folder, or the folder around the one that holds the synsets.

    Raises
    ------
    InputError
        saying what `dataset.root` has to be, or which synsets there are.
    """
    said = named("dataset.root", root)
    if _is_model(root) or root.name == "models":
        home = (root.parent if root.name == "models" else root).absolute().parents[1]
        raise InputError(f"{said} is one model: set dataset.root: {home}")
    inside = _folders(root)
    if SYNSET.fullmatch(root.absolute().name) and not any(map(SYNSET.fullmatch, inside)):
        if synset in (None, root.absolute().name):
            log.info("%s is one synset: its models are taken", said)
            return [root]
        home = root.absolute().parent
        raise InputError(f"{said} is one synset, not {synset!r}: set dataset.root: {home}")
    if synset:
        if synset in inside:
            return [root / synset]
        homes = [root / name for name in inside if (root / name / synset).is_dir()]
        lacks = f"dataset.synset = {synset!r}: there is no folder {(root / synset).absolute()}"
    else:
        if any(map(SYNSET.fullmatch, inside)) or not inside:
            return [root / name for name in inside]
        homes = [root / n for n in inside if any(map(SYNSET.fullmatch, _folders(root / n)))]
        if not homes:
            return [root / name for name in inside]  # synsets of other names
        lacks = f"{said} holds no synsets"
    if len(homes) > 1:
        some = " or ".join(str(home.absolute()) for home in homes[:4])
        raise InputError(f"{lacks}; set dataset.root: {some}")
    if homes:
        log.info("%s: the synsets are in %s", said, homes[0].absolute())
        return synset_folders(homes[0], synset)
    packed = [f"{synset}{end}" for end in (".zip", ".tar", ".tar.gz")]
    if found := [name for name in packed if (root / name).exists()]:
        raise InputError(f"{lacks}, but {found[0]}: unpack it")
    raise InputError(f"{lacks}; there are {', '.join(inside[:6]) or 'no folders'}")


def models(root: Path, synset: str | None) -> dict[str, list[Path]]:
    """Mesh files by the name of their model's folder; more than one where synsets share a name.

    A folder without a mesh is there with the name that one of version 2 would have.
    """
    found: dict[str, list[Path]] = {}
    for folder in synset_folders(root, synset):
        for entry in visible(folder):
            if is_folder(entry):
                version_1, version_2 = (Path(entry.path, name) for name in MODELS)
                path = version_1 if version_1.exists() else version_2
                found.setdefault(entry.name, []).append(path)
    return found
