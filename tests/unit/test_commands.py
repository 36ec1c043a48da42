"""What people type: every example of a --help and of docs/using.md, and every block of Python."""

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trimesh
from PIL import Image

import nefgpt
from nefgpt.base.errors import InputError
from nefgpt.fitting.weights import read_fields
from nefgpt.stages import COMMANDS

ROOT = Path(__file__).parents[2]
SMALL = ["--resolution", "24"]  # of meshes, where an example leaves it open


def call(words: list[str], monkeypatch) -> None:
    """Run a command in this process."""
    monkeypatch.setattr("sys.argv", [f"nefgpt {words[0]}", *words[1:]])
    importlib.import_module(f"nefgpt.{COMMANDS[words[0]].module}").main()


def examples_of(text: str) -> list[list[str]]:
    """The commands among the lines of a text."""
    return [shlex.split(line)[1:] for line in re.findall(r"^ *(nefgpt \S.*)$", text, re.M)]


def smaller(words: list[str]) -> list[str]:
    """An example that is done sooner: fewer samples, coarser meshes."""
    instead = {"--n": "3", "--resolution": "40"}
    pairs = zip(["", *words[:-1]], words, strict=True)
    words = [instead.get(before, word) for before, word in pairs]
    if words[0] == "export" or "--resolution" in words or "results/digits" in words:
        return words
    return [*words, *SMALL]


