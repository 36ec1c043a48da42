"""Figures and report of whole results folders, written by the stages."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import trimesh
from matplotlib.figure import Figure
from PIL import Image

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, read_table, write_json, write_text
from nefgpt.config import validate
from nefgpt.evaluation import classifier, clouds, decode, likelihood, tables
from nefgpt.evaluation import score as metrics
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import weights
from nefgpt.generators import sample
from nefgpt.generators.gpt import tokenizer
from nefgpt.generators.gpt import train as train_gpt
from nefgpt.generators.kind import Given, Made
from nefgpt.generators.rows import Row
from nefgpt.report import figures, gallery, pictures, positions, strips
from nefgpt.report import results as of_run
from nefgpt.report.results import Run, best_setting
from nefgpt.report.style import save
from nefgpt.signals import images, sdf, shapes, table
from nefgpt.signals.kind import KINDS
from nefgpt.signals.surface import Surface

# Ids of digits with leading zeros, as some datasets have them.
IDS = [f"{i:03d}" for i in range(12)]
TRAIN, VAL, TEST = IDS[:5], IDS[5:7], IDS[7:]
INVALID = 1  # the sample without a surface in every generated row
CONFIG = validate(
    {
        "name": "run",
        "dataset": {"n_shapes": 13, "max_rejected_fraction": 0.1},
        "sdf": {"n_uniform": 1000, "n_near": 1000},
        "field": {"hidden": [4]},
        "tokens": {"n_components": 3, "n_codes": 7},
        "gpt": {
            "tiny": {"embedding": 8, "heads": 2, "layers": 1, "iterations": 20, "eval_every": 10}
        },
        "sampling": {"settings": {"k3-t1": {"top_k": 3}, "t1": {}}},
    }
)
SPEC = FieldSpec(hidden=(4,))
IMAGE_CONFIG = validate(
    {
        "name": "run",
        "dataset": {"kind": "digits"},
        "field": {"in_dim": 2, "hidden": [4], "target": "brightness"}
        | {"output_activation": "sigmoid"},
        "tokens": {"n_components": 3, "n_codes": 7},
        "gpt": {
            "tiny": {"embedding": 8, "heads": 2, "layers": 1, "iterations": 20, "eval_every": 10}
        },
        "sampling": {"settings": {"t1": {}}},
    }
)
RESULTS = Path("results/run")  # below where Snakemake runs


def mesh_of(shape_id: str) -> trimesh.Trimesh:
    """A wedge-like shape with longest side 0.9, in field coordinates."""
    mesh = trimesh.creation.box((0.9, 0.1 + 0.07 * (5 * int(shape_id) % 12), 0.3))
    mesh.vertices[mesh.vertices[:, 0] > 0] *= [1, 0.5, 1]
    return mesh


def write_inputs(rng: np.random.Generator) -> None:
    """Meshes, one of them broken, and all that is made of them before the transformer."""
    splits = ["train"] * len(TRAIN) + ["val"] * len(VAL) + ["test"] * len(TEST)
    rows = [[*row, None] for row in zip(IDS, splits, strict=True)]
    entries = [*rows, ["bad", "train", None]]
    (RESULTS / "inputs").mkdir(parents=True)
    for shape_id in IDS:
        mesh = mesh_of(shape_id)
        mesh.vertices = mesh.vertices * 40 + 1  # mesh units
        mesh.export(RESULTS / f"inputs/{shape_id}.obj")
    write_text(RESULTS / "inputs/bad.obj", "v 0 0 0\n")
    for shape_id, _, _ in entries:
        path, out = RESULTS / f"inputs/{shape_id}.obj", RESULTS / f"sdf/{shape_id}.npz"
        sdf.prepare(path, shape_id, out, CONFIG.sdf, 0)
    write_json(RESULTS / "config.json", asdict(CONFIG))
    write_json(RESULTS / "shapes.json", entries)
    found = RESULTS / "shapes.parquet", RESULTS / "rejected.tsv"
    table.collect(entries, RESULTS / "sdf", *found, CONFIG.dataset.max_rejected_fraction)
    quality = {"loss": 0.1, "iou": 0.9, "iou_near": 0.8, "chamfer": 1.23, "f_score": 0.7}
    quality["thin"] = float("nan")
    fields = rng.normal(size=(len(TRAIN + VAL), SPEC.n_weights)).astype(np.float32)
    fitted = [(*row, w, quality) for row, w in zip(rows, fields, strict=False)]
    weights.write_fields(RESULTS / "weights.parquet", SPEC, fields[0], fitted)
    tokens = RESULTS / "weights.parquet", RESULTS / "sdf", RESULTS, CONFIG.tokens, 16
    tokenizer.tokenize(*tokens)
    train_gpt.train(RESULTS / "tokens.parquet", RESULTS / "gpt/tiny", CONFIG.gpt["tiny"], 0)


def write_row(
    patch: pytest.MonkeyPatch,
    row: str,
    setting: str,
    ids: list[str],
    meshes: Sequence[trimesh.Trimesh],
    *,
    invalid: int | None,
    signal_dir: Path | None = None,
) -> None:
    """Fields of one row of the ladder, decoded; only their surfaces are given."""
    folder = RESULTS / "samples" / row / setting
    source = weights.read_fields(RESULTS / "weights.parquet")
    surfaces = [Surface(np.asarray(mesh.vertices), mesh.faces, 1) for mesh in meshes]
    if invalid is not None:
        surfaces[invalid] = Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64), 0)
    # Each field says by its weights which of the surfaces it holds.
    made = np.arange(len(ids))[:, None] * np.ones(SPEC.n_weights, np.float32)
    patch.setattr(shapes, "surface", lambda spec, field, **settings: surfaces[int(field[0])])
    tokens = np.tile(np.arange(len(ids))[:, None] % 7, 3) if row == "tiny" else None
    draw = Made(made, [None] * len(ids), ids, tokens, 7)
    sample.write_samples(folder, Given(source), [draw])
    decode.extract_all(folder / "fields.parquet", folder, CONFIG.extract, 0, signal_dir)


def run(patch: pytest.MonkeyPatch, stage, line: str) -> None:
    patch.setattr("sys.argv", ["stage", *line.split()])
    stage.main()


def gather(patch: pytest.MonkeyPatch, kind: str) -> None:
    """What the metrics compare of real signals, and the ladder's first row."""
    real, files = RESULTS / "clouds", KINDS[kind]
    for split in ("train", "test"):
        out = f"--out {real}/{split}.npy --table {real}/{split}.csv"
        signals = f"--shapes {RESULTS}/shapes.json --signal-dir {RESULTS}/{files.folder}"
        run(patch, clouds, f"{out} split --split {split} {signals} --kind {kind}")
    first = RESULTS / "samples" / files.real / "all"
    out = f"--out {first}/clouds.npy --table {first}/samples.csv"
    run(patch, clouds, f"{out} choose --clouds {real}/train.npy --n-samples 5")


