"""Folders of meshes, point clouds or images by anybody, as what the metrics compare."""

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.inputs.listing import SUFFIXES, safe_id
from nefgpt.signals.shapes import normalise_cloud

log = logging.getLogger(__name__)

CLOUDS = {".npy", ".npz", ".xyz", ".txt"}
IMAGES = {".png"}
KNOWN = ", ".join(sorted(SUFFIXES | CLOUDS | IMAGES))


def files_below(folder: Path) -> dict[str, Path]:
    """All files of a folder and its subfolders that can be read, by the id a run gives them.

    Raises
    ------
    InputError
        when there is no such folder, it has none, two have one id, or images lie among shapes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such file or folder")
    found: dict[str, Path] = {}
    for place, below, names in os.walk(folder):
        listed = _listed(Path(place))
        if listed:
            below.clear()
        for name in listed or sorted(names):
            path = Path(place, name)
            if path.suffix.lower() not in SUFFIXES | CLOUDS | IMAGES:
                continue
            shape_id = _id(path.relative_to(folder))
            if shape_id in found:
                raise InputError(f"{path} and {found[shape_id]} have one name: rename one")
            found[shape_id] = path
    if not found:
        raise InputError(f"{folder} has no meshes, point clouds or images ({KNOWN})")
    if 0 < sum(path.suffix.lower() in IMAGES for path in found.values()) < len(found):
        raise InputError(f"{folder} has images among shapes: name a folder of either")
    return dict(sorted(found.items()))


def _listed(folder: Path) -> list[str]:
    """The samples of a folder that `nefgpt sample` or a run wrote, without what lies beside them.

    One that is empty has no file; it is named all the same, since it counts.
    """
    path = folder / "samples.csv"
    table = pd.read_csv(path, dtype=str) if path.is_file() else pd.DataFrame()
    if not {"sample", "valid"} <= set(table):
        return []
    if "file" in table:
        known = table["file"].dropna()
        suffix = Path(known.iloc[0]).suffix if len(known) else ""
        return list(table["file"].fillna(table["sample"] + suffix))
    images = (folder / "images").is_dir()
    return list(f"images/{i}.png" if images else f"meshes/{i}.ply" for i in table["sample"])


def _id(relative: Path) -> str:
    """As a run of a folder has it; in ShapeNet's layout that of the model's own folder."""
    parts = relative.parts
    if len(parts) > 2 and parts[-2:] == ("models", "model_normalized.obj"):
        return safe_id(Path(parts[-3] + ".x"))
    if len(parts) > 1 and parts[-1] == "model.obj":
        return safe_id(Path(parts[-2] + ".x"))
    return safe_id(relative)


def few_points(points: np.ndarray, n: int, seed: int, source: object) -> np.ndarray:
    """`n` points of a cloud [P, 3 or more], chosen by the seed where there are more.

    Raises
    ------
    InputError
        naming the source, when it has fewer, or numbers that are not finite.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        raise InputError(f"{source}: a cloud is an array [points, 3], not {points.shape}")
    points = points[:, :3].astype(float)
    if not np.isfinite(points).all():
        raise InputError(f"{source}: has points that are not finite")
    if len(points) < n:
        raise InputError(f"{source}: has {len(points)} points, fewer than --points {n}")
    if not np.ptp(points, axis=0).any():
        raise InputError(f"{source}: all its points are one")
    if len(points) == n:
        return points
    rng = np.random.default_rng(seed)
    return points[np.sort(rng.choice(len(points), n, replace=False))]


def mesh_points(path: Path, n: int, seed: int, own_units: bool) -> np.ndarray:
    """Points on a mesh, as a run samples its inputs, [n, 3].

    Parameters
    ----------
    seed : of this shape.
    own_units : leave them in the mesh's units, instead of the cube that fields are in.
    """
    import trimesh

    from nefgpt.inputs.meshes import load_mesh, normalise, surface_points
    from nefgpt.signals.sdf import N_SURFACE
    from nefgpt.signals.settings import Sdf

    mesh = load_mesh(path)
    if not own_units:
        used = np.asarray(mesh.vertices[np.unique(mesh.faces)])
        center, scale = normalise(used, Sdf().extent)
        mesh = trimesh.Trimesh((mesh.vertices - center) * scale, mesh.faces, process=False)
    points, _ = surface_points(mesh, max(N_SURFACE, n), stable_seed(seed, "surface"))
    return points[:n]


