"""A field as a file: safetensors with its specification, its record and a checksum."""

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.fields.spec import FieldSpec, flatten, unflatten


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
) -> None:
    """Write one field; `weights` None marks a shape that was rejected."""
    tensors = {} if weights is None else unflatten(spec, weights)
    tensors |= {} if basis is None else {"basis": basis}
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {"spec": spec.to_json(), "record": json.dumps(record, sort_keys=True)}
    metadata["sha256"] = checksum(tensors, metadata)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_field(path: Path) -> tuple[FieldSpec, np.ndarray | None, dict]:
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
        return spec, None, record
    weights = flatten(spec, tensors)
    if not np.isfinite(weights).all():
        raise InputError(f"field {path} holds non-finite weights; {how_to_refit(path)}")
    return spec, weights, record


def load_template(path: Path) -> tuple[FieldSpec, np.ndarray, np.ndarray | None]:
    """Specification, weights [W], and basis [k, W] or None, of `template.safetensors`."""
    spec, weights, _ = load_field(path)
    try:
        with safe_open(path, framework="numpy") as stream:
            basis = stream.get_tensor("basis") if "basis" in stream.keys() else None
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
    return spec, weights, basis