def measure(patch: pytest.MonkeyPatch, kind: str, rows: list[str], known_classes: str = "") -> None:
    """Metrics and tables of rows of samples, their names ROW/SETTING."""
    real = RESULTS / "clouds"
    both = f"--reference {real}/test.npy --train {real}/train.npy --kind {kind}"
    run(patch, metrics, f"reference {both} --out {real}/distances.npz")
    rows = [f"{KINDS[kind].real}/all", "train-fields/all", "quantised-train-fields/all", *rows]
    for row in rows:
        folder = RESULTS / "samples" / row
        found = f"--clouds {folder}/clouds.npy --samples {folder}/samples.csv"
        out = f"--out {folder}/metrics.csv --nearest {folder}/nearest.csv"
        about = f"--method {folder.parent.name} --setting {folder.name}"
        known = f"--distances {real}/distances.npz"
        if known_classes:
            known += f" --classifier {known_classes} --classes {folder}/classes.csv"
        run(patch, metrics, f"score {both} {found} {about} {known} {out}")
    paths = [RESULTS / "samples" / row / "metrics.csv" for row in rows]
    tables.build(paths, RESULTS / "tables", kind)
    known = " ".join(f"--{name} {RESULTS}/{name}.parquet" for name in ("weights", "tokens"))
    known += f" --codebook {RESULTS}/codebook.safetensors"
    models = json.dumps({"tiny": f"{RESULTS}/gpt/tiny"}, separators=(",", ":"))
    run(patch, likelihood, f"{known} --gpt {models} --out {RESULTS}/tables/likelihood.csv")


