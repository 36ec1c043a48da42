"""`nefgpt inspect`: known facts of known inputs, its pictures, and every example of its help."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from nefgpt.base import cli
from nefgpt.signals import inspect
from nefgpt.signals.pose import FEWEST, grid

CASES = Path(__file__).parents[1] / "cases"


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and error of one call."""
    monkeypatch.setattr("sys.argv", ["nefgpt inspect", *words])
    try:
        cli.run(inspect.main)
        status = 0
    except SystemExit as ended:
        status = 1 if isinstance(ended.code, str) else ended.code or 0
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code)
    out = capsys.readouterr()
    return status, out.out, out.err


def things(folder: Path) -> Path:
    """What the examples name."""
    box = trimesh.creation.box([40, 12, 35])
    box.export(folder / "airplane.obj")
    box.export(folder / "scan.stl")
    (folder / "meshes" / "old").mkdir(parents=True)
    trimesh.creation.icosphere(subdivisions=2).export(folder / "meshes" / "ball.ply")
    open_box = trimesh.Trimesh(box.vertices, box.faces[2:])
    open_box.export(folder / "meshes" / "old" / "ball.off")
    (folder / "digit.png").write_bytes((CASES / "09_black_on_transparent.png").read_bytes())
    pixels = np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return folder


def examples() -> list[str]:
    return re.findall(r"^  nefgpt (inspect .*)$", inspect.EXAMPLES, re.M)


def test_the_help_has_the_examples(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "--help")
    assert status == 0 and len(examples()) >= 5
    assert all(f"  nefgpt {example}\n" in out for example in examples())


@pytest.mark.parametrize("example", examples())
def test_each_example_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(things(tmp_path))
    words = shlex.split(example)[1:]
    status, out, _ = run(monkeypatch, capsys, *words)
    assert status == 0
    names = [word for word in words if "." in word]
    assert all(name in out for name in names)
    if "--json" in words:
        assert [about["usable"] for about in json.loads(out)] == [True] * 3
    if "--out" in words:
        drawn = list((tmp_path / "pictures").iterdir())
        assert len(drawn) == (2 if "meshes" in words else 1)
        assert all(f"pictures/{path.name}" in out for path in drawn)


def test_a_mesh_is_described(tmp_path):
    path = things(tmp_path) / "airplane.obj"
    about = inspect.look(path, inspect.Settings())
    assert about["usable"] and about["kind"] == "mesh" and about["format"].startswith("OBJ")
    assert (about["vertices"], about["triangles"], about["pieces"]) == (8, 12, 1)
    assert about["watertight"] and about["oriented"] and about["sign_agreement"] > 0.99
    assert about["extent"] == pytest.approx([40, 12, 35]) and about["scale"] == 0.9 / 40
    solid = 0.9 * 0.27 * 0.7875
    assert about["inside"] == pytest.approx(solid, abs=0.01)
    assert about["unit"] == "40 m if in metres, 4 cm if in millimetres"
    turned = inspect.look(path, inspect.Settings(frame=inspect.Frame(up="+z", forward="+y")))
    assert turned["extent"] == pytest.approx([40, 35, 12])
    text = inspect.text_of(about)
    for fact in (str(path), "8 vertices", "12 triangles, 1 connected piece", "40 × 12 × 35"):
        assert fact in text
    flat = inspect.look(tmp_path / "meshes" / "old" / "ball.off", inspect.Settings())
    assert not flat["watertight"] and "open" in inspect.text_of(flat)


def test_a_sheet_encloses_nothing_and_is_drawn_all_the_same(tmp_path):
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    sheet.export(tmp_path / "sheet.obj")
    about = inspect.look(tmp_path / "sheet.obj", inspect.Settings(), tmp_path / "s.png")
    assert not about["usable"] and "encloses nothing" in about["reason"]
    text = inspect.text_of(about)
    assert "cannot be used\n  reason     encloses nothing" in text and "1 triangle," in text
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_what_is_doubtful_is_said(tmp_path):
    rooms = trimesh.util.concatenate(
        [trimesh.creation.box([1, 1, 1]), trimesh.creation.box([0.9, 0.9, 0.9])]
    )
    rooms.faces[12:] = rooms.faces[12:, ::-1]  # a cavity: hidden, and not inside
    rooms.export(tmp_path / "rooms.ply")
    about = inspect.look(tmp_path / "rooms.ply", inspect.Settings())
    assert about["usable"] and about["doubts"] == [
        "inside and outside are doubtful: see the slices"
    ]
    assert "  doubt      inside and outside" in inspect.text_of(about)


