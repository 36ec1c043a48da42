"""MMD, COV and 1-NNA by the Earth Mover's distance, where the configuration asks for it."""

from typing import TYPE_CHECKING

from nefgpt.evaluation import sets
from nefgpt.evaluation.columns import Column
from nefgpt.evaluation.pairs import Pairs

if TYPE_CHECKING:
    from nefgpt.evaluation.metric import Known, Samples

COLUMNS = (
    Column("MMD-EMD x100", "MMD-EMD ×10²", 2, "low"),
    Column("COV-EMD %", "COV-EMD %", best="high"),
    Column("1-NNA-EMD %", "1-NNA-EMD %", best=50.0),
)


def of(found: Pairs) -> dict[str, float]:
    """The measures by their column."""
    values = sets.of(found).values()
    return dict(zip((column.name for column in COLUMNS), values, strict=True))


def measure(samples: "Samples", known: "Known") -> dict[str, float]:
    """MMD, COV and 1-NNA by the Earth Mover's distance."""
    found = samples.moved_pairs(known)
    return {} if found is None else of(found)
