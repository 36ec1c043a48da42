"""Shapes as signals: fields of signed distance to surfaces, and how well they keep their shape.

Meshes and point clouds. A kind of signal; `surface.py` extracts.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nefgpt.fields import fused
from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.chamfer import (
    both_nearest,
    chamfer,
    chamfer_matrix,
    f_score,
    nearest_clouds,
    within,
)
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import Decoded, Measure, Shown
from nefgpt.signals.settings import Extract
from nefgpt.signals.surface import Surface, surface

N_POINTS = 2048  # per cloud
N_DENSE = 16384  # surface points: nearer to each other than 0.01 field units
QUALITY = {
    "iou": Measure("IoU", 0.05),
    "iou_near": Measure("IoU near the surface", 0.05),
    "chamfer": Measure("Chamfer ×10²", 0.95),
    "f_score": Measure("F-score at 1 %", 0.05),
    "thin": Measure("thin parts found at 1 %", 0.05),
}
KEPT = ("iou", "chamfer")
COMPARED = N_POINTS, 3
DISTANCE = "Chamfer distance"
SIDE = 224
_HELD_OUT = 10  # every tenth point is kept from training and measures the fit


def normalise_cloud(points: np.ndarray, how: str = "shape") -> np.ndarray:
    """One cloud [N, 3] as it is compared, float32.

    Parameters
    ----------
    how : "shape" centres it on its mean and divides by the standard deviation of all its
        coordinates (HyperDiffusion); "box" fits its bounding box into [-1, 1]^3 (DPC); "class"
        leaves it in field coordinates, for `nefgpt.evaluation.protocol.in_class_frame`.
    """
    if how == "class":
        return points.astype(np.float32)
    if how == "box":
        low, high = points.min(axis=0), points.max(axis=0)
        return ((points - (low + high) / 2) / ((high - low).max() / 2)).astype(np.float32)
    points = points - points.mean(axis=0)
    return (points / points.std()).astype(np.float32)


def training_rows(n: int) -> np.ndarray:
    """Which of `n` points fits may see, bool [n]: all but every tenth."""
    return np.arange(n) % _HELD_OUT != 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays; 1 when both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def overlap(spec: FieldSpec, weights: np.ndarray, signal: dict) -> dict:
    """Inside/outside agreement of one field [W] with a shape, without extracting its surface.

    Returns
    -------
    dict with `iou` (on all held-out points) and `iou_near` (on those near the surface).
    """
    held_out = np.ascontiguousarray(signal["points"][::_HELD_OUT])
    truth = signal["values"][::_HELD_OUT] < 0
    inside = fused.values(spec, weights, held_out) < spec.surface_level()
    half = len(truth) // 2  # the sampler writes uniform points first, near ones second
    return {"iou": float(iou(inside, truth)), "iou_near": float(iou(inside[half:], truth[half:]))}


def thin_points(signal: dict) -> np.ndarray:
    """Points on thin parts of a shape, float32 [T, 3]; clouds of earlier releases know none."""
    flags = signal.get("thin", np.zeros(0, bool))
    return signal["surface"][: len(flags)][flags]


def closeness(found: Surface, reference: np.ndarray, thin: np.ndarray) -> dict:
    """How close an extracted surface is to the mesh.

    Parameters
    ----------
    reference : float32 [N, 3] points on the mesh, in field coordinates.
    thin : float32 [T, 3] those on thin parts, or others that are.

    Returns
    -------
    dict with `chamfer` (of N_POINTS points, in the evaluation's normalisation, times 100; NaN
    without a surface), `f_score` (of N points at 0.01 field units; 0 without a surface) and
    `thin`, the share of `thin` within 0.01 field units of the surface (0 without one; NaN for
    T = 0).
    """
    recall = 0.0 if len(thin) else float("nan")
    if not found.valid:
        return {"chamfer": float("nan"), "f_score": 0.0, "thin": recall}
    if len(thin):
        recall = within(both_nearest(thin, found.sample(N_DENSE, seed=1))[0])
    few = reference[:N_POINTS]
    centre, spread = few.mean(axis=0), few.std()
    points = found.sample(len(few), seed=0)
    distance = 100 * chamfer((points - centre) / spread, (few - centre) / spread)
    return {
        "chamfer": distance,
        "f_score": f_score(found.sample(len(reference), seed=0), reference),
        "thin": recall,
    }


def quality(spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
    """How well one field [W] keeps its shape.

    Parameters
    ----------
    signal : what the SDF stage wrote of the shape.
    resolution : grid samples per axis of the extracted surface.

    Returns
    -------
    dict of what `overlap` and `closeness` say, and `n_components` of the extracted surface.
    """
    found = surface(spec, weights, resolution)
    return (
        overlap(spec, weights, signal)
        | closeness(found, signal["surface"], thin_points(signal))
        | {"n_components": found.n_components}
    )


def real(signal: dict, normalisation: str = "shape") -> np.ndarray:
    """What the metrics compare of a real shape: its cloud, float32 [N_POINTS, 3]."""
    return normalise_cloud(signal["surface"][:N_POINTS], normalisation)


def distances(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of Chamfer distances; see `nefgpt.signals.chamfer.chamfer_matrix`."""
    return chamfer_matrix(a, b)


