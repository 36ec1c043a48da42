"""What a person should hear of a run: inputs left out or doubtful, fits that hold nothing."""

from collections.abc import Callable
from pathlib import Path

FEW = 10  # of each kind are named


def doubts_of(results: Path) -> list[str]:
    """Lines for the terminal, from what a run has written so far."""
    lines = []
    rejected = results / "rejected.tsv"
    if rejected.exists():
        rows = [line.split("\t") for line in rejected.read_text("utf-8").splitlines()[1:]]
        lines += _named("inputs are left out", [f"{row[0]}: {row[-1]}" for row in rows], rejected)
    for name, what, column, said in (
        ("shapes.parquet", "inputs are doubtful", "doubts", lambda doubt: doubt),
        ("weights.parquet", "fields hold nothing of their shapes", "iou", _nothing),
    ):
        path = results / name
        if path.exists():
            lines += _of_column(path, what, column, said)
    return lines


def _nothing(iou: float | None) -> str:
    return "IoU 0" if iou == 0 else ""


def _of_column(path: Path, what: str, column: str, said: Callable[[object], str]) -> list[str]:
    """What a column of a table says of its rows; a table of another kind may not have it."""
    import pyarrow as pa  # the workflow, which asks last, starts sooner without
    import pyarrow.parquet as pq

    try:
        if column not in pq.read_schema(path).names:
            return []
        rows = pq.read_table(path, columns=["shape_id", column]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        return [f"cannot read {path}: {error}; delete it and run again"]
    found = [(row["shape_id"], said(row[column])) for row in rows]
    return _named(what, [f"{name}: {text}" for name, text in found if text], path)


def _named(what: str, found: list[str], path: Path) -> list[str]:
    if not found:
        return []
    more = [f"  and {len(found) - FEW} more"] * (len(found) > FEW)
    return [f"{len(found)} {what} ({path}):", *(f"  {line}" for line in found[:FEW]), *more]
