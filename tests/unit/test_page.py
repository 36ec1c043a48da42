"""The report: complete, self-contained, escaped."""

import base64
import html
import json
import re

import numpy as np
import pytest
import trimesh
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, read_table, write_text
from nefgpt.evaluation import tables
from nefgpt.report import page, viewer
from nefgpt.report.style import save
from nefgpt.signals import sdf, table
from nefgpt.signals.kind import Shown
from nefgpt.signals.settings import Sampling

EVIL = "</script><script>alert(1)</script>&amp;"
SETTINGS = Sampling(n_uniform=100, n_near=100)


@pytest.fixture
def shown(tmp_path):
    """What the page shows of a small run, written by the stages that write it."""
    trimesh.creation.box().export(tmp_path / "box.off")
    write_text(tmp_path / "broken.off", "OFF\n")
    names = {"1e5": "box", EVIL.replace("/", "∕"): "broken"}
    for shape_id, name in names.items():
        sdf.prepare(
            tmp_path / f"{name}.off", shape_id, tmp_path / f"sdf/{shape_id}.npz", SETTINGS, 0
        )
    table.collect(
        [[shape_id, "train", None] for shape_id in names],
        tmp_path / "sdf",
        tmp_path / "shapes.parquet",
        tmp_path / "rejected.tsv",
        0.5,
    )
    lines = [",".join(tables.KEYS)]
    for seed, value in enumerate((1, 3)):
        lines += [f"{EVIL},k=8,MMD x100,{value},{seed},17,17", f"{EVIL},k=8,parts,,{seed},17,17"]
    lines += ["train-meshes,all,MMD x100,10,0,17,17", "train-meshes,all,novelty,inf,0,17,17"]
    write_text(tmp_path / "metrics.csv", "\n".join(lines) + "\n")
    tables.build([tmp_path / "metrics.csv"], tmp_path / "tables")
    save(Figure(figsize=(1, 1)), tmp_path / "figures", "f")
    with atomic_path(tmp_path / "ball.ply") as temporary:
        trimesh.creation.icosphere(subdivisions=2, radius=0.5).export(temporary)
    write_text(tmp_path / "tuning.csv", "top_k,guidance,COV %\n3,,12.34567\n5,,0.00012345\n")
    return page.Page(
        name=EVIL,
        meshes=[
            viewer.Mesh(EVIL, Shown(tmp_path / "ball.ply")),
            viewer.Mesh("gone", Shown(tmp_path / "gone.ply")),
            viewer.Mesh("input", Shown(None, tmp_path / "sdf/1e5.npz")),
        ],
        table2=tmp_path / "tables/table2.csv",
        metrics=tmp_path / "tables/metrics.csv",
        blocks=[
            ("Search", read_table(tmp_path / "tuning.csv", [])),
            (EVIL, [{"quantity": EVIL, "value": 0.98765432}, {"quantity": "n", "value": 12}]),
        ],
        figures=[
            (tmp_path / "figures/f.svg", f'a "caption" {EVIL}. More.'),
            (tmp_path / "figures/f.png", "Another."),
        ],
        rejected=tmp_path / "rejected.tsv",
        config=f"name: x\nurl: <b>&\nevil: {EVIL}\n",
    )


