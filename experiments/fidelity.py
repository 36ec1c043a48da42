"""How well fields keep their shapes, over their specification and the way they are fitted.

    python experiments/fidelity.py --real FOLDER --out fidelity.csv

For each dataset (procedural airplanes; with --real a folder of meshes) and each variant a
template is fitted to the most typical shape and all others from it, without a basis. A row is
appended to the CSV when it is done; called again, the command goes on where it stopped. Prints a
Markdown table. docs/fidelity.md explains the columns.
"""

import argparse
import contextlib
import csv
import json
import logging
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import trimesh
from matplotlib.figure import Figure
from torch.utils._python_dispatch import TorchDispatchMode

from nefgpt.base import cli
from nefgpt.base.device import device
from nefgpt.base.errors import InputError
from nefgpt.base.files import read_table
from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation import sets
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.fields import stacked
from nefgpt.fields.fits import Space
from nefgpt.fields.settings import Optimiser
from nefgpt.fields.spec import FieldSpec, random_weights
from nefgpt.fitting.optimise import fit_fields, training_points
from nefgpt.fitting.weights import read_fields, write_fields
from nefgpt.generators.components import Differences
from nefgpt.generators.gpt.tokenizer import fit_tokenizer
from nefgpt.generators.settings import Tokens
from nefgpt.inputs import meshes
from nefgpt.inputs.airplanes import write
from nefgpt.inputs.listing import SUFFIXES, safe_id
from nefgpt.inputs.splits import hash_unit
from nefgpt.signals import render, sdf, shapes
from nefgpt.signals.chamfer import chamfer_matrix
from nefgpt.signals.file import load_signal
from nefgpt.signals.settings import Sampling
from nefgpt.signals.surface import Surface, surface

ROOT = Path(__file__).parents[1]

log = logging.getLogger(__name__)

SEED = 0
N_THIN = 4096  # of them are asked whether they lie on a thin part
PACK = 4  # fields fitted at once
MIN_COMPONENT = 0.02
TOKENS = Tokens(kind="scalar", n_codes=127)

