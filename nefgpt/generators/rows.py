"""The rows of a run's table: real signals, the ladder of bounds, then the generators.

The workflow asks for them whenever it builds its DAG, so imports stay light.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nefgpt.generators.kind import KINDS
from nefgpt.signals.kind import KINDS as SIGNALS

# Names that no model can have.
RESERVED = (
    "test-halves",
    "test-fields",
    *(entry.real for entry in SIGNALS.values()),
    *(kind for kind, entry in KINDS.items() if not entry.learns),
)


class Row(NamedTuple):
    """One row: its method and setting, which name its folder, and what makes its fields.

    Attributes
    ----------
    kind : of `nefgpt.generators.kind.KINDS`; None for the real signals, which have no fields.
    """

    method: str
    setting: str
    kind: str | None


def rows_of(signals: str, entries: Mapping[str, Iterable[str]], models: Iterable[Row]) -> list[Row]:
    """All rows, in the table's order.

    Parameters
    ----------
    signals : their kind, one of `nefgpt.signals.kind.KINDS`.
    entries : names of the settings of each generator that is not trained and has several.
    models : rows of the models that are trained.
    """
    simple = [
        Row(kind, setting, kind)
        for kind, entry in KINDS.items()
        if not entry.learns
        for setting in ([entry.setting] if entry.setting else entries[kind])
    ]
    return [Row(SIGNALS[signals].real, "all", None), *simple, *models]