@pytest.fixture
def written(shown, tmp_path):
    page.build(shown, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_complete(written):
    for text in (
        "url: &lt;b&gt;&amp;", "Measured here", "Published", "HyperDiffusion", "MMD ×10² ↓",
        ">2.00 ± 1.41<", ">∞<", "17 samples per row against 17 of the test split",
        "Left out: 1 of the inputs", "broken.off", "0.9877", ">12<", "Search", "COV % ↑",
        ">12.35<", "numpy", "1 empty or invalid mesh left out",
    ):  # fmt: skip
        assert text in written, text
    assert written.index("Measured here") < written.index("Published")
    assert "guidance" not in written, "a column without values says nothing"
    links = re.findall(r'href="#([^"]*)"', written)
    assert len(links) == 8
    for anchor in links:
        assert written.count(f'id="{anchor}"') == 1
    assert len(set(re.findall(r' id="([^"]*)"', written))) == written.count(' id="')


def test_page_holds_all_it_shows(written):
    assert re.findall(r"default-src 'none'; img-src data:", written)
    assert not re.search(r'https?://|(src|href)=(?!"(data:|#))', written)
    assert "@import" not in written and "url(" not in written.replace("url: ", "")
    kinds = re.findall(r'<img src="data:image/([^;]*);base64,([^"]*)" alt="(?!")', written)
    assert [kind for kind, _ in kinds] == ["svg+xml", "png"]
    assert base64.b64decode(kinds[1][1]).startswith(b"\x89PNG")


def test_what_others_wrote_stays_text(written):
    assert "alert(1)</script>" not in written
    assert written.count("<script") == written.count("</script>") == 2
    shown = html.unescape(re.sub(r"<[^>]*>", "", written))
    # Title, heading, link, section, cell, row of the table, option, caption, configuration.
    assert shown.count(EVIL) == 9
    assert EVIL.replace("/", "∕") in shown, "the rejected input's id"
    [alternative] = re.findall(r'alt="(a [^"]*)"', written)
    assert html.unescape(alternative) == f'a "caption" {EVIL}'


def test_meshes_are_packed(written):
    [data] = re.findall(r'<script type="application/json" id="meshes">(.*?)</script>', written)
    ball, box = json.loads(data)
    assert (ball["label"], box["label"]) == (EVIL, "input")
    levels = np.frombuffer(base64.b64decode(ball["vertices"]), "<u2").reshape(-1, 3)
    radius = np.linalg.norm((levels / 32767.5 - 1) * ball["scale"], axis=1)
    np.testing.assert_allclose(radius, 0.5, atol=1e-4)
    assert ball["radius"] == pytest.approx(0.5)
    faces = np.frombuffer(base64.b64decode(ball["faces"]), "<u2").reshape(-1, 3)
    assert len(faces) == 320 and len(np.unique(faces)) == len(levels)
    assert box["scale"] == pytest.approx(0.45), "framed as its field is"


def test_numbers_of_a_column_end_alike():
    [name, mixed, empty] = page.columns_of(
        [
            {"a_name": "x", "MMD x100": "12.5 ± 0.25", "more": ""},
            {"a_name": "1e5x", "MMD x100": "3", "more": "7"},
            {"a_name": "", "MMD x100": "nan", "more": None},
        ]
    )
    assert (name.heading, mixed.heading) == ("a name", "MMD ×10² ↓")
    assert (name.numeric, mixed.numeric, empty.numeric) == (False, True, True)
    assert mixed.cells == ["12.5 ± 0.25", "3", "–"]
    assert mixed.padding == ["", ".5 ± 0.25", ".5 ± 0.25"]


def test_ids_that_look_like_numbers_stay(tmp_path, shown):
    write_text(shown.rejected, "shape_id\tsource_path\treason\n1e5\ta.obj\tno <faces>\n")
    page.build(shown, tmp_path / "r.html")
    written = (tmp_path / "r.html").read_text()
    assert '<th scope="row">1e5</th>' in written and "no &lt;faces&gt;" in written


def test_a_page_without_shapes_has_no_viewer(tmp_path, shown):
    page.build(shown._replace(meshes=[]), tmp_path / "r.html")
    written = (tmp_path / "r.html").read_text()
    assert not re.search("<script|<canvas|#shapes", written)
    assert "Versions" in written


@pytest.mark.parametrize("reduce", [viewer.decimate, viewer._cluster])
def test_fewer_faces_same_shape(reduce):
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.8)
    vertices, faces = reduce(np.asarray(ball.vertices), np.asarray(ball.faces), 2000)
    assert 500 < len(faces) <= 2400
    radius = np.linalg.norm(vertices[np.unique(faces)], axis=1)
    np.testing.assert_allclose(radius, 0.8, atol=0.02)


def test_a_tangle_is_reduced_too():
    rng = np.random.default_rng(0)
    vertices, faces = rng.normal(size=(500, 3)), rng.integers(0, 500, (8000, 3))
    _, fewer = viewer.decimate(vertices, faces, 2000)
    assert 0 < len(fewer) <= 2000


@pytest.mark.parametrize("key", ["table2", "metrics", "rejected"])
def test_missing_files_are_named(tmp_path, shown, key):
    with pytest.raises(InputError, match=r"nope\.csv"):
        page.build(shown._replace(**{key: tmp_path / "nope.csv"}), tmp_path / "r.html")


def test_missing_figures_are_named(tmp_path, shown):
    with pytest.raises(InputError, match=r"nope\.png"):
        page.build(shown._replace(figures=[("nope.png", "nope")]), tmp_path / "r.html")
