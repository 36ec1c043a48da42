"""MNIST's files, wherever their distributors put them."""

import re
from pathlib import Path

from nefgpt.base.errors import InputError
from nefgpt.inputs.folders import Below
from nefgpt.inputs.idx import idx_shape, read_idx

# train-images-idx3-ubyte, train-images.idx3-ubyte, either with .gz
NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
# What it is offered as, too, and is not read here.
OTHERS = re.compile(r".*\.(csv|npz|npy|pt|parquet|mat|zip)|.*-ubyte(\.gz)?", re.IGNORECASE)


def idx_files(found: Below) -> dict[tuple[str, str], Path] | None:
    """MNIST's four files by ("train" or "t10k", "images" or "labels"); None where there are none.

    They may lie anywhere below the root, as in torchvision's MNIST/raw, and each in a folder of
    its own name, as Kaggle unpacks them; unpacked ones come before gzipped ones.

    Raises
    ------
    InputError
        when one is missing, or two folders have them.
    """
    files: dict[tuple[str, str], list[Path]] = {}
    homes = set()
    for path in found.files:
        if match := NAME.fullmatch(path.name):
            files.setdefault((match[1], match[2]), []).append(path)
            homes.add(path.parent.parent if NAME.fullmatch(path.parent.name) else path.parent)
    if not files:
        return None
    if len(homes) > 1:
        some = " and ".join(str(home.absolute()) for home in sorted(homes)[:3])
        raise InputError(f"{some} hold MNIST's files: set dataset.root to one of them")
    (home,) = homes
    for prefix in ("train", "t10k"):
        for what, n in (("images", 3), ("labels", 1)):
            if (prefix, what) not in files:
                name = f"{prefix}-{what}-idx{n}-ubyte[.gz]"
                raise InputError(f"{home.absolute()} has MNIST's files, but no {name}")
    return {
        key: min(paths, key=lambda p: (p.suffix == ".gz", len(p.parts), p))
        for key, paths in files.items()
    }


def not_read(found: Below) -> str:
    """Which other forms of MNIST lie there, for the error that names them."""
    names = [path.name for path in found.files if OTHERS.fullmatch(path.name)]
    if not names:
        return ""
    return (
        f"; {', '.join(names[:4])} cannot be read: take MNIST's four IDX files "
        "(train-images-idx3-ubyte.gz and so on), or image files in one folder a class"
    )


def listed(
    files: dict[tuple[str, str], Path],
) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Sources FILE#NUMBER, labels and published splits by id, of `idx_files`.

    Raises
    ------
    InputError
        when images and labels differ in number, or a file holds something else.
    """
    paths, labels, published = {}, {}, {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, values = files[prefix, "images"], read_idx(files[prefix, "labels"])
        shape = idx_shape(images)
        if len(shape) != 3 or values.ndim != 1:
            raise InputError(
                f"{images} holds an array {shape} and {files[prefix, 'labels']} one of "
                f"{values.shape}, not images [n, height, width] and labels [n]: fetch them again"
            )
        if shape[0] != len(values):
            raise InputError(
                f"{images} has {shape[0]} images, {files[prefix, 'labels']} {len(values)} labels: "
                "they do not belong together; fetch both again"
            )
        for i, label in enumerate(values):
            name = f"{part}-{i:05}"
            paths[name], labels[name] = f"{images}#{i}", int(label)
            if part == "test":
                published[name] = "test"
    return paths, labels, published