@pytest.fixture
def desk(toys, tmp_path, monkeypatch) -> Path:
    """A folder with two finished runs, an exported model, and files of one's own."""
    (tmp_path / "results").mkdir()
    for name in ("airplanes", "digits"):
        (tmp_path / "results" / name).symlink_to(toys / "results" / name)
    monkeypatch.chdir(tmp_path)
    trimesh.creation.capsule(height=2.0, radius=0.4).export("mine.obj")
    trimesh.creation.box((1, 2, 3)).export("yours.stl")
    pixels = (np.random.default_rng(0).random((8, 8)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save("seven.png")
    return tmp_path


def helped(name: str, monkeypatch, capsys) -> str:
    monkeypatch.setattr("sys.argv", [f"nefgpt {name}", "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"nefgpt.{COMMANDS[name].module}").main()
    return capsys.readouterr().out


def written_by(words: list[str]) -> list[Path]:
    """What an example leaves."""
    folder = Path(words[2] if words[0] == "export" else words[words.index("--out") + 1])
    return [folder] if folder.is_file() else list(folder.iterdir())


def test_every_example_of_every_help_runs(desk, monkeypatch, capsys):
    """In an order in which each finds what it names: exported first, sampled, encoded, used."""
    examples = {name: examples_of(helped(name, monkeypatch, capsys)) for name in COMMANDS}
    assert all(len(some) >= 3 for some in examples.values())
    for name in ("export", *(name for name in COMMANDS if name != "export")):
        for words in examples[name]:
            assert words[0] == name
            call(smaller(words), monkeypatch)
            assert written_by(words), words
            if name != "export":
                folder = Path(words[words.index("--out") + 1])
                assert (folder / "sheet.png").stat().st_size > 2000
                assert len(pd.read_csv(folder / "samples.csv")) >= 1
    assert not list(desk.glob("results/*/.*")), "nothing is left in the runs"


def test_every_command_of_the_page_runs(desk, monkeypatch):
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/using.md").read_text(), re.M | re.S)
    examples = examples_of("".join(blocks))
    assert {words[0] for words in examples} == set(COMMANDS)
    for words in examples:
        call(smaller(words), monkeypatch)
        assert written_by(words)
    assert np.load("inside/mine-grid.npy").shape == (64, 64, 64)
    assert np.load("inside/mine-points.npy").shape == (4096, 3)
    with Image.open("inside/mine-slices.png") as picture:
        assert picture.size[0] > 1000


def run_blocks(page: str) -> dict:
    """Run the blocks of Python on a page, one after the other; the names they leave."""
    text = (ROOT / page).read_text()
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(compile(block, page, "exec"), names)
    return names


def test_the_block_of_the_readme_runs(desk):
    names = run_blocks("README.md")
    assert names["middle"].mesh(24).is_watertight and Path("first.glb").exists()


def test_every_block_of_python_runs(desk):
    names = run_blocks("docs/python.md")
    assert names["mesh"].is_watertight and len(trimesh.load("first.glb", force="mesh").faces)
    assert names["three"].label == 3 and len(names["between"]) == 5


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj", "stl"])
def test_meshes_are_closed_in_every_format(desk, monkeypatch, suffix):
    words = "sample results/airplanes --n 2 --resolution 24 --out made --format".split()
    call([*words, suffix], monkeypatch)
    expected = nefgpt.open("results/airplanes").sample(2)
    table = pd.read_csv("made/samples.csv")
    assert table["valid"].all() and table["watertight"].all()
    for i, field in enumerate(expected):
        mesh = trimesh.load(f"made/{i:04}.{suffix}", force="mesh")
        assert mesh.is_watertight and mesh.volume == pytest.approx(field.mesh(24).volume, rel=1e-4)
    stored = read_fields("made/fields.parquet")
    assert stored.weights.tobytes() == np.stack([f.weights for f in expected]).tobytes()


def test_glb_is_what_viewers_read(desk, monkeypatch):
    """Valid glTF 2.0: normals, as many as vertices and of length 1, a material, +Y up."""
    call("sample results/airplanes --n 1 --resolution 24 --out made".split(), monkeypatch)
    content = Path("made/0000.glb").read_bytes()
    assert content[:4] == b"glTF" and int.from_bytes(content[4:8], "little") == 2
    assert int.from_bytes(content[8:12], "little") == len(content)
    length = int.from_bytes(content[12:16], "little")
    header = json.loads(content[20 : 20 + length])
    assert header["asset"]["version"] == "2.0" and "extensionsRequired" not in header
    (primitive,) = header["meshes"][0]["primitives"]
    assert primitive.get("mode", 4) == 4
    about = {name: header["accessors"][i] for name, i in primitive["attributes"].items()}
    assert about["POSITION"]["count"] == about["NORMAL"]["count"]
    assert len(about["POSITION"]["min"]) == len(about["POSITION"]["max"]) == 3
    material = header["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0
    scene = trimesh.load("made/0000.glb")
    (mesh,) = scene.dump()
    np.testing.assert_allclose(np.linalg.norm(mesh.vertex_normals, axis=1), 1, atol=1e-5)
    found = nefgpt.open("results/airplanes").sample(1)[0].mesh(24)
    np.testing.assert_allclose(mesh.bounds, found.bounds, atol=1e-6)


def test_images_at_any_size_and_class(desk, monkeypatch):
    call("sample results/digits --n 3 --class 7 --resolution 20 --out made".split(), monkeypatch)
    with Image.open("made/0002.png") as picture:
        assert picture.size == (20, 20)
    assert (pd.read_csv("made/samples.csv")["label"] == 7).all()


def test_decoding_a_table_gives_its_meshes_again(desk, monkeypatch):
    run = "results/airplanes"
    call(f"sample {run} --n 2 --resolution 24 --out made".split(), monkeypatch)
    for table in ("fields", "tokens"):
        words = f"decode {run} made/{table}.parquet --resolution 24 --out {table}"
        call(words.split(), monkeypatch)
        for i in range(2):
            again = Path(f"{table}/sample-{i}.glb").read_bytes()
            if table == "fields":
                assert again == Path(f"made/{i:04}.glb").read_bytes()
    name = next(iter(nefgpt.open(run).fields))
    call(f"decode {run} {name} --resolution 24 --out one".split(), monkeypatch)
    assert Path(f"one/{name}.glb").is_file()


def test_files_that_cannot_be_encoded_leave_the_others(desk, monkeypatch):
    Path("broken.obj").write_text("v 0 0 0")
    words = "encode results/airplanes broken.obj mine.obj --resolution 24 --out made".split()
    with pytest.raises(InputError, match=r"1 of 2 files were left out: broken\.obj"):
        call(words, monkeypatch)
    assert pd.read_csv("made/samples.csv")["sample"].tolist() == ["mine"]
    assert nefgpt.load_field("made/mine.safetensors").name == "mine"


def test_what_cannot_be_is_said(desk, monkeypatch):
    Path("full").mkdir()
    Path("full/mine").write_text("keep me")
    shutil.copy("mine.obj", "full/mine.obj")
    call("sample results/digits --n 2 --out digits".split(), monkeypatch)
    call("encode results/digits seven.png --out sevens".split(), monkeypatch)
    for words, message in (
        ("sample results/airplanes --out full", "full is not empty"),
        ("sample results/airplanes --out mine.obj", "mine.obj is a file"),
        ("sample results/airplanes --resolution 2 --out a", "--resolution must be in 8 to 1024"),
        ("sample results/airplanes --model huge --out a", "no model 'huge', but tiny, gaussian"),
        ("sample results/airplanes --setting x --out a", "no setting 'x', but k3-t1, t1"),
        ("sample results/airplanes --class 1 --out a", "no classes"),
        ("sample results --out a", r"no config\.json"),
        ("complete results/airplanes --tokens 4 --shape mine.obj --out a", "4 codes, so 0 to 3"),
        ("decode results/airplanes digits/fields.parquet --out a", "another field specification"),
        ("decode results/airplanes digits/tokens.parquet --out a", "5|6 codes|4 codes"),
        ("decode results/airplanes sevens/seven.safetensors --out a", "field specification"),
        ("decode results/airplanes full/mine --out a", "cannot be read|unknown format"),
        ("decode results/airplanes mine.obj --points 0 --out a", "--points must be in 2 to"),
        ("decode results/airplanes mine.obj --grid 1 --out a", "--grid must be in 2 to 1024"),
        ("decode results/digits digits/fields.parquet --grid 9 --out a", "these are images"),
        (
            "encode results/airplanes mine.obj full/mine.obj --out a",
            "two fields would be called mine",
        ),
        ("interpolate results/airplanes mine.obj nowhere.obj --out a", "nowhere.obj is no file"),
        ("export results/airplanes mine.obj/x", "Not a directory"),
    ):
        with pytest.raises((InputError, NotADirectoryError), match=message):
            call(words.split(), monkeypatch)
        shutil.rmtree("a", ignore_errors=True)
    assert sorted(path.name for path in Path("full").iterdir()) == ["mine", "mine.obj"]
