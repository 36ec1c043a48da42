"""Which split a shape is of, and which shapes the template is learned from."""

import dataclasses
import hashlib
import json
from pathlib import Path

from nefgpt.base.errors import InputError
from nefgpt.inputs.settings import Split, SplitFiles

SPLITS = ("train", "val", "test")


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


def _split_lists(files: SplitFiles) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name in SPLITS:
        try:
            lines = Path(getattr(files, name)).read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:
            raise InputError(f"dataset.split_files.{name}: {error}") from error
        for shape_id in lines:
            if splits.setdefault(shape_id, name) != name:
                raise InputError(f"{shape_id} is listed in {splits[shape_id]} and in {name}")
    return splits


def _shares(shares: Split, published: dict[str, str]) -> Split:
    """Shares of train and val alone, where the data come with a test split."""
    if not published:
        return shares
    rest = shares.train + shares.val
    if not rest:
        raise InputError("dataset.split leaves nothing to train and val")
    return Split(train=shares.train / rest, val=shares.val / rest, test=0.0)


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