def write_results() -> None:
    """A complete small results folder below the current one."""
    write_inputs(np.random.default_rng(0))
    generated = [f"sample-{i}" for i in range(9)]
    copies = [mesh_of(TRAIN[i % len(TRAIN)]) for i in range(len(generated))]
    needles = [trimesh.creation.box((0.9, 0.01 + 0.001 * i, 0.01)) for i in range(len(generated))]
    with pytest.MonkeyPatch.context() as patch:
        gather(patch, "shapes")
        fields = [mesh_of(shape_id) for shape_id in TRAIN]
        for row, invalid in (("train-fields", None), ("quantised-train-fields", 2)):
            write_row(patch, row, "all", TRAIN, fields, invalid=invalid, signal_dir=RESULTS / "sdf")
        write_row(patch, "gaussian", "pca", generated, needles, invalid=INVALID)
        write_row(patch, "tiny", "k3-t1", generated, needles, invalid=INVALID)
        write_row(patch, "tiny", "t1", generated, copies, invalid=INVALID)
        measure(patch, "shapes", ["gaussian/pca", "tiny/k3-t1", "tiny/t1"])


def write_image_results() -> None:
    """The same of random images of two classes."""
    rng, spec = np.random.default_rng(0), IMAGE_CONFIG.field
    splits = ["train"] * len(TRAIN) + ["val"] * len(VAL) + ["test"] * len(TEST)
    entries = [
        [name, split, i % 2] for i, (name, split) in enumerate(zip(IDS, splits, strict=True))
    ]
    write_json(RESULTS / "config.json", asdict(IMAGE_CONFIG))
    write_json(RESULTS / "shapes.json", entries)
    (RESULTS / "inputs").mkdir(parents=True)
    paths = {name: f"{RESULTS}/inputs/{name}.png" for name in IDS}
    for path in paths.values():
        Image.fromarray(rng.integers(0, 256, (6, 5)).astype(np.uint8)).save(path)
    images.prepare(paths, RESULTS / "images", RESULTS / "pack.json")
    found = RESULTS / "shapes.parquet", RESULTS / "rejected.tsv"
    table.collect(entries, RESULTS / "images", *found, 0.0)
    fields = rng.normal(size=(len(TRAIN + VAL), spec.n_weights)).astype(np.float32)
    quality = {"loss": 0.1, "psnr": 20.0, "ssim": 0.5}
    fitted = [(*row, w, quality) for row, w in zip(entries, fields, strict=False)]
    weights.write_fields(RESULTS / "weights.parquet", spec, fields[0], fitted)
    tokens = RESULTS / "weights.parquet", RESULTS / "images", RESULTS, IMAGE_CONFIG.tokens, 16
    tokenizer.tokenize(*tokens)
    train_gpt.train(RESULTS / "tokens.parquet", RESULTS / "gpt/tiny", IMAGE_CONFIG.gpt["tiny"], 0)
    source, real = Given(weights.read_fields(RESULTS / "weights.parquet")), RESULTS / "clouds"
    with pytest.MonkeyPatch.context() as patch:
        gather(patch, "images")
        names = [f"sample-{i}" for i in range(9)]
        generated = fields[np.arange(9) % len(fields)]
        generated[INVALID] = np.nan
        for row, ids in (
            ("train-fields/all", TRAIN),
            ("quantised-train-fields/all", TRAIN),
            ("gaussian/pca", names),
            ("tiny/t1", names),
        ):
            folder, n = RESULTS / "samples" / row, len(ids)
            made = fields[:n] if ids is TRAIN else generated
            tokens = np.tile(np.arange(n)[:, None] % 7, 3) if row == "tiny/t1" else None
            draw = Made(made, [i % 2 for i in range(n)], ids, tokens, 7)
            sample.write_samples(folder, source, [draw])
            where = folder / "fields.parquet", folder, IMAGE_CONFIG.extract, 0
            decode.extract_all(*where, reference=real / "train.npy")
        known = f"--train {real}/train.npy --test {real}/test.npy --settings {{}}"
        out = f"--out {RESULTS}/classifier.safetensors --report {RESULTS}/classifier.json"
        run(patch, classifier, f"{known} {out}")
        measure(patch, "images", ["gaussian/pca", "tiny/t1"], f"{RESULTS}/classifier.safetensors")