FIELD = FieldSpec(
    frequency=2 * math.pi,
    octaves=2,
    hidden=(24, 24, 24),
    activation="gelu",
    target="sdf",
    sdf_scale=0.02,
    offset=0.004,
    mirror=None,
)
FIT = Optimiser(learning_rate=0.01, loss="l1", pull=0.0, schedule="cosine", averaging=0.0)
PAPER = {"frequency": 1.0, "hidden": (32,) * 4, "target": "occupancy", "offset": 0.005}
PAPER |= {"loss": "mse", "schedule": "plateau"}
MIRROR = {"octaves": 3, "mirror": 0}  # what the default configuration has
# What differs from FIELD and FIT; `times` multiplies the steps, `level` is where the surface is
# extracted (else half the offset of an sdf). Those of HOW change how a fit is computed: the start,
# the share of points near the surface, and the precision of PyTorch's products. The most telling
# come first.
HOW = ("start", "near", "precision")
VARIANTS: dict[str, dict] = {
    "middle": {},
    "frequency 1": {"frequency": 1.0},
    "frequency pi": {"frequency": math.pi},
    "frequency 3 pi": {"frequency": 3 * math.pi},
    "frequency 4 pi": {"frequency": 4 * math.pi},
    "octaves 1": {"octaves": 1},
    "octaves 3": {"octaves": 3},
    "offset 0": {"offset": 0.0},
    "offset 0.008": {"offset": 0.008},
    "mse": {"loss": "mse"},
    "occupancy 0": {"target": "occupancy", "offset": 0.0, "loss": "mse"},
    "occupancy 0.005": {"target": "occupancy", "offset": 0.005, "loss": "mse"},
    "occupancy 0.01": {"target": "occupancy", "offset": 0.01, "loss": "mse"},
    "widths 3 x 16": {"hidden": (16,) * 3},
    "widths 3 x 32": {"hidden": (32,) * 3},
    "widths 4 x 32": {"hidden": (32,) * 4},
    "paper": PAPER,
    "paper, steps x 4": PAPER | {"times": 4},
    "steps x 4": {"times": 4},
    "scale 0.01": {"sdf_scale": 0.01},
    "scale 0.05": {"sdf_scale": 0.05},
    "steps x 0.4": {"times": 0.4},
    "steps x 2": {"times": 2},
    "silu": {"activation": "silu"},
    "relu": {"activation": "relu"},
    "paper, steps x 2": PAPER | {"times": 2},
    "level 0": {"level": 0.0},
    "level 0.004": {"level": 0.004},
    "offset 0, level 0.002": {"offset": 0.0, "level": 0.002},
    "rate 0.003": {"learning_rate": 0.003},
    "octaves 3, frequency pi": {"octaves": 3, "frequency": math.pi},
    "octaves 3, widths 3 x 16": {"octaves": 3, "hidden": (16,) * 3},
    "octaves 3, widths 3 x 32": {"octaves": 3, "hidden": (32,) * 3},
    "octaves 3, mirror": MIRROR,
    "octaves 3, steps x 0.4": {"octaves": 3, "times": 0.4},
    "octaves 3, steps x 4": {"octaves": 3, "times": 4},
    "octaves 3, mirror, PyTorch": MIRROR | {"precision": "float32"},
    "octaves 3, mirror, TF32 products": MIRROR | {"precision": "tf32"},
    "octaves 3, mirror, bf16 products": MIRROR | {"precision": "bf16"},
    "octaves 3, mirror, bf16 autocast": MIRROR | {"precision": "autocast"},
    "octaves 3, mirror, widths 3 x 32": MIRROR | {"hidden": (32,) * 3},
    "octaves 3, mirror, steps x 0.4": MIRROR | {"times": 0.4},
    "octaves 3, mirror, steps x 2": MIRROR | {"times": 2},
    "octaves 3, mirror, steps x 4": MIRROR | {"times": 4},
    "octaves 3, mirror, steps x 4, TF32 products": MIRROR | {"times": 4, "precision": "tf32"},
    "octaves 3, mirror, steps x 4, bf16 autocast": MIRROR | {"times": 4, "precision": "autocast"},
    "octaves 3, mirror, 8192 points, steps x 0.25": MIRROR
    | {"points_per_step": 8192, "times": 0.25},
    "octaves 3, mirror, 512 points, steps x 4": MIRROR | {"points_per_step": 512, "times": 4},
    "octaves 3, mirror, near 20 %": MIRROR | {"near": 0.2},
    "octaves 3, mirror, near 80 %": MIRROR | {"near": 0.8},
    "octaves 3, mirror, near 100 %": MIRROR | {"near": 1.0},
    "octaves 3, mirror, random starts": MIRROR | {"start": "random"},
    "octaves 3, mirror, random starts, steps x 4": MIRROR | {"start": "random", "times": 4},
    "octaves 3, mirror, plateau": MIRROR | {"schedule": "plateau"},
    "octaves 3, mirror, rate 0.005": MIRROR | {"learning_rate": 0.005},
    "octaves 3, mirror, rate 0.02": MIRROR | {"learning_rate": 0.02},
    "octaves 3, mirror, rate 0.04": MIRROR | {"learning_rate": 0.04},
}
# Column of the CSV to its title and digits in the Markdown table.
TABLE = {
    "variant": ("variant", ""),
    "weights": ("weights", ".0f"),
    "steps": ("steps", ".0f"),
    "cpu_seconds": ("CPU s a field", ".2f"),
    "loss": ("loss", ".3f"),
    "iou": ("IoU", ".3f"),
    "iou_near": ("IoU near", ".3f"),
    "chamfer": ("Chamfer ×10²", ".2f"),
    "f_score": ("F-score", ".3f"),
    "thin": ("thin", ".3f"),
    "components": ("parts", ".1f"),
    "valid %": ("valid %", ".0f"),
    "1-NNA %": ("1-NNA %", ".1f"),
    "MMD x100": ("MMD ×10²", ".2f"),
    "COV %": ("COV %", ".0f"),
    "quantised_iou": ("Δ IoU", "+.3f"),
    "quantised_chamfer": ("Δ Chamfer", "+.2f"),
    "quantised_f_score": ("Δ F-score", "+.3f"),
}
COLUMNS = ["dataset", *TABLE, "failed", "shapes", "references", "hardware", "settings"]


