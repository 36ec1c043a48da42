"""`nefgpt evaluate`: the same numbers as a run's, for folders by anybody."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trimesh
from PIL import Image

from nefgpt.base.errors import InputError
from nefgpt.evaluation import alone, folders
from nefgpt.evaluation.clouds import gather
from nefgpt.evaluation.metric import Known
from nefgpt.evaluation.protocol import in_class_frame
from nefgpt.evaluation.score import reference_distances, score_draws
from nefgpt.signals import shapes
from nefgpt.signals.sdf import prepare
from nefgpt.signals.settings import Sdf


def solid(seed: int) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.apply_scale(np.random.default_rng(seed).uniform(0.2, 1, 3))
    return mesh


@pytest.fixture(scope="module")
def meshes(tmp_path_factory) -> Path:
    """Folders of meshes in several formats, one of them in ShapeNet's layout."""
    root = tmp_path_factory.mktemp("meshes")
    for part, first in (("gen", 0), ("test", 20), ("train", 40)):
        for i in range(9):
            path = root / part / f"{part}-{i}.{('ply', 'obj', 'off', 'stl', 'glb')[i % 5]}"
            if part == "train":
                path = root / part / f"id{i}/models/model_normalized.obj"
            path.parent.mkdir(parents=True, exist_ok=True)
            solid(first + i).export(path)
    return root


def run(monkeypatch, capsys, *words) -> tuple[str, pd.Series]:
    monkeypatch.setattr("sys.argv", ["nefgpt evaluate", *map(str, words)])
    alone.main()
    out = Path(words[-1])
    return capsys.readouterr().out, pd.read_csv(out / "metrics.csv").set_index("metric").value


def of_the_stages(folder: Path, work: Path) -> np.ndarray:
    """Clouds of a folder as the stages `sdf` and `clouds` make them."""
    rows = []
    for name, path in folders.files_below(folder).items():
        prepare(path, name, work / f"{name}.npz", Sdf(n_uniform=1000, n_near=1000), seed=5)
        rows.append([name, "test", None])
    return gather(rows, work, shapes)[1]


def test_it_prints_what_a_run_would(meshes, tmp_path, monkeypatch, capsys):
    sets = {part: of_the_stages(meshes / part, tmp_path) for part in ("gen", "test", "train")}
    found = reference_distances(sets["test"], sets["train"], shapes)
    known = Known(sets["test"], found["rr"], found["nearest_train"])
    about = pd.DataFrame(index=range(9))
    wanted, near = score_draws(sets["gen"], about, sets["train"], known, shapes, range(5, 6))
    words = [meshes / "gen", meshes / "test", "--train", meshes / "train", "--seed", 5]
    text, value = run(monkeypatch, capsys, *words, "--out", tmp_path / "out")
    pd.testing.assert_series_equal(value, wanted.set_index("metric").value, check_exact=True)
    assert {"1-NNA %", "JSD x100", "novelty", "duplicates %", "precision %"} <= set(value.index)
    for part in ("gen: 9 samples", "seed 5", "2048 points", "normalisation shape", "1-NNA % → 50"):
        assert part in text
    nearest = pd.read_csv(tmp_path / "out/nearest.csv")
    assert nearest.nearest_1.tolist() == [f"id{i}" for i in near["nearest"][:, 0]]
    intervals = pd.read_csv(tmp_path / "out/intervals.csv")
    assert "1-NNA %" in set(intervals.metric) and "[" in text


def test_clouds_in_any_file_are_the_same_clouds(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(10, 60, 3)).astype(np.float32)
    writers = {
        "npy": np.save,
        "npz": lambda path, points: np.savez(path, points=points, other=1),
        "xyz": np.savetxt,
        "ply": lambda path, points: trimesh.PointCloud(points).export(path),
    }
    for suffix, write in writers.items():
        (tmp_path / suffix).mkdir()
        for i, points in enumerate(whole):
            write(tmp_path / suffix / f"{i}.{suffix}", points)
    reference = rng.normal(size=(10, 60, 3)).astype(np.float32)
    np.save(tmp_path / "reference.npy", reference)
    np.save(tmp_path / "all.npy", whole)
    values = {}
    for name in (*writers, "all.npy"):
        words = [tmp_path / name, tmp_path / "reference.npy", "--points", 60]
        values[name] = run(monkeypatch, capsys, *words, "--out", tmp_path / "out")[1]
    for value in values.values():
        np.testing.assert_allclose(value, values["npy"], rtol=1e-5)
    words = [tmp_path / "all.npy", tmp_path / "reference.npy", "--normalisation", "none"]
    words += ["--emd-points", 30, "--out", tmp_path / "out"]
    text, value = run(monkeypatch, capsys, *words)
    assert value["MMD x100"] == 100 * shapes.distances(whole, reference).min(axis=0).mean()
    assert value["MMD-EMD x100"] > 0 and "60 points, 30 for EMD" in text
    words = [tmp_path / "all.npy", tmp_path / "reference.npy", "--normalisation", "class"]
    _, value = run(monkeypatch, capsys, *words, "--points", 60, "--out", tmp_path / "out")
    framed = in_class_frame(reference, whole)
    apart = shapes.distances(framed[1], framed[0])
    assert value["MMD x100"] == pytest.approx(100 * apart.min(axis=0).mean())


