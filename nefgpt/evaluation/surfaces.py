"""What the samples' surfaces are like: closed, and of how many parts."""

from typing import TYPE_CHECKING

import numpy as np

from nefgpt.evaluation.columns import Column

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("watertight %", "watertight %", best="high"),
    Column("parts", "parts"),
)


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """Share of watertight surfaces and median number of parts, where decoding told them."""
    if "watertight" not in samples.table:
        return {}
    watertight = samples.table["watertight"].astype(str).str.lower() == "true"
    parts = samples.table["n_components"].replace("", np.nan).astype(float)
    return {"watertight %": 100 * float(watertight.mean()), "parts": float(parts.median())}
