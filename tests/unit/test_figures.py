"""Figures: drawn without warnings, the same bytes every time."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import trimesh
from safetensors.numpy import save_file

from nefgpt.base.errors import InputError
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting.weights import Row, write_fields
from nefgpt.generators.gpt.tokens import write_tokens
from nefgpt.report import figures


@pytest.fixture
def meshes(tmp_path):
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.ply"))
        trimesh.creation.box((0.4 + 0.2 * i, 0.5, 1)).export(paths[-1])
    return paths


def losses() -> pd.DataFrame:
    iteration = np.arange(0, 100, 10)
    val = np.where(iteration % 20 == 0, np.exp(-iteration / 50) + 1, np.nan)
    names = ["train_loss", "val_loss", "calibrated_val_loss"]
    return pd.DataFrame({"iteration": iteration} | dict.fromkeys(names, val))


def test_same_figure_same_bytes(tmp_path, meshes):
    before = dict(mpl.rcParams)
    for folder in ("a", "b"):
        figures.save(
            figures.gallery(meshes, meshes[::-1], [0.01, 0.02, 0.0]), tmp_path / folder, "g"
        )
        figures.save(figures.loss_curves({"m": losses()}, 2.0), tmp_path / folder, "l")
    for name in ("g.svg", "g.png", "l.svg", "l.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"<image" in (tmp_path / "a/g.svg").read_bytes()
    assert b"dc:date" not in (tmp_path / "a/l.svg").read_bytes()
    assert dict(mpl.rcParams) == before


def test_pictures_are_kept_pixel_for_pixel():
    red = np.zeros((20, 20, 4), np.uint8)
    red[...] = 200, 10, 20, 255
    clear = red * np.array([1, 1, 1, 0], np.uint8)
    fig = figures.pictures([("a", [red, None]), ("b", [clear, red])], "title", {(1, 1): "note"})
    canvas = np.asarray(fig.axes[0].images[0].get_array())
    assert (canvas == red[0, 0, :3]).all(axis=-1).sum() == 2 * 20 * 20
    assert (canvas == 255).all(axis=-1).sum() == canvas[..., 0].size - 2 * 20 * 20
    assert canvas.shape[1::-1] == pytest.approx(fig.get_size_inches() * fig.dpi)
    assert {"a", "b", "title", "note"} == {text.get_text() for text in fig.axes[0].texts}


def test_losses_are_in_bits():
    ax = figures.loss_curves({"m": losses()}).axes[0]
    assert ax.lines[1].get_ydata()[0] == pytest.approx(2 / np.log(2))
    assert ax.lines[3].get_xdata()[0] == 80  # the lowest point of the calibrated loss


def test_entropy():
    np.testing.assert_allclose(
        figures.entropy_bits(np.array([[1, 1, 1, 1], [4, 0, 0, 0]])), [2, 0], atol=1e-12
    )


def test_gallery_needs_matching_lists(meshes):
    with pytest.raises(InputError, match="as many"):
        figures.gallery(meshes, meshes[:1], [0.0])


def test_metric_bars_average_seeds():
    rows = [("a", "", "MMD x100", 3.0), ("a", "", "MMD x100", 5.0), ("b", None, "1-NNA %", 60.0)]
    figure = figures.metric_bars(
        pd.DataFrame(rows, columns=["method", "setting", "metric", "value"])
    )
    widths = [[bar.get_width() for bar in ax.patches] for ax in figure.axes]
    assert widths == [[60.0], [], [4.0]]


def test_every_figure_is_written(tmp_path, meshes):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 7, (6, 20)).astype(np.uint16)
    rows = {"shape_id": list("abcdef"), "split": ["train"] * 5 + ["val"], "label": [None] * 6}
    write_tokens(tmp_path / "t.parquet", rows, tokens, 8)
    layout = FieldSpec(hidden=(2,))
    weights = rng.normal(size=(6, layout.n_weights)).astype(np.float32)
    weights[:, -1] = 0
    fields = [Row(*row, field, {}) for *row, field in zip(*rows.values(), weights, strict=True)]
    write_fields(tmp_path / "w.parquet", layout, weights[0], fields)
    save_file({"codes": np.zeros((8, 1), np.float32)}, tmp_path / "c.safetensors")
    losses().to_csv(tmp_path / "l.csv", index=False)
    spec = {
        "losses": {"gpt": str(tmp_path / "l.csv")},
        "tokens": str(tmp_path / "t.parquet"),
        "codebook": str(tmp_path / "c.safetensors"),
        "weights": str(tmp_path / "w.parquet"),
        "galleries": [{"name": "x", "samples": meshes, "nearest": meshes, "distances": [0, 0, 0]}],
        "ladder": [
            {"shape_id": f"s{i}", "mesh": mesh, "field": mesh, "quantised": "missing.ply"}
            for i, mesh in enumerate(meshes)
        ],
    }
    figures.make_all(spec, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stems = ("tokens", "losses", "weights", "gallery-x", "ladder")
    assert names == {stem + suffix for stem in stems for suffix in (".svg", ".png")}


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nope\.parquet"):
        figures.make_all({"tokens": str(tmp_path / "nope.parquet")}, tmp_path)


def test_losses_of_an_earlier_release_are_named(tmp_path):
    losses().drop(columns="calibrated_val_loss").to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(InputError, match=r"l\.csv lacks the columns \['calibrated_val_loss'\]"):
        figures.make_all({"losses": {"m": str(tmp_path / "l.csv")}}, tmp_path)
