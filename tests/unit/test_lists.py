"""Published split lists: every form names the same shapes, and the log says how many."""

import codecs
import json
import logging
from pathlib import Path

import pytest

from nefgpt.base.errors import InputError
from nefgpt.inputs.listing import list_shapes
from nefgpt.inputs.settings import Dataset, Split, SplitFiles
from nefgpt.inputs.splits import hash_unit

SYNSET = "02691156"
NAMES = {
    "train": ["1a04e3eab45ca15dd86060f189eb133", "10155655850468db78d106ce0a280f87", "abc.def"],
    "val": ["aa"],
    "test": ["ba", "bb"],
}
SPLIT = Split(train=0.5, val=0.3, test=0.2)


@pytest.fixture
def shapenet(tmp_path) -> Path:
    root = tmp_path / "shapenet"
    for names in NAMES.values():
        for name in names:
            path = root / SYNSET / name / "models" / "model_normalized.obj"
            path.parent.mkdir(parents=True)
            path.touch()
    other = root / "03001627" / "chair" / "models" / "model_normalized.obj"
    other.parent.mkdir(parents=True)
    other.touch()
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / SYNSET
    root.mkdir()
    for names in NAMES.values():
        for name in names:
            (root / f"{name}.obj").touch()
    return root


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def splits(root: Path, files, kind="shapenet", synset=SYNSET, **more) -> dict[str, list[str]]:
    dataset = Dataset(
        kind=kind,
        root=str(root),
        synset=synset if kind == "shapenet" else None,
        split_files=files,
        split=SPLIT,
        **more,
    )
    found = {}
    for shape in list_shapes(dataset, Path("r"), 0):
        found.setdefault(shape.split, []).append(shape.shape_id)
    return found


def expected() -> dict[str, list[str]]:
    return {split: sorted(names) for split, names in NAMES.items()}


def three(folder: Path, line: str, end: str = "\n", encoding: str = "utf-8") -> SplitFiles:
    """One list a split; `line` has {} for the id."""
    return SplitFiles(
        **{
            split: write(folder / split, end.join(map(line.format, names)) + end, encoding)
            for split, names in NAMES.items()
        }
    )


LINES = ["{}", f"{SYNSET}/{{}}", f"{SYNSET}-{{}}", f"{SYNSET}_{{}}", "{}.obj", f"{SYNSET}/{{}}.npz"]
LINES += [
    f"ShapeNetCore.v2/{SYNSET}/{{}}/models/model_normalized.obj",
    f"./{SYNSET}/{{}}/model.obj",
]
LINES += [f"{SYNSET}\\{{}}", "  {}  # seen", '"{}"', "{},", f"'{SYNSET}/{{}}';"]
# As others' machines and ShapeNet's parts have them.
LINES += [f"/home/me/sets/{SYNSET}/{{}}/models/model_normalized.obj", f"shape_data/{SYNSET}/{{}}"]
NAMED = ["{}", f"{SYNSET}-{{}}", f"{SYNSET}_{{}}"]  # files, some of which are called so


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("kind", ["shapenet", "folder"])
def test_ids_may_have_synset_and_suffix(request, tmp_path, line, kind):
    root = request.getfixturevalue(kind)
    assert splits(root, three(tmp_path, line), kind) == expected()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("name", NAMED)
def test_files_may_have_the_synset_in_their_names(tmp_path, line, name):
    (tmp_path / "meshes").mkdir()
    for names in NAMES.values():
        for one in names:
            (tmp_path / "meshes" / f"{name.format(one)}.obj").touch()
    found = splits(tmp_path / "meshes", three(tmp_path, line), "folder")
    assert found == {part: sorted(map(name.format, names)) for part, names in NAMES.items()}


def test_a_name_may_end_like_a_suffix(tmp_path):
    (tmp_path / "meshes").mkdir()
    for name in ("a.sdf", "b.npz", "c", "d"):
        (tmp_path / "meshes" / f"{name}.off").touch()
    lists = {"train": "modelId\na.sdf\nd.off", "val": "b.npz.off", "test": "c.npz"}
    files = SplitFiles(**{name: write(tmp_path / name, text) for name, text in lists.items()})
    found = splits(tmp_path / "meshes", files, "folder")
    assert found == {"train": ["a.sdf", "d"], "val": ["b.npz"], "test": ["c"]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n# a comment\n", " ", ","])
def test_marks_line_ends_and_comments(shapenet, tmp_path, encoding, end):
    files = three(tmp_path, "{}", end, encoding)
    assert Path(files.val).read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16)
    assert splits(shapenet, files) == expected()


def all_csv(folder: Path, header="id,synsetId,subSynsetId,modelId,split", end="\n") -> str:
    rows = [
        f"{i:06},{SYNSET},02691156,{name},{split}"
        for i, (split, name) in enumerate((s, n) for s, names in NAMES.items() for n in names)
    ]
    rows += ["000900,03001627,03001627,chair,train", "000901,03001627,03001627,stool,test"]
    return write(folder / "all.csv", end.join([header, *rows]) + end, "utf-8-sig")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_shapenets_table(shapenet, tmp_path, caplog, end):
    caplog.set_level(logging.INFO)
    path = all_csv(tmp_path, end=end)
    assert splits(shapenet, path) == expected()
    assert splits(shapenet, SplitFiles(train=path, val=path, test=path)) == expected()
    message = "6 of 6 listed ids matched, 0 shapes are in no list and left out, 2 ids are of other"
    assert sum(message in text for text in caplog.messages) == 2
    assert not any("have no shape" in text for text in caplog.messages)
    both = splits(shapenet, path, synset=None)
    assert both["train"] == sorted([*NAMES["train"], "chair"])
    assert "1 listed ids have no shape, as 03001627/stool" in caplog.messages[-1]


