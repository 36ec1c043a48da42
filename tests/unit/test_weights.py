"""Tables of fields: round trip, shards, and nothing half written."""

import base64
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


def in_basis(n: int, k: int = 3) -> tuple[np.ndarray, np.ndarray, list[weights.Row]]:
    """Template, basis, and rows of fields in it."""
    rng = np.random.default_rng(1)
    template, basis = random_weights(SPEC, 0), rng.normal(size=(k, SPEC.n_weights))
    basis = basis.astype(np.float32)
    numbers = rng.normal(size=(n, k)).astype(np.float32)
    made = [weights.Row(*row) for row in rows(n)]
    fields = zip(made, template + numbers @ basis, numbers, strict=True)
    return template, basis, [r._replace(weights=w, coefficients=c) for r, w, c in fields]


@pytest.mark.parametrize("n", [0, 11])
def test_coefficients_make_the_round_trip(n, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROWS_PER_SHARD", 4)
    template, basis, made = in_basis(n)
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, made, basis)
    found = weights.read_fields(tmp_path / "w.parquet")
    np.testing.assert_array_equal(found.basis, basis)
    assert found.coefficients.shape == (n, 3) and found.coefficients.dtype == np.float32
    for i, row in enumerate(made):
        np.testing.assert_array_equal(found.coefficients[i], row.coefficients)
        np.testing.assert_array_equal(found.weights[i], row.weights)
    space = found.space
    again = space.anchor + found.coefficients @ space.basis
    np.testing.assert_allclose(again, found.weights, atol=1e-5)


def test_measures_are_columns_and_what_is_not_known_is_nan(tmp_path):
    made = rows(5)
    weights.write_fields(tmp_path / "w.parquet", SPEC, np.zeros(SPEC.n_weights), made)
    found = weights.read_fields(tmp_path / "w.parquet").measures
    assert list(found) == list(weights.quality_columns(SPEC))
    np.testing.assert_allclose(found["iou"], [row[4]["iou"] for row in made])
    assert np.isnan(found["seconds"]).all()


def test_a_field_without_coefficients_leaves_all_to_the_weights(tmp_path):
    template, basis, made = in_basis(5)
    made[3] = made[3]._replace(coefficients=None)
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, made, basis)
    found = weights.read_fields(tmp_path / "w.parquet")
    assert found.coefficients is None
    np.testing.assert_array_equal(found.basis, basis)
    np.testing.assert_array_equal(found.weights, np.stack([row.weights for row in made]))


def test_a_table_of_before_coefficients_is_read(tmp_path):
    template, basis, made = in_basis(5)
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, made, basis)
    table = pq.read_table(tmp_path / "w.parquet").drop_columns(["coefficients"])
    pq.write_table(table, tmp_path / "old.parquet")
    found = weights.read_fields(tmp_path / "old.parquet")
    assert found.coefficients is found.basis is None
    np.testing.assert_array_equal(found.weights, np.stack([row.weights for row in made]))


def test_the_basis_is_read_without_our_reader(tmp_path):
    template, basis, made = in_basis(2)
    weights.write_fields(tmp_path / "w.parquet", SPEC, template, made, basis)
    column = pq.read_table(tmp_path / "w.parquet").schema.field("coefficients")
    numbers = np.frombuffer(base64.b64decode(column.metadata[b"basis"]), "<f4")
    np.testing.assert_array_equal(numbers.reshape(3, -1), basis)


@pytest.mark.parametrize("damage", ["other basis", "other numbers", "nan", "short basis", "text"])
def test_coefficients_that_do_not_give_the_weights_are_named(damage, tmp_path):
    template, basis, made = in_basis(5)
    path = tmp_path / "w.parquet"
    number = {"other numbers": 0.0, "nan": np.nan}.get(damage)
    if number is not None:
        made[4] = made[4]._replace(coefficients=np.full(3, number))
    shown = basis[::-1] if damage == "other basis" else basis
    weights.write_fields(path, SPEC, template, made, shown)
    if damage in ("short basis", "text"):
        table = pq.read_table(path)
        kept = base64.b64encode(basis[:, :-1].tobytes()) if damage == "short basis" else b"{}"
        column = table.schema.field("coefficients").with_metadata({"basis": kept})
        place = table.schema.get_field_index("coefficients")
        pq.write_table(table.cast(table.schema.set(place, column)), path)
    with pytest.raises(InputError, match=r"cannot read fields .*w\.parquet.*delete it"):
        weights.read_fields(path)


def test_coefficients_of_another_length_are_no_row(tmp_path):
    template, basis, made = in_basis(2)
    made[1] = made[1]._replace(coefficients=np.zeros(4))
    with pytest.raises(ValueError, match="4"):
        weights.write_fields(tmp_path / "w.parquet", SPEC, template, made, basis)
    assert not any(tmp_path.iterdir())


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


def test_collect_keeps_coefficients_of_the_templates_basis_only(tmp_path):
    template, basis, made = in_basis(2)
    shared, out = tmp_path / "template.safetensors", tmp_path / "w.parquet"
    save_field(shared, SPEC, template, {}, basis)
    for row in made:
        path = tmp_path / f"{row.shape_id}.safetensors"
        save_field(path, SPEC, row.weights, {}, coefficients=row.coefficients)
    save_field(tmp_path / "bad.safetensors", SPEC, None, {"rejected": "empty"})
    entries = [["s0", "train", None], ["bad", "train", None], ["s1", "val", None]]
    weights.collect(entries, tmp_path, shared, out)
    found = weights.read_fields(out)
    np.testing.assert_array_equal(found.coefficients, [row.coefficients for row in made])
    weights.check_template(out, found, shared)
    for other in (basis[::-1], basis[:2], None):
        save_field(shared, SPEC, template, {}, other)
        with pytest.raises(InputError, match="is of another configuration"):
            weights.check_template(out, found, shared)
        with pytest.raises(InputError, match=r"s0\.safetensors was not fitted in the basis.*rm -r"):
            weights.collect(entries, tmp_path, shared, out)