def written_by(write, root: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write()
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return written_by(write_results, tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def image_results(tmp_path_factory):
    return written_by(write_image_results, tmp_path_factory.mktemp("images")) / RESULTS


@pytest.fixture
def results(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path / RESULTS


def test_figures_and_report(results):
    out = results / "report.html"
    figures.main(["figures", "--results", str(results)])
    figures.main(["report", "--results", str(results), "--out", str(out)])
    stems = {"gallery-gaussian@pca", "gallery-tiny@k3-t1", "gallery-tiny@t1"}
    stems |= {"ladder", "worst", "interpolation", "written"}
    plots = {"plane", "metrics", "fits", "likelihood", "positions", "losses", "tokens", "weights"}
    names = {path.name for path in (results / "figures").iterdir()}
    assert names == {
        *(stem + suffix for stem in stems | plots for suffix in (".svg", ".png")),
        *(stem + ".pdf" for stem in plots),
    }
    page = out.read_text(encoding="utf-8")
    for text in (
        ">run<", "HyperDiffusion", "Quality of the fits", ">1.230<", ">0.900<", "entropy bits",
        "Left out: 1 ", "embedding: 8", "What tiny t1 makes", "1 of 9 samples are empty",
        "gallery-tiny@k3-t1, gallery-tiny@t1, gallery-gaussian@pca",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("<figcaption>") == len(plots) + 4 + 2, "the viewer has two"
    (data,) = re.findall(r'<script type="application/json" id="samples">(.*?)</script>', page)
    shown = json.loads(data)
    assert best_setting(Run(results)) == ("tiny", "t1")  # the row with the lowest 1-NNA
    assert shown["rows"] == ["tiny t1", "tiny k3-t1", "gaussian pca"]
    assert [one["number"] for one in shown["samples"]] == [*range(9)] * 3
    for one in shown["samples"]:
        empty = one["number"] == INVALID
        assert empty == (one["distance"] is None) == (one["mesh"] is None) == (one["near"] is None)
        assert dict(one["facts"]).get("faces") == ("0" if empty else "12")
    assert dict(shown["samples"][3]["facts"])["tokens"] == "3 3 3"
    assert all(one["near"] in (None, *TRAIN) for one in shown["samples"])
    assert {*shown["train"]} == {*TRAIN}
    # Input meshes have the size of the fields fitted to them.
    np.testing.assert_allclose(
        [one["mesh"]["scale"] for one in shown["train"].values()], 0.45, atol=1e-6
    )
    figures.make_report(results, out)
    assert out.read_text(encoding="utf-8") == page


def test_a_run_of_images_with_classes(image_results):
    out = image_results / "report.html"
    figures.main(["figures", "--results", str(image_results)])
    figures.main(["report", "--results", str(image_results), "--out", str(out)])
    stems = {
        f"{what}-{row}" for what in ("gallery", "sheet") for row in ("gaussian@pca", "tiny@t1")
    }
    stems |= {"ladder", "worst", "interpolation", "written"}
    stems |= {"plane", "metrics", "fits", "likelihood", "positions", "accuracy"}
    stems |= {"losses", "tokens", "weights"}
    names = {path.name for path in (image_results / "figures").iterdir()}
    assert {name for name in names if not name.endswith(".pdf")} == {
        stem + suffix for stem in stems for suffix in (".svg", ".png")
    }
    page = out.read_text(encoding="utf-8")
    for text in (
        "Classifier", "PSNR (dB), median", "(1 − SSIM)/2 ×10² to the nearest training signal",
        "class 1</option>",
    ):  # fmt: skip
        assert text in page, text
    assert "<canvas" not in page, "images do not turn"


def test_captions_say_what_is_empty(results):
    [caption] = [one.caption for one in figures.figures_of(Run(results)) if "tiny@t1" in one.file]
    assert "first 9 of 9 samples (not selected; empty, marked by a cross: 1 of all)" in caption
    assert "nearest training shapes, with the Chamfer distance ×10²" in caption


def test_intervals_are_of_halves_where_there_are_any(results):
    run = Run(results)
    before = run.intervals().set_index(["method", "setting", "metric"])
    assert run.interval_rows() == [] and run.interval == "none, of one draw"
    names = "method,setting,metric,value,low,high,tie"
    line = "tiny,t1,COV %,40,30.5,60,yes"
    write_text(results / "tables/intervals.csv", f"{names}\n{line}\n")
    after = run.intervals().set_index(["method", "setting", "metric"])
    assert after.loc[("tiny", "t1", "COV %"), ["low", "high"]].tolist() == [30.5, 60]
    pd.testing.assert_frame_equal(
        after.drop(("tiny", "t1", "COV %")), before.drop(("tiny", "t1", "COV %"))
    )
    assert run.interval.startswith("95 %")
    shown = {"method": "tiny", "setting": "t1", "COV %": "40.0 [30.5, 60.0] ≈"}
    assert run.interval_rows() == [shown]


def test_fields_of_test_signals_are_drawn_where_there_are_any(results):
    draw = {one.file: one for one in figures.figures_of(Run(results))}["fits.svg"].draw
    assert not any("test" in line.get_label() for line in draw().axes[0].lines)
    config = read_json(results / "config.json")
    write_json(results / "config.json", config | {"evaluation": {"fits": True}})
    lines = ["shape_id,split,what,iou,chamfer"]
    lines += [f"{name},test,{what},0.5,2" for name in TEST for what in ("field", "quantised")]
    write_text(
        results / "tables/fits.csv",
        "\n".join([*lines, "000,train,field,0,9", "x,test,field,0,", "x,test,quantised,0,"]) + "\n",
    )
    draw = {one.file: one for one in figures.figures_of(Run(results))}["fits.svg"].draw
    found = {line.get_label(): line.get_ydata() for line in draw().axes[1].lines}
    assert found["field, test (median 2)"].tolist() == [2] * len(TEST)


def test_rows_have_roles(results):
    lines = Run(results).lines
    roles = {line.label: line.role for line in lines}
    assert roles["train-meshes"] == roles["quantised-train-fields"] == "bound"
    assert roles["gaussian pca"] == roles["tiny t1"] == "generator"


def test_listed_samples_are_shared():
    rows = [("a", "x"), ("b", "x"), ("b", "y")]
    assert gallery.shares(rows, ("b", "x"), 10) == {("b", "x"): 5, ("a", "x"): 2, ("b", "y"): 2}
    assert gallery.shares(rows[:1], rows[0], 10) == {rows[0]: 10}


def test_meshes_without_room_are_left_out(results, monkeypatch):
    monkeypatch.setattr(gallery, "GEOMETRY", 1000)
    samples = gallery.gallery_of(Run(results)).data["samples"]
    with_mesh = [one["mesh"] is not None for one in samples]
    assert any(with_mesh) and not with_mesh[-1]
    assert samples[-1]["picture"], "its picture stays"


def test_positions_cost_what_training_says(results):
    about = read_json(results / "gpt/tiny/config.json")
    bits = positions.held_out_bits(results / "gpt/tiny", results / "tokens.parquet")
    assert bits.shape == (len(VAL), 3)
    expected = about["calibrated_val_loss"] / np.log(2)
    assert bits.mean() == pytest.approx(expected, rel=1e-5)
    assert positions.alone(results / "tokens.parquet").shape == (3,)


def test_unwritten_tokens_are_the_mean(results):
    run = Run(results)
    assert strips.lengths(32, 9) == [0, 1, 2, 4, 7, 8, 16, 32]
    assert strips.lengths(3712, 4)[0] == 0 and strips.lengths(3712, 4)[-1] == 3712
    tokenizer, tokens = run.tokenizer, run.sample_tokens("tiny", "t1")[4]
    nothing, one, whole = strips.prefixes(tokenizer, tokens, [0, 1, 3])
    np.testing.assert_allclose(nothing, tokenizer.mean + tokenizer.template, rtol=1e-6)
    np.testing.assert_array_equal(whole, tokenizer.decode(tokens[None])[0])
    step = tokenizer.codes[tokens[0]] * tokenizer.scale[0] * tokenizer.components[0]
    np.testing.assert_allclose(one - nothing, step, atol=1e-5)


def test_a_lost_image_is_named(image_results, tmp_path):
    shutil.copytree(image_results, tmp_path / "run")
    (tmp_path / "run/samples/tiny/t1/images/2.png").unlink()
    with pytest.raises(InputError, match=r"images/2\.png"):
        Run(tmp_path / "run").samples("tiny", "t1")


def test_inputs_are_found_from_any_folder(results, monkeypatch):
    root, found = results.parents[1], []
    for folder, named in ((".", RESULTS), ("results/run/inputs", results), ("results", "run")):
        monkeypatch.chdir(root / folder)
        run = Run(named)
        found.append([shapes.mesh_of(run.real(shape_id))[0] for shape_id in TRAIN])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    expected = [mesh_of(shape_id).vertices for shape_id in TRAIN]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fields of random weights have large surfaces."""
    monkeypatch.setattr(strips, "RESOLUTION", 24)


@pytest.fixture
def drawn(monkeypatch):
    """What the grids of pictures were asked to show; pictures are small."""
    calls = []
    monkeypatch.setattr(pictures, "picture_grid", lambda *rows, **more: calls.append((*rows, more)))
    monkeypatch.setattr(shapes, "SIDE", 48)
    monkeypatch.setattr(pictures, "WIDTH", 8 * 56)
    return calls


def draw(results: Path, file: str) -> None:
    {one.file: one for one in figures.figures_of(Run(results))}[file].draw()


def test_invalid_samples_stay_visible(results, drawn):
    draw(results, "gallery-tiny@t1.png")
    nearest = read_table(results / "samples/tiny/t1/nearest.csv", ["distance_x100"])
    distance = float(nearest["distance_x100"][2])
    assert 0 < distance < 5
    [(rows, _, notes, _)] = drawn
    samples = [image for name, images in rows if name == "sample" for image in images]
    below = [image for name, images in rows if name != "sample" for image in images]
    cross = [np.array_equal(image, pictures.cross(48)) for image in samples]
    assert len(cross) == 9 and np.flatnonzero(cross).tolist() == [INVALID]
    assert [image is None for image in below] == cross
    assert list(notes.values()).count("empty") == 1
    assert f"{distance:.2f}" in notes.values()


def test_ladder_frames_its_three_rows_alike(results, drawn):
    draw(results, "ladder.png")
    [(rows, _, more)] = drawn
    assert more["heads"] == TRAIN
    assert [name for name, _ in rows] == ["meshes", "fields", "quantised fields"]
    images = np.array([images for _, images in rows], int)
    assert images.shape == (3, 5, 48, 48, 4)
    assert images[0, 0, ..., 3].any()
    # The same shapes: a few levels of shading apart, but never another outline.
    assert np.abs(images[0] - images[1]).mean() < 0.5
    assert np.array_equal(images[2, 2], pictures.cross(48))
    assert np.abs(images[1, [0, 1, 3, 4]] - images[2, [0, 1, 3, 4]]).max() == 0


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "shapes.parquet", "weights.parquet", "tokens.parquet",
        "codebook.safetensors", "gpt/tiny/losses.csv", "tables/metrics.csv",
        "samples/tiny/t1/samples.csv", "samples/gaussian/pca/nearest.csv",
        "samples/tiny/k3-t1/meshes/3.ply", "samples/train-fields/all/meshes/0.ply",
        "samples/tiny/t1/tokens.parquet", "inputs/003.obj", "sdf/001.npz",
    ],
)  # fmt: skip
def test_missing_files_are_named_by_the_figures(results, name, drawn, monkeypatch):
    monkeypatch.setattr(figures, "save", lambda *drawing: None)
    (results / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        figures.make_figures(results)


def test_losses_of_an_earlier_release_are_named(results, drawn, monkeypatch):
    monkeypatch.setattr(figures, "save", lambda *drawing: None)
    path = results / "gpt/tiny/losses.csv"
    write_text(path, path.read_text().replace("calibrated_val_loss", "loss"))
    with pytest.raises(InputError, match=r"losses\.csv lacks .*calibrated_val_loss"):
        figures.make_figures(results)


@pytest.mark.parametrize(
    "name", ["tokens.json", "rejected.tsv", "tables/table2.csv", "figures/ladder.png"]
)
def test_missing_files_are_named_by_the_report(results, name):
    for one in figures.figures_of(Run(results)):
        save(Figure(figsize=(1, 1)), results / "figures", one.file[:-4])
    (results / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        figures.make_report(results, results / "report.html")


def test_rows_that_do_not_belong_together_are_refused(results):
    path = results / "samples/quantised-train-fields/all/samples.csv"
    path.write_text(path.read_text().replace(",000,", ",004,"))
    with pytest.raises(InputError, match="different signals"):
        figures.figures_of(Run(results))
    path = results / "samples/tiny/t1/nearest.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"tiny/t1/nearest\.csv"):
        Run(results).samples("tiny", "t1")


def test_doubtful_inputs_and_fields_that_hold_nothing_are_told(monkeypatch):
    rows = [("a", "train", "lies turned"), ("b", "val", "")]
    shapes = [dict(zip(("shape_id", "split", "doubts"), row, strict=True)) for row in rows]
    monkeypatch.setattr(of_run, "read_shapes", lambda path: shapes)
    fields = SimpleNamespace(
        shape_ids=["a", "b"], splits=["train", "val"], measures={"iou": np.array([0.9, 0])}
    )
    assert of_run.doubtful(SimpleNamespace(folder=Path("r"), fields=fields)) == [
        {"input": "a", "split": "train", "doubt": "lies turned"},
        {"input": "b", "split": "val", "doubt": "fitted to IoU 0"},
    ]


def test_what_is_written_token_by_token_is_of_a_row_with_tokens():
    rows = [Row("tiny", "t1", "gpt"), Row("weights", "ddim50", "diffusion")]
    values = [["tiny", "t1", "1-NNA %", 70.0], ["weights", "ddim50", "1-NNA %", 60.0]]
    found = SimpleNamespace(
        metrics=lambda: pd.DataFrame(values, columns=["method", "setting", "metric", "value"]),
        config=SimpleNamespace(rows=rows),
        has_tokens=lambda method, setting: method == "tiny",
    )
    assert best_setting(found) == ("weights", "ddim50")
    assert best_setting(found, with_tokens=True) == ("tiny", "t1")
