"""Figures and report of a whole results folder, made by hand."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.base.files import write_json, write_text
from nefgpt.config import validate
from nefgpt.evaluation import tables
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import weights
from nefgpt.generators.components import Differences
from nefgpt.generators.gpt import tokenizer
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.generators.rows import GAUSSIAN
from nefgpt.report import figures, present, render
from nefgpt.signals.table import SHAPES_SCHEMA

REPO = Path(present.__file__).parents[2]
# Ids of digits with leading zeros, as some datasets have them.
IDS = [f"00{i}" for i in range(8)]
TRAIN, VAL = IDS[:5], IDS[5:7]
INVALID = 1  # the sample without a surface in every generated row
CONFIG = {
    "name": "by-hand",
    "dataset": {"n_shapes": 8},
    "field": {"hidden": [4]},
    "tokens": {"n_components": 3, "n_codes": 7},
    "gpt": {"tiny": {"embedding": 8}},
    "sampling": {"settings": {"k3-t1": {"top_k": 3}, "t1": {}}},
}


def mesh_of(shape_id: str) -> trimesh.Trimesh:
    """A wedge-like shape with longest side 0.9, in field coordinates."""
    mesh = trimesh.creation.box((0.9, 0.15 + 0.05 * int(shape_id), 0.3))
    mesh.vertices[mesh.vertices[:, 0] > 0] *= [1, 0.5, 1]
    return mesh


def write_row(root, row, setting, shape_ids, *, invalid=(), scale=1.0):
    """Extracted surfaces of one row of the ladder."""
    folder = root / "samples" / row / setting
    (folder / "meshes").mkdir(parents=True)
    surfaces, nearest = [], []
    for i, shape_id in enumerate(shape_ids):
        valid, train = i not in invalid, TRAIN[i % len(TRAIN)]
        surfaces.append({"sample": i, "shape_id": shape_id, "valid": valid, "n_components": 1})
        surfaces[-1] |= {"n_faces": 12 * valid, "watertight": valid}
        nearest.append({"sample": i, "valid": valid, "nearest_1": train if valid else ""})
        nearest[-1]["distance_x100"] = 1.5 * i if valid else np.nan
        if valid:
            mesh = mesh_of(train)
            mesh.vertices = mesh.vertices * scale + (scale != 1)
            mesh.export(folder / "meshes" / f"{i}.ply")
    write_text(folder / "samples.csv", pd.DataFrame(surfaces).to_csv(index=False))
    write_text(folder / "nearest.csv", pd.DataFrame(nearest).to_csv(index=False))


def write_results(root: Path) -> Path:
    """A complete small results folder."""
    rng = np.random.default_rng(0)
    write_json(root / "config.json", asdict(validate(CONFIG)))
    rows = {"shape_id": IDS, "split": ["train"] * 5 + ["val"] * 2 + ["test"]}
    write_json(root / "shapes.json", [[*row, None] for row in zip(*rows.values(), strict=True)])
    rows["source_path"] = [str(root / "inputs" / f"{shape_id}.obj") for shape_id in IDS]
    shapes = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    pq.write_table(pa.Table.from_pylist(shapes, SHAPES_SCHEMA), root / "shapes.parquet")
    (root / "inputs").mkdir()
    for shape_id, path in zip(IDS, rows["source_path"], strict=True):
        mesh = mesh_of(shape_id)
        mesh.vertices = mesh.vertices * 40 + 1  # mesh units
        mesh.export(path)
    write_text(root / "rejected.tsv", "shape_id\tsource_path\treason\nbad\tb.obj\tno faces\n")
    spec = FieldSpec(hidden=(4,))
    fields = rng.normal(size=(7, spec.n_weights)).astype(np.float32)
    splits = ["train"] * 5 + ["val"] * 2
    quality = {"loss": 0.1, "iou": 0.9, "iou_near": 0.8, "chamfer": 1.23, "f_score": 0.7}
    weights.write_fields(
        root / "weights.parquet",
        spec,
        fields[0],
        [(*row, None, w, quality) for *row, w in zip(TRAIN + VAL, splits, fields, strict=True)],
    )
    seen = Differences(fields - fields[0])
    train = Differences(seen.numbers[:5])
    found = tokenizer.fit_tokenizer(train, fields[0], validate(CONFIG).tokens)
    tokens = found.encode(seen)
    tokenizer.save_tokenizer(root / "codebook.safetensors", found, np.bincount(tokens.ravel()))
    rows = {"shape_id": TRAIN + VAL, "split": splits, "label": [None] * 7}
    write_tokens(root / "tokens.parquet", rows, tokens, 7)
    write_json(root / "tokens.json", {"entropy_bits": 2.5, "val: median iou": float("nan")})
    write_text(
        root / "gpt/tiny/losses.csv",
        "iteration,train_loss,val_loss,learning_rate,tokens_per_second,calibrated_val_loss,"
        "temperature\n10,2,2.1,0.1,5,2,1.5\n20,1.5,1.9,0.1,5,1.9,1\n",
    )
    about = {"settings": {"batch_size": 2, "accumulate": 1, "iterations": 20}}
    about |= {"sequence_length": 3, "iteration": 20, "n_parameters": 77}
    write_json(root / "gpt/tiny/config.json", about)
    write_row(root, "train-fields", "all", TRAIN, scale=40.0)
    write_row(root, "quantised-train-fields", "all", TRAIN, invalid=[2], scale=40.0)
    paths = []
    names = [("train-meshes", "all"), ("train-fields", "all"), ("quantised-train-fields", "all")]
    for row, setting in [*names, GAUSSIAN, ("tiny", "k3-t1"), ("tiny", "t1")]:
        if (row, setting) not in names:
            write_row(root, row, setting, [f"sample-{i}" for i in range(9)], invalid=[INVALID])
        paths.append(root / "samples" / row / setting / "metrics.csv")
        nna = 70 if setting == "t1" else 80
        values = {"MMD x100": 3, "COV %": 40, "1-NNA %": nna, "valid %": 88.9}
        lines = [f"{row},{setting},{name},{value},0,9,9" for name, value in values.items()]
        write_text(paths[-1], "\n".join([",".join(tables.KEYS), *lines]) + "\n")
    tables.build(paths, root / "tables")
    return root


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "run")


def test_figures_and_report(results):
    out = results / "report.html"
    present.main(["figures", "--results", str(results)])
    present.main(["report", "--results", str(results), "--out", str(out)])
    stems = {"gallery-gaussian@pca", "gallery-tiny@k3-t1", "gallery-tiny@t1"}
    stems |= {"metrics", "ladder", "losses", "tokens", "weights"}
    names = {path.name for path in (results / "figures").iterdir()}
    assert names == {stem + suffix for stem in stems for suffix in (".svg", ".png")}
    page = out.read_text(encoding="utf-8")
    for text in (
        "by-hand", "HyperDiffusion", "Quality of the fits", ">1.230<", ">0.900<", "entropy bits",
        "Left out: 1 ", "embedding: 8", "1 empty or invalid",
        "first 9 of 9 samples (not selected; 8 of all have a surface", "nearest train shape",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("<figure>") == len(stems)
    (data,) = re.findall(r"<script type=application/json id=meshes>(.*?)</script>", page)
    shown = json.loads(data)
    assert shown[0]["label"] == "tiny t1: sample 0"  # the row with the lowest 1-NNA
    assert sum("nearest" in mesh["label"] for mesh in shown) == present.VIEWER_NEAREST
    # Input meshes have the size of the fields fitted to them.
    np.testing.assert_allclose([mesh["scale"] for mesh in shown], 0.45, atol=1e-6)
    present.make_report(results, out)
    assert out.read_text(encoding="utf-8") == page


@pytest.fixture
def drawn(monkeypatch):
    """What the figures of pictures were asked to draw."""
    calls = []
    monkeypatch.setattr(figures, "pictures", lambda *rows, **more: calls.append((*rows, more)))
    return calls


def test_invalid_samples_stay_visible(results, drawn):
    galleries = {entry["name"]: entry for entry in present.figure_spec(results)["galleries"]}
    gallery = galleries["tiny@t1"]
    assert len(gallery["samples"]) == 9
    assert gallery["nearest"][INVALID] is None
    assert gallery["nearest"][2] == str(results / "inputs" / "002.obj")
    assert np.isnan(gallery["distances"][INVALID])
    assert gallery["distances"][2] == pytest.approx(0.03)
    figures.gallery(gallery["samples"], gallery["nearest"], gallery["distances"], size=48)
    [(rows, _, notes, _)] = drawn
    samples = [image for name, images in rows if name == "sample" for image in images]
    nearest = [image for name, images in rows if name != "sample" for image in images]
    cross = [np.array_equal(image, render.placeholder(48)) for image in samples]
    assert np.flatnonzero(cross).tolist() == [INVALID]
    assert [image is None for image in nearest] == cross
    assert list(notes.values()).count("no surface") == 1
    assert "3.00" in notes.values()


def test_ladder_frames_its_three_rows_alike(results, drawn):
    spec = present.figure_spec(results)
    assert [row["shape_id"] for row in spec["ladder"]] == TRAIN
    columns = [[row[key] for row in spec["ladder"]] for key in ("mesh", "field", "quantised")]
    figures.ladder(*columns, TRAIN, size=48, extent=spec["extent"])
    images = np.array([images for _, images in drawn[0][0]], int)
    assert images.shape == (3, 5, 48, 48, 4)
    assert images[0, 0, ..., 3].any()
    # The same shapes: a few levels of shading apart, but never another outline.
    assert np.abs(images[0] - images[1]).mean() < 0.5
    assert np.array_equal(images[2, 2], render.placeholder(48))
    assert np.abs(images[1, [0, 1, 3, 4]] - images[2, [0, 1, 3, 4]]).max() == 0


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "shapes.parquet", "weights.parquet", "tokens.parquet",
        "codebook.safetensors", "gpt/tiny/losses.csv", "tables/metrics.csv",
        "samples/tiny/t1/samples.csv", "samples/gaussian/pca/nearest.csv",
        "samples/tiny/k3-t1/meshes/3.ply", "samples/train-fields/all/meshes/0.ply",
        "inputs/003.obj",
    ],
)  # fmt: skip
def test_missing_files_are_named_by_the_figures(results, name):
    (results / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        present.make_figures(results)


@pytest.mark.parametrize(
    "name", ["tokens.json", "rejected.tsv", "tables/table2.csv", "figures/ladder.png"]
)
def test_missing_files_are_named_by_the_report(results, name):
    if name != "figures/ladder.png":
        for figure, _ in present.report_spec(results)["figures"]:
            Path(figure).parent.mkdir(exist_ok=True)
            Path(figure).write_bytes(b"")
        (results / name).unlink()
    else:
        write_text(results / "figures/metrics.svg", "<svg/>")
    with pytest.raises(InputError, match=re.escape(name)):
        present.make_report(results, results / "report.html")


def test_rows_that_do_not_belong_together_are_refused(results):
    path = results / "samples/quantised-train-fields/all/samples.csv"
    path.write_text(path.read_text().replace(",000,", ",004,"))
    with pytest.raises(InputError, match="different shapes"):
        present.figure_spec(results)
    path = results / "samples/tiny/t1/nearest.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"tiny/t1/nearest\.csv"):
        present.figure_spec(results)