def test_fewer_points_are_chosen_by_the_seed(tmp_path):
    points = np.random.default_rng(0).random((50, 3))
    some = folders.few_points(points, 20, 3, "x")
    assert len(np.unique(some, axis=0)) == 20
    assert all((row == points).all(axis=1).any() for row in some)
    assert not np.array_equal(some, folders.few_points(points, 20, 4, "x"))


def test_images(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    sets = {name: rng.integers(0, 256, (9, 8, 8), dtype=np.uint8) for name in ("gen", "test")}
    for name, images in sets.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    words = [tmp_path / "gen", tmp_path / "test", "--out", tmp_path / "out"]
    text, value = run(monkeypatch, capsys, *words)
    from nefgpt.signals import images

    gen, test = (sets[name].astype(np.float32) / 255 for name in ("gen", "test"))
    assert value["MMD x100"] == 100 * images.distances(gen, test).min(axis=0).mean()
    assert "normalisation none" in text and "JSD" not in text


def test_lost_samples_count_and_lost_references_do_not(meshes, tmp_path, monkeypatch, capsys):
    for part in ("gen", "test"):
        shutil.copytree(meshes / part, tmp_path / part)
        (tmp_path / part / f"{part}-0.ply").write_text("ply\nnot one\n")
    words = [tmp_path / "gen", tmp_path / "test", "--out", tmp_path / "out"]
    _, value = run(monkeypatch, capsys, *words)
    assert value["valid %"] == pytest.approx(800 / 9)
    assert pd.read_csv(tmp_path / "out/metrics.csv").n_reference.tolist()[0] == 8


def test_what_lies_beside_samples_is_none_and_an_empty_one_is(tmp_path):
    """Folders of `nefgpt sample`, which has a sheet, and of a run, which has clouds."""
    made, own = tmp_path / "made", tmp_path / "own"
    for path in (made / "0000.glb", own / "meshes/0.ply"):
        path.parent.mkdir(parents=True)
        solid(0).export(path)
    Image.new("L", (40, 40)).save(made / "sheet.png")
    (made / "samples.csv").write_text(
        "sample,valid,file\nsample-0,True,0000.glb\nsample-1,False,\n"
    )
    np.save(own / "clouds.npy", np.zeros((2, 20, 3)))
    (own / "samples.csv").write_text("sample,shape_id,valid\n0,sample-0,True\n1,sample-1,False\n")
    for folder in (made, own):
        ids, clouds = folders.read_clouds_of(folder, 20, 0, "shape", lost=True)
        assert len(ids) == 2 and np.isfinite(clouds).all(axis=(1, 2)).tolist() == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "gen: there is no such file or folder"),
        (lambda root: (root / "gen").mkdir(), "has no meshes, point clouds or images"),
        (
            lambda root: [
                (root / "gen").mkdir(),
                np.save(root / "gen/a.npy", np.zeros((4, 3))),
                Image.new("L", (4, 4)).save(root / "gen/b.png"),
            ],
            "has images among shapes",
        ),
        (
            lambda root: [(root / "gen").mkdir(), np.save(root / "gen/a.npy", np.ones((4, 3)))],
            "none of its files can be used",
        ),
        (
            lambda root: [(root / "gen").mkdir(), Image.new("L", (4, 4)).save(root / "gen/b.png")],
            "cannot be compared, of different sizes or kinds",
        ),
        (
            lambda root: [
                (root / "gen").mkdir(),
                np.save(root / "gen/a.npy", np.random.default_rng(0).random((20, 3))),
            ],
            "gen: one alone is no set",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(make, message, tmp_path, monkeypatch):
    (tmp_path / "test").mkdir()
    for i in range(3):
        points = np.random.default_rng(i).random((20, 3))
        np.save(tmp_path / f"test/{i}.npy", points)
    make(tmp_path)
    words = ["nefgpt evaluate", str(tmp_path / "gen"), str(tmp_path / "test"), "--points", "20"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(InputError, match=message):
        alone.main()


def test_a_network_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    words = ["nefgpt evaluate", str(tmp_path), str(tmp_path), "--fpd", "pointnet"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(InputError, match="--fpd pointnet: say pointnet or pointnet2, = and a file"):
        alone.main()


def test_help_has_examples():
    command = [sys.executable, "-m", "nefgpt", "evaluate", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "nefgpt evaluate generated/ test/ --train train/" in text and ".npz" in text
