"""The grid of pictures: what lies where, for any kind of signal."""

import sys
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trimesh

from nefgpt.base.files import atomic_path, write_json, write_text
from nefgpt.report import figures, pictures, results
from nefgpt.report.style import save
from nefgpt.signals import shapes
from nefgpt.signals.kind import KINDS, Entry, Shown
from nefgpt.signals.table import SHAPES_SCHEMA


def toy() -> ModuleType:
    """A third kind: levels, files of one number, drawn as squares of its grey."""
    kind = ModuleType("nefgpt.signals.levels")
    kind.SIDE, kind.DISTANCE, kind.KEPT = 400, "difference", ()

    def picture(shown: Shown, size: int) -> np.ndarray | None:
        path = shown.decoded or shown.signal
        if not path.is_file():
            return None
        grey = int(path.read_text())
        return np.broadcast_to(np.array([grey, grey, grey, 255], np.uint8), (size, size, 4))

    kind.pictures = lambda shown, size: [picture(one, size) for one in shown]
    return kind


@pytest.fixture
def drawn(monkeypatch):
    """Rows, title, notes and heads of the grids that were asked for."""
    calls = []

    def grid(rows, title, notes=None, heads=()):
        calls.append((rows, title, notes, list(heads)))

    monkeypatch.setattr(pictures, "picture_grid", grid)
    return calls


def level(image: np.ndarray | None) -> int | str | None:
    if image is None:
        return None
    cross = np.array_equal(image, pictures.cross(len(image)))
    return "cross" if cross else int(image[0, 0, 0])


def levels(rows) -> list[tuple[str, list]]:
    return [(name, [level(image) for image in images]) for name, images in rows]


def test_pictures_are_kept_pixel_for_pixel():
    red = np.zeros((20, 20, 4), np.uint8)
    red[...] = 200, 10, 20, 255
    clear = red * np.array([1, 1, 1, 0], np.uint8)
    rows = [("a", [red, None]), ("b", [clear, red])]
    fig = pictures.picture_grid(rows, "title", {(1, 1): "note"}, ["head", "a-long-head"])
    canvas = np.asarray(fig.axes[0].images[0].get_array())
    assert (canvas[..., :3] == red[0, 0, :3]).all(axis=-1).sum() == 2 * 20 * 20
    assert (canvas == 255).all(axis=-1).sum() == canvas[..., 0].size - 2 * 20 * 20
    assert canvas.shape[1::-1] == pytest.approx(fig.get_size_inches() * fig.dpi)
    texts = [text.get_text() for text in fig.axes[0].texts]
    assert sorted(texts) == ["a", "a…ad", "b", "head", "note", "title"]


def test_a_row_without_pictures_is_a_gap():
    image = np.full((20, 20, 4), 255, np.uint8)
    rows = [("a", [image]), ("", []), ("b", [image])]
    apart, close = (
        pictures.picture_grid(some, "title").get_size_inches()[1] for some in (rows, rows[::2])
    )
    assert 0.05 < apart - close < 20 / pictures.DPI + 0.01


def test_margins_that_all_have_are_left_out():
    tall = np.zeros((20, 20, 4), np.uint8)
    tall[2:18, 8:10] = 255
    low = np.zeros((20, 20, 4), np.uint8)
    low[15:16, 8:14] = 255
    full = np.full((16, 6, 4), 255, np.uint8)
    trimmed, whole = (
        pictures.picture_grid([("a", row)], "title").get_size_inches()
        for row in ([tall, low], [full, full])
    )
    assert trimmed.tolist() == whole.tolist()