def nearest(a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `b` to each of `a`; see `nefgpt.signals.chamfer.nearest_clouds`."""
    return nearest_clouds(a, b, k)


def decode(
    spec: FieldSpec,
    field: np.ndarray,
    settings: Extract,
    seed: int,
    size: tuple[int, ...],
    source: Path | None = None,
    normalisation: str = "shape",
) -> Decoded:
    """Turn one field [W] into a mesh and the cloud that the metrics compare.

    Parameters
    ----------
    size : (N_POINTS, 3).
    source : for the field of a real shape: its .npz, which says how to go back to the mesh's own
        units. Generated fields have no others than field coordinates.
    """
    found = surface(spec, field, **vars(settings))
    about = {"n_components": found.n_components, "n_faces": len(found.faces)}
    if not found.valid:
        return Decoded(None, about | {"watertight": False}, None)
    import trimesh  # fits need no mesh files, and start sooner without

    vertices = found.vertices
    if source is not None:
        frame = load_signal(source, only=("center", "scale"))
        vertices = vertices / frame["scale"] + frame["center"]
    mesh = trimesh.Trimesh(vertices, found.faces, process=False)
    about["watertight"] = bool(mesh.is_watertight)
    cloud = normalise_cloud(found.sample(size[0], seed), normalisation)
    return Decoded(cloud, about, mesh.export)


def mesh_of(shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 [V, 3], in field coordinates, and faces int64 [F, 3] of a mesh.

    Both are empty where a field has no surface.

    Raises
    ------
    InputError
        naming an input's mesh or .npz that is missing or unusable.
    """
    from nefgpt.inputs.meshes import load_mesh
    from nefgpt.signals import render  # fits need no mesh files, and start sooner without

    center, scale = np.zeros(3), 1.0
    if shown.signal is not None:
        about = load_signal(shown.signal, only=("source_path", "center", "scale"))
        center, scale = about["center"], about["scale"]
    if shown.decoded is not None:
        vertices, faces = render.load_mesh(shown.decoded)
    else:
        mesh = load_mesh(shown.root / about["source_path"])
        vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    return (vertices - center) * scale, faces


def pictures(shown: Sequence[Shown], size: int) -> list[np.ndarray | None]:
    """Renderings of meshes, all in one scale; None for those without a surface.

    Returns
    -------
    RGBA, uint8 [size, size, 4] each.
    """
    from nefgpt.signals import render

    meshes = [mesh_of(one) for one in shown]
    half = render.common_half_extent(meshes)
    # Input meshes may be open, so that their faces' orientation says nothing.
    return [
        render.render(*mesh, size, half_extent=half, tint_back=one.decoded is not None)
        for one, mesh in zip(shown, meshes, strict=True)
    ]
