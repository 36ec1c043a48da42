"""What is known of every input, and when too many of them cannot be used."""

import pyarrow.parquet as pq
import pytest
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.signals import images, table
from nefgpt.signals.sdf import prepare
from nefgpt.signals.settings import Sampling
from nefgpt.signals.table import collect

SETTINGS = Sampling(n_uniform=1000, n_near=1000, sigma=0.01, extent=0.9)


@pytest.fixture
def three(tmp_path):
    """Two boxes and a broken mesh, sampled."""
    for name in ("a", "b"):
        trimesh.creation.box().export(tmp_path / f"{name}.off")
    (tmp_path / "c.off").write_text("OFF\n")
    for name in ("a", "b", "c"):
        prepare(tmp_path / f"{name}.off", name, tmp_path / f"{name}.npz", SETTINGS, 0)
    return [["a", "train", None], ["b", "test", None], ["c", "train", None]]


def test_collect(three, tmp_path):
    out, rejected = tmp_path / "shapes.parquet", tmp_path / "rejected.tsv"
    collect(three, tmp_path, out, rejected, max_fraction=0.34)
    table = pq.read_table(out).to_pylist()
    assert [row["n_faces"] for row in table] == [12, 12, 0]
    assert table[0]["watertight"] and table[0]["sign_agreement"] > 0.99
    lines = rejected.read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("c\t") and "c.off" in lines[1]


def test_rows_are_written_in_shards(three, tmp_path, monkeypatch):
    whole, sharded = tmp_path / "whole.parquet", tmp_path / "sharded.parquet"
    collect(three, tmp_path, whole, tmp_path / "whole.tsv", max_fraction=0.5)
    monkeypatch.setattr(table, "ROWS_PER_SHARD", 2)
    collect(three, tmp_path, sharded, tmp_path / "sharded.tsv", max_fraction=0.5)
    stored = pq.ParquetFile(sharded).metadata
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [2, 1]
    # Frames, for which the broken mesh's NaN equals itself.
    assert pq.read_table(sharded).to_pandas().equals(pq.read_table(whole).to_pandas())
    assert (tmp_path / "sharded.tsv").read_text() == (tmp_path / "whole.tsv").read_text()


def test_too_many_rejected_stop_the_run(three, tmp_path):
    rejected = tmp_path / "rejected.tsv"
    with pytest.raises(InputError, match="1 of 3 inputs cannot be used"):
        collect(three, tmp_path, tmp_path / "shapes.parquet", rejected, max_fraction=0.3)
    assert rejected.exists() and not (tmp_path / "shapes.parquet").exists()
    three[0][1] = "val"
    with pytest.raises(InputError, match="no input of the train split"):
        collect(three, tmp_path, tmp_path / "shapes.parquet", rejected, max_fraction=0.5)


def test_images_have_labels_and_no_faces(tmp_path):
    sources = {"a": "scikit-learn digits#3", "b": "scikit-learn digits#9999"}
    images.prepare(sources, tmp_path, tmp_path / "pack.json")
    entries = [["a", "train", 3], ["b", "train", 1]]
    collect(entries, tmp_path, tmp_path / "shapes.parquet", tmp_path / "r.tsv", max_fraction=0.5)
    good, bad = pq.read_table(tmp_path / "shapes.parquet").to_pylist()
    assert good["label"] == 3 and good["n_faces"] is None and not good["rejected"]
    assert "1797 images" in bad["rejected"]
