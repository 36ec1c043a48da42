"""What a person should hear of a run: inputs left out or doubtful, fits that hold nothing."""

from pathlib import Path

FEW = 10  # of each kind are named


def doubts_of(results: Path) -> list[str]:
    """Lines for the terminal, from what a run has written so far."""
    import pyarrow.parquet as pq  # the workflow, which asks last, starts sooner without

    lines = []
    rejected = results / "rejected.tsv"
    if rejected.exists():
        rows = [line.split("\t") for line in rejected.read_text("utf-8").splitlines()[1:]]
        lines += _named("inputs are left out", [f"{row[0]}: {row[-1]}" for row in rows], rejected)
    shapes = results / "shapes.parquet"
    if shapes.exists() and "doubts" in pq.read_schema(shapes).names:
        rows = pq.read_table(shapes, columns=["shape_id", "doubts"]).to_pylist()
        found = [f"{row['shape_id']}: {row['doubts']}" for row in rows if row["doubts"]]
        lines += _named("inputs are doubtful", found, shapes)
    fields = results / "weights.parquet"
    if fields.exists() and "iou" in pq.read_schema(fields).names:
        rows = pq.read_table(fields, columns=["shape_id", "iou"]).to_pylist()
        found = [f"{row['shape_id']}: IoU 0" for row in rows if row["iou"] == 0]
        lines += _named("fields hold nothing of their shapes", found, fields)
    return lines


def _named(what: str, found: list[str], path: Path) -> list[str]:
    if not found:
        return []
    more = [f"  and {len(found) - FEW} more"] * (len(found) > FEW)
    return [f"{len(found)} {what} ({path}):", *(f"  {line}" for line in found[:FEW]), *more]