@pytest.mark.parametrize("mark", ["\t", ";"])
def test_tables_that_a_spreadsheet_wrote(shapenet, tmp_path, mark):
    text = Path(all_csv(tmp_path)).read_text("utf-8-sig")
    path = write(tmp_path / "all.csv", text.replace(SYNSET, SYNSET[1:]).replace(",", mark))
    assert splits(shapenet, path) == expected()


def test_deepsdfs_lists_and_a_val_of_ones_own(shapenet, tmp_path):
    files = {}
    for split in NAMES:
        text = json.dumps({"ShapeNetV2": {SYNSET: NAMES[split]}})
        files[split] = write(tmp_path / f"sv2_{split}.json", text, "utf-8-sig")
    assert splits(shapenet, SplitFiles(**files)) == expected()
    one = write(tmp_path / "all.json", json.dumps({"training": NAMES["train"], **NAMES}))
    assert splits(shapenet, one) == expected()
    for i in range(40):
        (shapenet / SYNSET / f"more{i}" / "models").mkdir(parents=True)
    train = [*NAMES["train"], *(f"more{i}" for i in range(40))]
    text = json.dumps({"ShapeNetV2": {SYNSET: train}})
    files = SplitFiles(train=write(tmp_path / "t.json", text), test=files["test"])
    found = splits(shapenet, files)
    assert sorted(found["train"] + found["val"]) == sorted(train)
    assert found["val"] == sorted(name for name in train if hash_unit(0, name) >= 0.5 / 0.8)
    assert found["test"] == expected()["test"]


def test_folders_tell_equal_names_apart(tmp_path):
    for kind in ("chair", "table"):
        for i in range(6):
            (tmp_path / "meshes" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "meshes" / kind / f"{i}.off").touch()
    lists = {"train": "chair/0\nchair/1", "val": "table/0", "test": "table/1.off\ntable/2"}
    files = SplitFiles(**{name: write(tmp_path / name, text) for name, text in lists.items()})
    found = splits(tmp_path / "meshes", files, "folder")
    assert found["train"] == ["chair__0", "chair__1"]
    assert found["test"] == ["table__1", "table__2"]
    write(tmp_path / "val", "3")
    with pytest.raises(InputError, match="3 may be chair__3 or table__3: write more of its path"):
        splits(tmp_path / "meshes", files, "folder")
    write(tmp_path / "val", "sofa/3\nchair__3")
    assert splits(tmp_path / "meshes", files, "folder")["val"] == ["chair__3"]


def test_what_is_missing_is_counted_and_named(shapenet, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = three(tmp_path, "{}")
    write(tmp_path / "train", "10155655850468db78d106ce0a280f87\ngone\nlost\n")
    splits(shapenet, files)
    assert caplog.messages[-2:] == [
        "dataset.split_files: 4 of 6 listed ids matched, 2 shapes are in no list and left out",
        "dataset.split_files: 2 listed ids have no shape, as gone, lost",
    ]
    for name in NAMES:
        write(tmp_path / name, f"x{name}\n")
    with pytest.raises(
        InputError, match=r"none of the 3 listed ids \(as xtrain\).*6 shapes \(as 1"
    ):
        splits(shapenet, files)


def test_two_splits_of_one_shape_are_refused_however_they_are_written(shapenet, tmp_path):
    files = three(tmp_path, "{}")
    write(tmp_path / "test", f"{SYNSET}/aa.obj\nba")
    with pytest.raises(InputError, match="aa is listed in val and in test"):
        splits(shapenet, files)


def test_an_empty_split_of_lists_says_so(shapenet, tmp_path):
    files = three(tmp_path, "{}")
    write(tmp_path / "val", "nobody")
    message = "the val split is empty: of the 5 .* name some of them in dataset.split_files for val"
    with pytest.raises(InputError, match=message):
        splits(shapenet, files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists nothing"),
        ("{", "Expecting property name"),
        ('{"a": 3}', "3 is not a list of ids"),
        ('["a", 4]', "4 is not an id"),
        (
            "id,synsetId,subSynsetId,modelId,split\n0,02691156,x,aa,train",
            "nothing of val, but train",
        ),
        ("aa\xff", "codec can't decode"),
    ],
)
def test_bad_lists_are_named(shapenet, tmp_path, text, message):
    files = three(tmp_path, "{}")
    write(tmp_path / "val", text, "latin-1")
    with pytest.raises(InputError, match=f"split_files.val = {tmp_path}/val.*{message}"):
        splits(shapenet, files)
    with pytest.raises(InputError, match=r"split_files = .*give one file a split"):
        splits(shapenet, files.train)
    with pytest.raises(InputError, match=r"split_files.train = nowhere \(/.*No such file"):
        splits(shapenet, SplitFiles(train="nowhere", val=files.val, test=files.test))


def test_a_cap_counts_listed_shapes(shapenet, tmp_path):
    files = three(tmp_path, "{}")
    for i in range(60):
        (shapenet / SYNSET / f"unlisted{i}" / "models").mkdir(parents=True)
    found = splits(shapenet, files, n_shapes=6)
    assert found == expected()
