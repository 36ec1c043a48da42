"""Tables of fields: round trip, shards, and nothing half written."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from nefgpt.base.errors import InputError
from nefgpt.base.settings import from_dict
from nefgpt.fields.file import save_field
from nefgpt.fields.spec import FieldSpec, flatten, random_weights, unflatten
from nefgpt.fitting import weights

SPEC = FieldSpec(hidden=(4, 3))


def rows(n):
    values = np.random.default_rng(0).normal(size=(n, SPEC.n_weights)).astype(np.float32)
    labels = [None if i % 2 else i for i in range(n)]
    quality = [{"iou": i / n, "loss": float(i)} for i in range(n)]
    splits = ["val" if i % 3 == 0 else "train" for i in range(n)]
    return list(zip([f"s{i}" for i in range(n)], splits, labels, values, quality, strict=True))


def test_round_trip_over_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROWS_PER_SHARD", 4)
    made, template = rows(11), np.arange(SPEC.n_weights, dtype=np.float32)
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, made)
    stored = pq.ParquetFile(tmp_path / "w.parquet").metadata
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [4, 4, 3]
    found = weights.read_fields(tmp_path / "w.parquet")
    assert found.spec == SPEC and found.shape_ids == [row[0] for row in made]
    assert found.labels == [row[2] for row in made]
    np.testing.assert_array_equal(found.weights, np.stack([row[3] for row in made]))
    np.testing.assert_array_equal(found.template, template)
    assert found.of_split("val").tolist() == [0, 3, 6, 9]


def test_metadata_rebuilds_a_field_without_our_reader(tmp_path):
    made = rows(2)
    weights.write_fields(tmp_path / "w.parquet", SPEC, made[0][3], made)
    table = pq.read_table(tmp_path / "w.parquet")
    about = json.loads(table.schema.metadata[b"nefgpt"])
    spec = from_dict(FieldSpec, about["field"])
    flat = np.array(table["weights"][1].as_py(), np.float32)
    tensors = unflatten(spec, flat)
    assert [name for name, _, _ in about["layers"]] == list(tensors)
    start = 4 * spec.n_inputs
    np.testing.assert_array_equal(tensors["layers.0.bias"], flat[start : start + 4])
    np.testing.assert_array_equal(tensors["layers.0.weight"][1, 2], flat[spec.n_inputs + 2])
    np.testing.assert_array_equal(flatten(spec, tensors), made[1][3])


def test_nothing_half_written(tmp_path):
    def broken():
        yield rows(1)[0]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        weights.write_fields(tmp_path / "w.parquet", SPEC, np.zeros(SPEC.n_weights), broken())
    assert list(tmp_path.iterdir()) == []


def zeroed(whole: bytes) -> bytes:
    return whole[:200] + bytes(200) + whole[400:]


BREAKS = [lambda _: b"", lambda b: b[:10], lambda b: b[: len(b) // 2], lambda b: b[:-1], zeroed]


@pytest.mark.parametrize("broken", BREAKS)
def test_broken_table_is_named(broken, tmp_path):
    path = tmp_path / "w.parquet"
    weights.write_fields(path, SPEC, np.zeros(SPEC.n_weights), rows(50))
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(InputError, match=r"w\.parquet"):
        weights.read_fields(path)


def test_a_flipped_bit_in_a_page_is_named(tmp_path):
    path = tmp_path / "w.parquet"
    made = rows(50)
    weights.write_fields(path, SPEC, np.zeros(SPEC.n_weights), made)
    content = bytearray(path.read_bytes())
    content[content.index(made[7][3][:20].tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"w\.parquet.*CRC"):
        weights.read_fields(path)


def test_fields_of_another_template_are_named(tmp_path):
    path, template = tmp_path / "w.parquet", tmp_path / "template.safetensors"
    anchor = random_weights(SPEC, 0)
    weights.write_fields(path, SPEC, anchor, rows(3))
    fields = weights.read_fields(path)
    save_field(template, SPEC, anchor, {})
    weights.check_template(path, fields, template)
    other = FieldSpec(hidden=(4, 3), frequency=3.0)
    for spec, values in ((SPEC, random_weights(SPEC, 1)), (other, anchor)):
        save_field(template, spec, values, {})
        with pytest.raises(InputError, match=r"w\.parquet is of another configuration.*; rm "):
            weights.check_template(path, fields, template)


@pytest.mark.parametrize(
    "about", [{"template": None}, {"field": {"hidden": [5]}}, {"field": {"x": 1}}]
)
def test_table_of_other_layout_is_named(about, tmp_path):
    path = tmp_path / "w.parquet"
    weights.write_fields(path, SPEC, np.zeros(SPEC.n_weights), rows(3))
    table = pq.read_table(path)
    known = json.loads(table.schema.metadata[b"nefgpt"]) | about
    kept = json.dumps({key: value for key, value in known.items() if value is not None})
    for other in (
        table.replace_schema_metadata({"nefgpt": kept}),
        table.replace_schema_metadata(None),
        table.drop_columns(["split"]),
        table.drop_columns(["weights"]),
    ):
        pq.write_table(other, path)
        with pytest.raises(InputError, match=r"w\.parquet"):
            weights.read_fields(path)


def test_table_without_rows(tmp_path):
    weights.write_fields(tmp_path / "w.parquet", SPEC, np.zeros(SPEC.n_weights), [])
    found = weights.read_fields(tmp_path / "w.parquet")
    assert found.weights.shape == (0, SPEC.n_weights) and len(found.of_split("train")) == 0


def test_collect_leaves_out_test_and_rejected(tmp_path):
    for name in ("template", "a", "b"):
        save_field(tmp_path / f"{name}.safetensors", SPEC, random_weights(SPEC, 0), {"iou": 0.5})
    save_field(tmp_path / "bad.safetensors", SPEC, None, {"rejected": "empty"})
    entries = [["a", "train", 3], ["bad", "train", None], ["b", "val", None], ["c", "test", None]]
    out = tmp_path / "w.parquet"
    weights.collect(entries, tmp_path, tmp_path / "template.safetensors", out)
    found = weights.read_fields(out)
    assert (found.shape_ids, found.splits, found.labels) == (
        ["a", "b"],
        ["train", "val"],
        [3, None],
    )
    other = FieldSpec(hidden=(5,))
    save_field(tmp_path / "b.safetensors", other, random_weights(other, 0), {})
    with pytest.raises(InputError, match=r"b\.safetensors"):
        weights.collect(entries, tmp_path, tmp_path / "template.safetensors", out)