def test_meshes_that_lie_turned_are_told_from_the_rest():
    cone = trimesh.creation.cone(0.2, 0.9)
    points, _ = trimesh.sample.sample_surface(cone, 2000, seed=0)
    points -= [0, 0, 0.45]
    found = [{"doubts": [], "cells": grid(points).tolist()} for _ in range(FEWEST)]
    found.append({"doubts": [], "cells": grid(points[:, [0, 2, 1]] * [1, 1, -1]).tolist()})
    inspect.turned(found)
    assert [len(about["doubts"]) for about in found] == [0] * FEWEST + [1]
    assert "lies turned against the rest" in found[-1]["doubts"][0]
    assert not any("cells" in about for about in found)


@pytest.mark.parametrize(
    ("extent", "guess"),
    [
        (1.0, "normalised, or 1 m if in metres"),
        (12.0, "12 m if in metres, 12 cm if in centimetres"),
        (0.05, "5 cm if in metres"),
        (47_400.0, "47.4 m if in millimetres"),
        (1e-9, "no common unit"),
        (2e12, "no common unit"),
    ],
)
def test_units_are_guessed(extent, guess):
    assert inspect.unit_guess(extent) == guess


def test_an_image_is_described():
    about = inspect.look(CASES / "09_black_on_transparent.png", inspect.Settings())
    assert (about["width"], about["height"], about["levels"]) == (16, 16, 2)
    assert about["done"] == ["transparent pixels laid on white"] and about["transparent"] > 0.5
    black = inspect.look(
        CASES / "09_black_on_transparent.png", inspect.Settings(background="black")
    )
    assert not black["usable"] and "nothing of it is seen on black" in black["reason"]
    ramp = inspect.look(CASES / "09_ramp16.png", inspect.Settings(channels=1))
    assert (ramp["bits"], ramp["levels"], ramp["format"]) == (16, 16, "PNG")
    assert "16-bit grey" in inspect.text_of(ramp) and "opaque" in inspect.text_of(ramp)


def test_status_is_one_when_something_cannot_be_used(tmp_path, monkeypatch, capsys):
    things(tmp_path)
    (tmp_path / "empty.obj").touch()
    (tmp_path / "cut.png").write_bytes((tmp_path / "digit.png").read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    names = ["empty.obj", "cut.png", "notes.txt", "gone.ply", "digit.png"]
    status, out, _ = run(monkeypatch, capsys, *names, "--json", "--out", "p")
    assert status == 1
    found = {about["file"]: about for about in json.loads(out)}
    assert [found[name]["usable"] for name in names] == [False] * 4 + [True]
    assert found["empty.obj"]["reason"] == "the file is empty"
    assert "unknown format: meshes end in .glb" in found["notes.txt"]["reason"]
    assert found["gone.ply"]["reason"] == "there is no such file"
    assert [path.name for path in Path("p").iterdir()] == ["digit.png.png"]
    status, out, _ = run(monkeypatch, capsys, *names)
    assert status == 1 and out.count("cannot be used") == 4
    (tmp_path / "none").mkdir()
    for words, message in (
        (["none"], "none holds no mesh and no image, but no files"),
        (["digit.png", "--background", "whit"], "unknown color specifier: 'whit'"),
        (["scan.stl", "--up", "+y", "--forward=-y"], "lie along one axis"),
    ):
        status, _, text = run(monkeypatch, capsys, *words)
        assert status == 1 and message in text and "Traceback" not in text


def test_pictures_show_the_mesh_its_inside_and_what_is_transparent(tmp_path):
    things(tmp_path)
    inspect.look(tmp_path / "airplane.obj", inspect.Settings(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        drawn = np.asarray(image).astype(int)
    height, width = drawn.shape[:2]
    assert width / height > 4
    ink = (drawn < 250).any(axis=2).mean(axis=0)
    assert all((tile > 0).any() for tile in np.array_split(ink, 5)), "every tile shows something"
    side = drawn[height // 2 + 14, 3 * width // 5 - width // 10]  # the middle of the first slice
    assert side[2] > side[0] + 40, "inside is blue"
    inspect.look(tmp_path / "digit.png", inspect.Settings(), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        drawn = np.asarray(image)
    assert len(np.unique(drawn[30:310, 12:300, 0])) > 3, "squares where it is transparent"


def test_pictures_of_equal_names_do_not_overwrite_each_other(tmp_path):
    for name in ("a/x.png", "b/x.png", "x.png", "a__x.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (3, 3)).save(path)
    names = [tmp_path, tmp_path / "x.png", tmp_path / "a" / "x.png"]
    labels = [label for _, label in inspect.files_of([str(name) for name in names])]
    assert len(set(labels)) == 6
