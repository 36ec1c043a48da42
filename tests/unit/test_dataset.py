import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from nefgpt.base.errors import InputError
from nefgpt.inputs.listing import list_shapes, safe_id
from nefgpt.inputs.settings import Dataset, Split, SplitFiles
from nefgpt.inputs.splits import Shape, split_of, template_shapes

SHARES = Split(train=0.6, val=0.1, test=0.3)


def block(**values) -> Dataset:
    return Dataset(split=SHARES, **values)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_procedural_ids_do_not_move_when_shapes_are_added():
    few = list_shapes(block(kind="procedural", n_shapes=40), Path("r"), 0)
    many = list_shapes(block(kind="procedural", n_shapes=60), Path("r"), 0)
    assert set(few) < set(many)


def test_shares_are_kept():
    found = [split_of(f"shape {i}", SHARES, 0) for i in range(4000)]
    assert abs(found.count("train") / 4000 - 0.6) < 0.03
    assert abs(found.count("test") / 4000 - 0.3) < 0.03


@given(st.text(min_size=1).filter(lambda text: text.strip("./") and "\0" not in text))
@settings(deadline=None)
def test_ids_are_safe(text):
    assert re.fullmatch(r"[A-Za-z0-9_x][A-Za-z0-9._-]*", safe_id(Path(text + ".obj")))


def test_both_shapenet_layouts(tmp_path):
    for i in range(20):
        touch(tmp_path / "02691156" / f"v1-{i}" / "model.obj")
        touch(tmp_path / "02691156" / f"v2-{i}" / "models" / "model_normalized.obj")
    shapes = list_shapes(block(kind="shapenet", root=str(tmp_path)), Path("r"), 0)
    assert len(shapes) == 40
    assert all(Path(shape.path).exists() for shape in shapes)
    assert set(template_shapes(shapes, 3, 0)) < {s.shape_id for s in shapes if s.split == "train"}


def test_empty_split_is_named(tmp_path):
    touch(tmp_path / "a.obj")
    with pytest.raises(InputError, match=r"the \w+ split is empty"):
        list_shapes(block(kind="folder", root=str(tmp_path)), Path("r"), 0)


def test_equal_names_in_a_folder_get_distinct_ids(tmp_path):
    for i in range(20):
        touch(tmp_path / f"{i}.obj")
    touch(tmp_path / "a.ply")
    touch(tmp_path / "a.STL")
    shapes = list_shapes(block(kind="folder", root=str(tmp_path)), Path("r"), 0)
    assert len({shape.shape_id for shape in shapes}) == 22


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1b[2Jb", "a\udcffb", "a\u202eb", "a{b}"])
@pytest.mark.parametrize("kind", ["folder", "shapenet"])
def test_names_that_cannot_be_used_are_refused(tmp_path, name, kind):
    touch(tmp_path / "000" / name / "model.obj")
    with pytest.raises(InputError, match=re.escape(ascii(name)[1:-1])):
        list_shapes(block(kind=kind, root=str(tmp_path)), Path("r"), 0)


def test_odd_names_get_ids_of_their_own(tmp_path):
    odd = ["$(touch x)", "-rf", "a b", "a_b", "'", '"', "`", ";", "template", "Template", "a" * 250]
    odd += ["..x", "ünï", "*", "x" * 201, "x" * 202]
    for name in odd:
        touch(tmp_path / f"{name}.obj")
    touch(tmp_path / ("d" * 200) / ("e" * 200) / "f.obj")
    dataset = Dataset(kind="folder", root=str(tmp_path), split=Split(train=0.4, val=0.3, test=0.3))
    shapes = list_shapes(dataset, Path("r"), 0)
    ids = [shape.shape_id for shape in shapes]
    hidden = 1
    assert len(set(ids)) == len(odd) + 1 - hidden == len({shape.path for shape in shapes})
    for name in ids:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,219}", name)
        assert name.lower() != "template"


def test_an_id_that_a_suffix_makes_twice_is_refused(tmp_path):
    tail = hashlib.sha256(b"a b.obj").hexdigest()[:8]
    for name in ("a b", "a_b", f"a_b-{tail}"):
        touch(tmp_path / f"{name}.obj")
    with pytest.raises(InputError, match=f"get one id, a_b-{tail}: rename one"):
        list_shapes(block(kind="folder", root=str(tmp_path)), Path("r"), 0)


def test_split_files(tmp_path):
    for name in "abc":
        touch(tmp_path / f"{name}.obj")
    files = {split: str(tmp_path / split) for split in ("train", "val", "test")}
    for split, name in zip(files, "abc", strict=True):
        Path(files[split]).write_text(name + "\n")
    dataset = block(kind="folder", root=str(tmp_path), split_files=SplitFiles(**files))
    assert [shape.split for shape in list_shapes(dataset, Path("r"), 0)] == ["train", "val", "test"]
    Path(files["test"]).write_text("a\n")
    with pytest.raises(InputError, match="a is listed in train and in test"):
        list_shapes(dataset, Path("r"), 0)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        list_shapes(block(kind="folder", root=str(tmp_path / "none")), Path("r"), 0)


def test_a_folder_without_meshes_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))}: no meshes found"):
        list_shapes(block(kind="folder", root=str(tmp_path)), Path("r"), 0)


def test_an_existing_template_keeps_its_shapes(tmp_path):
    shapes = [Shape(f"s{i}", "", "train" if i % 4 else "test") for i in range(40)]
    chosen = template_shapes(shapes, 5, seed=0)
    path = tmp_path / "template.safetensors"
    record = {"shape_ids": chosen, "n_shapes": 5, "seed": 0}
    save_file({}, path, metadata={"record": json.dumps(record)})
    more = [*shapes, *(Shape(f"t{i}", "", "train") for i in range(200))]
    assert template_shapes(more, 5, 0, path) == chosen != template_shapes(more, 5, 0)
    assert template_shapes(more, 6, 0, path) == template_shapes(more, 6, 0)
    assert template_shapes(more, 5, 1, path) == template_shapes(more, 5, 1)
    gone = [shape for shape in more if shape.shape_id != chosen[0]]
    assert chosen[0] not in template_shapes(gone, 5, 0, path)
    path.write_bytes(b"cut")
    with pytest.raises(InputError, match=r"template\.safetensors"):
        template_shapes(more, 5, 0, path)
