"""Signals as files: values at points, one .npz a signal."""

import zipfile
from pathlib import Path

import numpy as np

from nefgpt.base.errors import InputError


def check_one_size(sizes: dict[tuple[int, ...], str]) -> None:
    """Refuse signals of different sizes.

    Parameters
    ----------
    sizes : each size, and the name or file of a signal that has it.

    Raises
    ------
    InputError
        naming a signal of each size.
    """
    if len(sizes) > 1:
        found = ", ".join(f"{name} has {size}" for size, name in list(sizes.items())[:4])
        raise InputError(
            f"all inputs must have one size, but: {found}; scale them, or take others away"
        )


def load_signal(
    path: Path, only: tuple[str, ...] | None = None, if_there: tuple[str, ...] = ()
) -> dict:
    """Read a signal sampled at points, or `only` some of its arrays and more `if_there`.

    `values` are the signal at `points`; of a shape they are its `sdf`.

    Raises
    ------
    InputError
        naming the file when it is missing or broken.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = [*(only or stored.files), *(name for name in if_there if name in stored)]
            cloud = {name: stored[name] for name in names}
        for name in {"rejected", "repaired", "sha256", "source_path"} & set(cloud):
            cloud[name] = str(cloud[name])
        if "sdf" in cloud:
            cloud["values"] = cloud["sdf"]
        healthy = only or (
            len(cloud["points"]) == len(cloud["values"]) and np.isfinite(cloud["values"]).all()
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
    if not healthy:
        raise InputError(f"{path} holds broken values; delete it and run again")
    return cloud
