"""A field as a file: safetensors with its specification, its record and a checksum."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.fields.fits import Space
from nefgpt.fields.spec import FieldSpec, flatten, unflatten


class Field(NamedTuple):
    """What a field's file holds.

    Attributes
    ----------
    weights : float32 [W]; None marks a shape that was rejected.
    record : how it was fitted, and how well.
    coefficients : float32 [k] in the template's basis; None where it was fitted without one.
    basis : float32 [k, W] of a template that has one.
    """

    spec: FieldSpec
    weights: np.ndarray | None
    record: dict
    coefficients: np.ndarray | None
    basis: np.ndarray | None

    @property
    def space(self) -> Space:
        """Where the fields of this template are."""
        return Space(self.weights, self.basis)


def checksum(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Hex SHA-256 of a field's tensors, specification and record: safetensors keeps none."""
    digest = hashlib.sha256("\0".join([metadata["spec"], metadata["record"]]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0torch.{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def how_to_refit(path: Path) -> str:
    """What to do about a broken field; a pack keeps its whole fields when it runs again."""
    packs = path.parent / "packs"
    files = [path, packs] if packs.is_dir() else [path]
    return f"to fit it anew: rm -r {shlex.join(map(str, files))} and run Snakemake again"


def save_field(
    path: Path,
    spec: FieldSpec,
    weights: np.ndarray | None,
    record: dict,
    basis: np.ndarray | None = None,
    coefficients: np.ndarray | None = None,
) -> None:
    """Write one field; see `Field`."""
    tensors = {} if weights is None else unflatten(spec, weights)
    tensors |= {"basis": basis, "coefficients": coefficients}
    tensors = {name: np.ascontiguousarray(t) for name, t in tensors.items() if t is not None}
    metadata = {"spec": spec.to_json(), "record": json.dumps(record, sort_keys=True)}
    metadata["sha256"] = checksum(tensors, metadata)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_field(path: Path) -> Field:
    """Read one field written by `save_field`; raise InputError when it cannot be trusted."""
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata()
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        found = checksum(tensors, metadata)
        spec, record = FieldSpec.from_json(metadata["spec"]), json.loads(metadata["record"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(f"cannot read field {path}: {error}; {how_to_refit(path)}") from error
    # Fields of releases before the checksum have none.
    if metadata.get("sha256", found) != found:
        raise InputError(f"field {path} was changed after it was written; {how_to_refit(path)}")
    if "rejected" in record:
        return Field(spec, None, record, None, None)
    weights, more = flatten(spec, tensors), [tensors.get(n) for n in ("coefficients", "basis")]
    if not all(np.isfinite(numbers).all() for numbers in (weights, *more) if numbers is not None):
        raise InputError(f"field {path} holds non-finite weights; {how_to_refit(path)}")
    return Field(spec, weights, record, *more)
