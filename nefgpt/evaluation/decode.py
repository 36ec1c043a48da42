"""Decode fields: the meshes or images they hold, and what the metrics compare."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, write_text
from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.evaluation.settings import NORMALISATIONS
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.signals.kind import KINDS, kind_of, name_of
from nefgpt.signals.settings import Extract


def decode_all(
    fields: Fields,
    settings: Extract,
    seed: int,
    size: tuple[int, ...],
    out_dir: Path | None = None,
    signal_dir: Path | None = None,
    normalisation: str = "shape",
) -> tuple[np.ndarray, list[dict]]:
    """Decode a table of fields; write the meshes or images when there is an `out_dir`.

    Parameters
    ----------
    size : shape of what is compared of one signal.
    signal_dir : for fields of real signals: where `<shape_id>.npz` lie.
    normalisation : of clouds; see `nefgpt.signals.shapes.normalise_cloud`.

    Returns
    -------
    compared : float32 [n, *size]; NaN where a field holds no signal.
    rows : one dict per field for samples.csv.
    """
    kind, files = kind_of(fields.spec), KINDS[name_of(fields.spec)]
    compared, rows = np.full((len(fields.weights), *size), np.nan, np.float32), []
    for i, field in enumerate(tqdm(fields.weights, desc="decode", unit="field", mininterval=1)):
        name, label = fields.shape_ids[i], fields.labels[i]
        source = signal_dir / f"{name}.npz" if signal_dir else None
        own = stable_seed(seed, i)
        found = kind.decode(fields.spec, field, settings, own, size, source, normalisation)
        valid = found.compared is not None
        if valid:
            compared[i] = found.compared
        if valid and out_dir is not None:
            with atomic_path(out_dir / files.decoded / f"{i}{files.suffix}") as temporary:
                found.save(temporary)
        rows.append({"sample": i, "shape_id": name, "label": label, "valid": valid, **found.about})
    return compared, rows


def extract_all(
    fields: Path,
    out_dir: Path,
    settings: Extract,
    seed: int,
    signal_dir: Path | None = None,
    reference: Path | None = None,
    normalisation: str = "shape",
) -> None:
    """Write `meshes/<i>.ply` or `images/<i>.png`, `clouds.npy` and `samples.csv`.

    A field without a surface keeps its row: NaN in the clouds, `valid` false in the CSV.

    Parameters
    ----------
    reference : clouds.npy of real signals, whose size images are rendered at; shapes need none.
    """
    import pandas as pd

    table = read_fields(fields)
    kind, files = kind_of(table.spec), KINDS[name_of(table.spec)]
    folder = out_dir / files.decoded
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*{files.suffix}"):
        old.unlink()
    if kind.COMPARED is None and reference is None:
        raise InputError("images are rendered at the size of real ones: name them (--reference)")
    size = kind.COMPARED or read_clouds(reference).shape[1:]
    compared, rows = decode_all(table, settings, seed, size, out_dir, signal_dir, normalisation)
    with atomic_path(out_dir / "clouds.npy") as temporary:
        np.save(temporary, compared)
    write_text(out_dir / "samples.csv", pd.DataFrame(rows).to_csv(index=False))


def main() -> None:
    """Command line of the decoding."""
    parser = argparse.ArgumentParser(
        description="Turn fields into meshes and point clouds, or into images.",
    )
    parser.add_argument("--fields", type=Path, required=True, help="fields.parquet")
    parser.add_argument("--reference", type=Path, help="images: clouds.npy of real ones")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="extract block, JSON or @file")
    parser.add_argument("--signal-dir", type=Path, help="write meshes in the units of these shapes")
    parser.add_argument("--normalisation", choices=NORMALISATIONS, default="shape")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = cli.settings_argument(Extract, args.settings)
    given = args.signal_dir, args.reference, args.normalisation
    extract_all(args.fields, args.out_dir, settings, args.seed, *given)
