"""Which split a shape is of, and which shapes the template is learned from."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from nefgpt.base.errors import InputError
from nefgpt.inputs.lists import SPLITS
from nefgpt.inputs.settings import Split


@dataclasses.dataclass(frozen=True)
class Shape:
    """One input: a mesh, or an image as FILE or FILE#NUMBER.

    `pack` numbers the job that makes it (procedural shapes and images), `label` is its class.
    """

    shape_id: str
    path: str
    split: str
    pack: int | None = None
    label: int | None = None


def hash_unit(seed: int, text: str) -> float:
    """A number in [0, 1) that depends on seed and text alone."""
    digest = hashlib.sha256(f"{seed}\0{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def split_of(shape_id: str, shares: Split, seed: int) -> str:
    """The split of an id by a stable hash: adding a shape moves no other."""
    position, border = hash_unit(seed, shape_id), 0.0
    for name in SPLITS:
        border += getattr(shares, name)
        if position < border:
            return name
    return SPLITS[-1]


def shares_of_rest(shares: Split, published: Iterable[str]) -> Split:
    """Shares of the splits that do not come with the data, for the inputs that have none.

    Parameters
    ----------
    published : the splits that do.
    """
    left = {name: getattr(shares, name) for name in SPLITS if name not in published}
    total = sum(left.values())
    if len(left) in (0, len(SPLITS)):
        return shares
    if not total:
        raise InputError(f"dataset.split leaves nothing to {' and '.join(left)}")
    return Split(**{name: left.get(name, 0.0) / total for name in SPLITS})


def template_shapes(
    shapes: list[Shape], n: int, seed: int, existing: Path | None = None
) -> list[str]:
    """Ids of the `n` train shapes with the lowest hashes: what the template is learned from.

    A template that exists keeps its shapes as long as they are in the train split, so that
    adding a shape makes no field stale.

    Parameters
    ----------
    existing : fields/template.safetensors; only its header is read.
    """
    train = [shape.shape_id for shape in shapes if shape.split == "train"]
    if existing is not None and existing.exists():
        record = _template_record(existing)
        kept = record.get("shape_ids", [])
        if [record.get("n_shapes"), record.get("seed")] == [n, seed] and set(kept) <= set(train):
            return sorted(kept)
    return sorted(sorted(train, key=lambda name: hash_unit(seed, f"template {name}"))[:n])


def _template_record(path: Path) -> dict:
    """What a safetensors file says of itself; importing its package would cost every parse."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, 1 << 24)))
        return json.loads(header["__metadata__"]["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
