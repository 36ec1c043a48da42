"""What tokenise.py measures of a method's fields: fidelity, and how few directions they take."""

import numpy as np

from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.shapes import quality


def explained(fields: np.ndarray, n_train: int, k: int = 32) -> float:
    """Share of held-out variance about the train mean within k train components, in percent."""
    mean = fields[:n_train].mean(axis=0)
    rows = np.linalg.svd(fields[:n_train] - mean, full_matrices=False)[2][:k]
    held = fields[n_train:] - mean
    return 100 * float(np.square(held @ rows.T).sum() / np.square(held).sum())


def fidelity(spec: FieldSpec, fields: np.ndarray, signals: list[dict], resolution: int) -> dict:
    """Medians of iou, iou_near and chamfer of fields [n, W]; how many have no surface."""
    rows = [
        quality(spec, field, signal, resolution)
        for field, signal in zip(fields, signals, strict=True)
    ]
    found = {name: float(np.nanmedian([row[name] for row in rows])) for name in ("iou", "iou_near")}
    chamfer = np.array([row["chamfer"] for row in rows])
    lost = int(np.isnan(chamfer).sum())
    # A field without a surface is infinitely far: the median then says what it should.
    found["chamfer"] = float(np.median(np.where(np.isnan(chamfer), np.inf, chamfer)))
    return found | {"lost": lost}