def _ply_points(path: Path) -> np.ndarray | None:
    """Points of a PLY file without faces; None of one with faces."""
    import trimesh

    with path.open("rb") as stream:
        head = stream.read(1 << 16).split(b"end_header")[0]
    words = [line.split() for line in head.splitlines()]
    if any(line[:2] == [b"element", b"face"] and line[2] != b"0" for line in words):
        return None
    try:
        return np.asarray(trimesh.load(path, process=False).vertices)
    # The parser raises whatever a broken file leads to.
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a point cloud ({error!r:.200})") from error


def read_points(path: Path, n: int, seed: int, own_units: bool = False) -> np.ndarray:
    """Points of one mesh or cloud, [n, 3]; see `mesh_points` and `few_points`.

    Raises
    ------
    InputError
        naming the file, when it cannot be used.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".ply" and (points := _ply_points(path)) is not None:
        return few_points(points, n, seed, path)
    if suffix in SUFFIXES:
        return mesh_points(path, n, seed, own_units)
    try:
        if suffix in (".npy", ".npz"):
            points = np.load(path, allow_pickle=False)
            if suffix == ".npz":
                if len(points.files) > 1 and "points" not in points.files:
                    raise InputError(f"{path}: none of its arrays is called points")
                points = points["points" if "points" in points.files else points.files[0]]
        else:
            points = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a point cloud ({error})") from error
    return few_points(points, n, seed, path)


def read_clouds_of(
    folder: Path, n: int, seed: int, normalisation: str, lost: bool
) -> tuple[list[str], np.ndarray]:
    """Ids and clouds float32 [m, n, 3] of a folder, normalised.

    Parameters
    ----------
    lost : whether one that cannot be used stays, as NaN; else it is left out.
    """
    ids, clouds = [], []
    for name, path in tqdm(
        files_below(folder).items(), desc=folder.name, unit="shape", mininterval=1
    ):
        try:
            points = read_points(path, n, stable_seed(seed, name), normalisation == "class")
            cloud = normalise_cloud(points, normalisation)
        except InputError as error:
            what = "counts as without a surface" if lost else "is left out"
            log.warning("%s; it %s", error, what)
            if not lost:
                continue
            cloud = np.full((n, 3), np.nan, np.float32)
        ids.append(name)
        clouds.append(cloud)
    if not clouds or not any(np.isfinite(cloud).all() for cloud in clouds):
        raise InputError(f"{folder}: none of its files can be used")
    return ids, np.stack(clouds)


def read_images_of(folder: Path) -> tuple[list[str], np.ndarray]:
    """Ids and images float32 [m, H, W(, 3)] in [0, 1] of a folder; gray if all of them are."""
    from PIL import Image

    from nefgpt.inputs.images import read_image
    from nefgpt.signals.file import check_one_size

    files, grey = files_below(folder), True
    for path in files.values():
        try:
            with Image.open(path) as image:
                grey &= image.mode in ("1", "L", "I", "I;16")
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"cannot read image {path}: {error}") from error
    images = [
        read_image(str(path), 1 if grey else 3)
        for path in tqdm(files.values(), desc=folder.name, unit="image", mininterval=1)
    ]
    check_one_size({image.shape: name for name, image in zip(files, images, strict=True)})
    return list(files), np.stack(images)


def read_many(path: Path) -> np.ndarray:
    """A whole set in one .npy: clouds [m, P, 3] or images [m, H, W(, 3)], float32.

    Raises
    ------
    InputError
        naming the file, when it is no such set.
    """
    from nefgpt.evaluation.clouds import read_clouds

    found = read_clouds(path)
    if found.ndim not in (3, 4) or found.dtype.kind not in "fiu":
        raise InputError(f"{path}: a set is an array [m, points, 3] or [m, height, width(, 3)]")
    return found.astype(np.float32)