def test_same_figure_same_bytes(tmp_path):
    for i in range(3):
        trimesh.creation.box((0.4 + 0.2 * i, 0.5, 1)).export(tmp_path / f"{i}.ply")
    shown = [Shown(tmp_path / f"{i}.ply") for i in range(3)]
    for folder in ("a", "b"):
        figure = pictures.gallery(shapes, shown, [[one] for one in shown], [1.0, 2.0, 0.0], "t")
        save(figure, tmp_path / folder, "g")
    for name in ("g.svg", "g.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"<image" in (tmp_path / "a/g.svg").read_bytes()


def test_what_lies_where_in_a_gallery(tmp_path, drawn):
    for grey in range(9):
        write_text(tmp_path / str(grey), str(grey))
    paths = [Shown(tmp_path / str(grey)) for grey in range(9)]
    samples = [*paths[:4], Shown(tmp_path / "none"), paths[4]]
    near = [[paths[8], paths[7]], [paths[8]], [paths[6]], [paths[5]], [], [paths[8]]]
    pictures.gallery(toy(), samples, near, [1.0, 2.0, 3.456, 4.0, np.nan, 5.0], "t")
    [(rows, _, notes, _)] = drawn
    assert levels(rows) == [
        ("sample", [0, 1, 2, 3]),
        ("nearest train", [8, 8, 6, 5]),
        ("2. nearest", [7, None, None, None]),
        ("", []),
        ("sample", ["cross", 4]),
        ("nearest train", [None, 8]),
        ("2. nearest", [None, None]),
    ]
    assert notes[1, 2] == "3.46" and notes[5, 0] == "empty" and len(notes) == 6


def test_a_gallery_of_nothing_is_drawn(tmp_path):
    gone = [Shown(tmp_path / "gone")] * 2
    figure = pictures.gallery(toy(), gone, [[], []], [np.nan, np.nan], "t")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("empty") == 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of the third kind with classes: as much of its results as its pictures need."""
    monkeypatch.setitem(sys.modules, "nefgpt.signals.levels", toy())
    entry = Entry(("levels",), "levels", "numbers", ".txt", "train-levels", extracted=False)
    monkeypatch.setitem(KINDS, "levels", entry)
    monkeypatch.setattr("nefgpt.config.Config.signals", "levels")
    config = {"name": "run", "dataset": {"n_shapes": 9}, "gpt": {"tiny": {}}}
    folder = tmp_path / "results/run"
    write_json(folder / "config.json", config | {"sampling": {"settings": {"t1": {}}}})
    known = [{"shape_id": name, "split": "train", "label": 0} for name in "abc"]
    pq.write_table(pa.Table.from_pylist(known, SHAPES_SCHEMA), folder / "shapes.parquet")
    for i, name in enumerate("abc"):
        write_text(folder / f"levels/{name}.npz", str(i))
    rows = {"train-fields/all": 10, "quantised-train-fields/all": 20}
    for row, first in (rows | {"tiny/t1": 30, "gaussian/pca": 40}).items():
        lines = ["sample,shape_id,label,valid", "0,a,1,True", "1,b,0,True", "2,c,1,False"]
        write_text(folder / f"samples/{row}/samples.csv", "\n".join(lines) + "\n")
        lines = ["sample,valid,nearest_1,nearest_2,distance_x100", "0,True,b,c,1.5"]
        lines += ["1,True,a,c,2.5", "2,False,,,"]
        write_text(folder / f"samples/{row}/nearest.csv", "\n".join(lines) + "\n")
        for i in range(2):
            with atomic_path(folder / f"samples/{row}/numbers/{i}.txt") as temporary:
                temporary.write_text(str(first + i))
    return results.Run(folder)


def test_a_third_kind_has_gallery_ladder_and_sheet(run, drawn):
    found = {one.file: one for one in figures.figures_of(run)}
    for name in ("ladder", "gallery-tiny@t1", "sheet-tiny@t1", "gallery-gaussian@pca"):
        found[f"{name}.png"].draw()
    ladder, gallery, sheet, _ = drawn
    assert ladder[1] == "Training levels and their fields"
    assert levels(ladder[0]) == [
        ("levels", [0, 1, 2]),
        ("fields", [10, 11, "cross"]),
        ("quantised fields", [20, 21, "cross"]),
    ]
    assert ladder[3] == ["a", "b", "c"]
    # The first of each class, classes in order.
    assert levels(gallery[0]) == [
        ("sample", [31, 30]),
        ("nearest train", [0, 1]),
        ("2. nearest", [2, 2]),
    ]
    assert gallery[1] == "tiny t1: samples over their nearest training levels, difference ×10²"
    assert gallery[2] == {(1, 0): "2.50", (1, 1): "1.50"}
    assert levels(sheet[0]) == [("0", [31]), ("1", [30, "cross"])]


def test_pictures_of_a_third_kind_are_drawn(run, tmp_path):
    for one in figures.figures_of(run):
        if one.file.startswith(("ladder", "gallery", "sheet")):
            assert all(path.stat().st_size for path in save(one.draw(), tmp_path, "f"))