@dataclass
class Data:
    """One dataset.

    Attributes
    ----------
    ids : of the fitted shapes, the template's first.
    signals : what the SDF stage wrote of them.
    surfaces : their meshes in field coordinates.
    dense : float32 [shapes.N_DENSE, 3] points on each.
    thin : float32 [k, 3] of those that lie on thin parts.
    reference : float32 [n, N_POINTS, 3] normalised clouds of other shapes.
    among : float64 [n, n] Chamfer distances within `reference`.
    """

    ids: list[str]
    signals: list[dict]
    surfaces: list[Surface]
    dense: list[np.ndarray]
    thin: list[np.ndarray]
    reference: np.ndarray
    among: np.ndarray


def files(kind: str, real: Path | None, folder: Path, n: int) -> dict[str, Path]:
    """Shape id to mesh, in the order in which shapes are taken; `n` procedural ones are made."""
    if kind == "procedural":
        base = folder / "meshes" / write.SYNSET
        made = {}
        for i in range(n):
            name = write.shape_id(SEED, i)
            made[name] = base / name / "models" / "model_normalized.obj"
            if not made[name].exists():
                write.write_mesh(folder / "meshes", SEED, i)
        return made
    found = {
        safe_id(path.relative_to(real)): path
        for path in sorted(real.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    }
    return {name: found[name] for name in sorted(found, key=lambda name: hash_unit(SEED, name))}


def prepare(kind: str, real: Path | None, folder: Path, n: int, n_points: int) -> Data:
    """Sample `n` shapes to fit and `n` references; meshes that cannot be used are left out."""
    settings = Sampling(n_uniform=n_points // 2, n_near=n_points // 2)
    usable: dict[str, tuple[Path, dict]] = {}
    for name, path in files(kind, real, folder, 2 * n).items():
        cloud = folder / f"{kind}-{n_points}" / f"{name}.npz"
        if not cloud.exists():
            sdf.prepare(path, name, cloud, settings, SEED)
        signal = load_signal(cloud)
        if signal["rejected"]:
            log.info("left out: %s", signal["rejected"])
            continue
        usable[name] = path, signal
        if len(usable) == 2 * n:
            break
    else:
        raise InputError(f"{kind}: {2 * n} usable meshes are needed, {len(usable)} were found")
    names = list(usable)
    clouds = np.stack([shapes.real(usable[name][1]) for name in names])
    typical = int(chamfer_matrix(clouds[:n]).sum(axis=1).argmin())
    ids = [names[typical], *(name for name in names[:n] if name != names[typical])]
    data = Data(ids, [], [], [], [], clouds[n:], chamfer_matrix(clouds[n:]))
    for name in ids:
        path, signal = usable[name]
        mesh = meshes.load_mesh(path)
        vertices = (mesh.vertices - signal["center"]) * signal["scale"]
        mesh = trimesh.Trimesh(vertices, mesh.faces, process=False)
        points, faces = trimesh.sample.sample_surface(mesh, shapes.N_DENSE, seed=SEED)
        few, normals = points[:N_THIN], mesh.face_normals[faces[:N_THIN]]
        data.signals.append(signal)
        data.surfaces.append(Surface(vertices, np.asarray(mesh.faces), mesh.body_count))
        data.dense.append(points.astype(np.float32))
        data.thin.append(few[sdf.on_thin_part(mesh, few, normals)].astype(np.float32))
    log.info("%s: %.1f %% thin", kind, 100 * np.mean([len(k) / N_THIN for k in data.thin]))
    return data


def compare(found: Surface, data: Data, i: int) -> dict:
    """One surface against the mesh of shape `i`."""
    close = shapes.closeness(found, data.dense[i], data.thin[i])
    return close | {"components": found.n_components}


def summary(rows: list[dict], surfaces: list[Surface], data: Data) -> dict:
    """Medians of the rows (the mean of thin parts' share), and the surfaces as samples."""
    row = {
        name: float((np.nanmean if name == "thin" else np.nanmedian)([r[name] for r in rows]))
        for name in rows[0]
    }
    nothing = np.full((shapes.N_POINTS, 3), np.nan, np.float32)
    clouds = [
        shapes.normalise_cloud(found.sample(shapes.N_POINTS, stable_seed(SEED, "cloud", name)))
        if found.valid
        else nothing
        for name, found in zip(data.ids, surfaces, strict=True)
    ]
    samples = Samples(np.stack(clouds), pd.DataFrame(), shapes, SEED)
    values = sets.measure(samples, Known(data.reference, data.among))
    return row | values


class Rounded(TorchDispatchMode):
    """Rounds what goes into matrix products as a GPU's tensor cores do; sums stay in float32."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.precision = precision

    def round(self, x: torch.Tensor) -> torch.Tensor:
        """Float32 with 7 (bf16) or 10 (TF32; the rest is cut off) bits after the point."""
        if self.precision == "bf16":
            return x.bfloat16().float()
        return (x.contiguous().view(torch.int32) & -(1 << 13)).view(torch.float32)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default):
            *bias, left, right = args
            args = (*bias, self.round(left), self.round(right))
        return function(*args, **(kwargs or {}))


def computed_with(precision: str | None) -> contextlib.AbstractContextManager:
    """Where PyTorch computes a variant's fits: how."""
    if precision == "autocast":
        return torch.autocast(device().type, torch.bfloat16)
    return Rounded(precision) if precision in ("tf32", "bf16") else contextlib.nullcontext()


def variant(name: str, args: argparse.Namespace) -> tuple[FieldSpec, Optimiser, dict]:
    """Specification, fit settings, and extraction settings of a variant."""
    changes = {k: value for k, value in VARIANTS[name].items() if k not in HOW}
    steps = round(args.steps * changes.pop("times", 1))
    spec = replace(FIELD, **{k: changes.pop(k) for k in vars(FIELD) if k in changes})
    level = changes.pop("level", spec.offset / 2 if spec.target == "sdf" else 0.0)
    fit = replace(FIT, **{"steps": steps, "points_per_step": args.points_per_step} | changes)
    return spec, fit, {"resolution": args.resolution, "level": level}


def measure(name: str, data: Data, args: argparse.Namespace, keep: Path) -> dict:
    """Fit, extract and compare one variant; its fields are written to `keep`."""
    spec, fit, extract = variant(name, args)
    extract |= {"min_component": MIN_COMPONENT}
    points, values = training_points(spec, data.signals)
    precision, near, start = (VARIANTS[name].get(key) for key in ("precision", "near", "start"))
    if near is not None:
        n, half = values.shape[1], values.shape[1] // 2  # uniform ones, then near ones
        many = round(near * n)
        rows = np.concatenate([np.resize(range(half), n - many), np.resize(range(half, n), many)])
        points, values = points[:, rows], values[:, rows]
    how = {"way": stacked if precision else None, "progress": False}
    seed = stable_seed(SEED, "fit")
    first = random_weights(spec, stable_seed(SEED, "template"))[None]
    own = replace(fit, steps=args.template_steps)
    with computed_with(precision):
        one = spec, points[:1], values[:1], first, Space(0 * first[0]), own, seed
        template = fit_fields(*one, **how).weights[0]
        starts = np.broadcast_to(template, (len(points), len(template)))
        if start == "random":
            starts = np.stack(
                [random_weights(spec, stable_seed(SEED, "start", name)) for name in data.ids]
            )
        began = time.process_time()
        packs = [
            fit_fields(
                spec,
                points[i : i + PACK],
                values[i : i + PACK],
                starts[i : i + PACK],
                Space(template),
                fit,
                seed,
                **how,
            )
            for i in range(0, len(points), PACK)
        ]
        seconds = (time.process_time() - began) / len(points)
    weights, losses, failed = (
        np.concatenate([getattr(pack, name) for pack in packs])
        for name in ("weights", "losses", "failed")
    )
    surfaces = [surface(spec, field, **extract) for field in weights]
    rows = [
        {"loss": float(losses[i])}
        | shapes.overlap(spec, weights[i], data.signals[i])
        | compare(surfaces[i], data, i)
        for i in range(len(weights))
    ]
    write_fields(
        keep,
        spec,
        template,
        [(data.ids[i], "train", None, weights[i], row) for i, row in enumerate(rows)],
    )
    tokenizer = fit_tokenizer(Differences(weights - template), template, TOKENS)
    lost = []
    for i in range(min(args.quantised, len(weights))):
        field = tokenizer.decode(tokenizer.encode(Differences(weights[i : i + 1] - template)))[0]
        new = shapes.overlap(spec, field, data.signals[i])
        new |= compare(surface(spec, field, **extract), data, i)
        lost.append({k: new[k] - rows[i][k] for k in ("iou", "chamfer", "f_score")})
    row = summary(rows, surfaces, data)
    row |= {f"quantised_{k}": float(np.nanmedian([r[k] for r in lost])) for k in lost[0]}
    row |= {"weights": spec.n_weights, "steps": fit.steps, "cpu_seconds": seconds}
    return row | {"failed": int((failed >= 0).sum())}


def settings_of(name: str, args: argparse.Namespace) -> str:
    """Everything that a row depends on besides its dataset, as JSON."""
    common = {"sdf_points": args.sdf_points, "dense": shapes.N_DENSE, "seed": SEED}
    common["shapes"] = args.shapes
    if name == "meshes":
        return json.dumps(common, sort_keys=True)
    spec, fit, extract = variant(name, args)
    used = {k: value for k, value in asdict(fit).items() if k != "quality_resolution"}
    common |= {"field": json.loads(spec.to_json()), "fit": used, "extract": extract}
    common |= {"template_steps": args.template_steps, "quantised": args.quantised}
    common |= {key: VARIANTS[name][key] for key in HOW if key in VARIANTS[name]}
    return json.dumps(common, sort_keys=True)


def as_table(rows: list[dict]) -> str:
    """The rows as Markdown, a table per dataset and number of shapes."""
    lines = []
    for group in dict.fromkeys((row["dataset"], row["shapes"]) for row in rows):
        lines += ["{}, {} shapes".format(*group), ""]
        lines += [f"| {' | '.join(title for title, _ in TABLE.values())} |"]
        lines += [f"|---|{'--:|' * (len(TABLE) - 1)}"]
        for row in (row for row in rows if (row["dataset"], row["shapes"]) == group):
            cells = [
                (format(float(row[name]), digits) if digits else row[name]) if row[name] else ""
                for name, (_, digits) in TABLE.items()
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def picture(data: Data, names: list[str], ids: list[str], kept: Path, args) -> Figure:
    """Meshes of some shapes, and below them their fields by some variants, in one scale."""
    rows = {"mesh": [data.surfaces[data.ids.index(shape_id)] for shape_id in ids]}
    for name in names:
        fields, extract = read_fields(kept / f"{name}.parquet"), variant(name, args)[2]
        extract |= {"min_component": MIN_COMPONENT}
        chosen = [fields.weights[fields.shape_ids.index(shape_id)] for shape_id in ids]
        rows[name] = [surface(fields.spec, weights, **extract) for weights in chosen]
    every = [(found.vertices, found.faces) for row in rows.values() for found in row]
    half = render.common_half_extent(every)
    figure = Figure(figsize=(1.9 * len(ids) + 0.3, 1.35 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(ids), squeeze=False)
    for ax, mesh in zip(axes.flat, every, strict=True):
        # Input meshes may be open, so that their faces' orientation says nothing.
        image = render.render(*mesh, 400, half_extent=half, tint_back=ax not in axes[0])
        seen = np.flatnonzero(image[..., 3].any(axis=1))
        ax.imshow(image[seen[0] : seen[-1] + 1] if len(seen) else image)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, name in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(name.replace(", ", ",\n"), fontsize=8, rotation=0, ha="right", va="center")
    return figure


def parse() -> argparse.Namespace:
    """Command line of the experiment."""
    parser = argparse.ArgumentParser(
        prog="python experiments/fidelity.py",
        description="Measure how well fields keep their shapes, over field specifications and "
        "fit settings, and print a Markdown table. Goes on where an earlier call stopped.",
        epilog=f"variants: {'; '.join(VARIANTS)}",
    )
    parser.add_argument("--real", type=Path, help="a folder of meshes; default: procedural only")
    parser.add_argument("--shapes", type=int, default=32, help="fitted, and as many references")
    parser.add_argument("--steps", type=int, default=500, help="of a fit; some take more or fewer")
    parser.add_argument("--template-steps", type=int, default=1500)
    parser.add_argument("--points-per-step", type=int, default=2048)
    parser.add_argument("--sdf-points", type=int, default=50000, help="half near the surface")
    parser.add_argument("--resolution", type=int, default=128, help="of the extraction's grid")
    parser.add_argument("--quantised", type=int, default=8, help="shapes extracted after it")
    parser.add_argument("--variants", nargs="+", default=["*"], help="names or patterns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hardware", default=f"{os.cpu_count()} CPU cores", help="for the record")
    parser.add_argument("--folder", type=Path, default=ROOT / "results/fidelity", help="work here")
    parser.add_argument("--out", type=Path, required=True, help="CSV that rows are appended to")
    parser.add_argument("--picture", type=Path, help="PNG of the variants named by --variants")
    parser.add_argument("--pictured", nargs="+", help="ids of the real shapes drawn there")
    args = parser.parse_args()
    if bool(args.picture) != bool(args.pictured) or (args.picture and not args.real):
        parser.error("--picture needs --pictured and --real, and they need it")
    if min(args.shapes, args.quantised) < 2:
        parser.error("--shapes and --quantised must be at least 2")
    if args.real and not args.real.is_dir():
        parser.error(f"--real {args.real}: there is no such folder")
    args.chosen = [name for name in VARIANTS if any(fnmatch(name, p) for p in args.variants)]
    if not args.chosen:
        parser.error(f"no variant is named {' or '.join(args.variants)}; there are {[*VARIANTS]}")
    return args


def main() -> None:
    """Measure all variants that the CSV lacks."""
    args = parse()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    rows: list[dict] = []
    if args.out.exists():
        rows = read_table(args.out, []).to_dict("records")
        if rows and list(rows[0]) != COLUMNS:
            raise InputError(f"{args.out} has other columns; name another file")
    known = {(row["dataset"], row["variant"], row["settings"]) for row in rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    ready: dict[str, Data] = {}
    with args.out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if not rows:
            writer.writeheader()
        for name in ("meshes", *args.chosen):
            for kind in ("procedural", "real") if args.real else ("procedural",):
                settings = settings_of(name, args)
                if (kind, name, settings) in known:
                    continue
                if kind not in ready:
                    ready[kind] = prepare(
                        kind, args.real, args.folder, args.shapes, args.sdf_points
                    )
                data = ready[kind]
                if name == "meshes":
                    each = [compare(found, data, i) for i, found in enumerate(data.surfaces)]
                    found = summary(each, data.surfaces, data)
                else:
                    keep = args.folder / "fields" / kind / f"{name}.parquet"
                    found = measure(name, data, args, keep)
                about = {"dataset": kind, "variant": name, "settings": settings}
                about |= {"shapes": args.shapes, "references": args.shapes}
                found = {k: f"{v:.5g}" for k, v in found.items() if k in COLUMNS}
                row = {k: "" for k in COLUMNS} | found | about | {"hardware": args.hardware}
                writer.writerow(row)
                stream.flush()
                rows.append({k: str(v) for k, v in row.items()})
                log.info("%s", {k: row[k] for k in ("dataset", *TABLE)})
    sys.stdout.write(as_table(rows))
    if args.picture:
        data = ready.get("real") or prepare(
            "real", args.real, args.folder, args.shapes, args.sdf_points
        )
        unknown = set(args.pictured) - set(data.ids)
        if unknown:
            raise InputError(f"--pictured {', '.join(sorted(unknown))}: fitted are {data.ids}")
        kept = args.folder / "fields/real"
        picture(data, args.chosen, args.pictured, kept, args).savefig(args.picture, dpi=130)


if __name__ == "__main__":
    cli.run(main)
