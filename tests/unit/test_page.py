"""The report: complete, self-contained, escaped."""

import base64
import html
import json
import re
import zlib

import numpy as np
import pytest
import trimesh
from matplotlib.figure import Figure

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_table, write_text
from nefgpt.evaluation import tables
from nefgpt.report import page, viewer
from nefgpt.report.gallery import Gallery
from nefgpt.report.style import save
from nefgpt.signals import sdf, table
from nefgpt.signals.settings import Sampling

EVIL = "</script><script>alert(1)</script>&amp;"
SETTINGS = Sampling(n_uniform=100, n_near=100)


def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def gallery(mesh: dict | None = None) -> Gallery:
    """Two samples, the second empty, and a training signal."""
    signal = {"picture": "data:,", "mesh": mesh}
    sample = {"row": 0, "label": None, "copy": False}
    full = {"number": 0, "distance": 1.5, "near": EVIL, "facts": [(EVIL, "1")]}
    empty = {"number": 1, "distance": None, "near": None, "facts": []}
    samples = [sample | full | signal, sample | empty | {"picture": None, "mesh": None}]
    data = {"rows": [EVIL], "distance": "d", "signals": "shapes", "train": {EVIL: signal}}
    return Gallery(EVIL, [0, 1], [EVIL], [EVIL], 1.5, data | {"samples": samples})


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
    write_text(tmp_path / "tuning.csv", "top_k,guidance,COV %\n3,,12.34567\n5,,0.00012345\n")
    return page.Page(
        name=EVIL,
        gallery=gallery(),
        table2=tmp_path / "tables/table2.csv",
        metrics=tmp_path / "tables/metrics.csv",
        intervals=([{"method": "m", "setting": "s", "COV %": "5.0 [4.0, 6.5] ≈"}], "95 %"),
        blocks=[
            ("Search", read_table(tmp_path / "tuning.csv", [])),
            (EVIL, [{"quantity": EVIL, "value": 0.98765432}, {"quantity": "n", "value": 12}]),
        ],
        figures=[
            (tmp_path / "figures/f.svg", f'a "caption" {EVIL}. More.'),
            (tmp_path / "figures/f.png", "Another."),
        ],
        more_figures=["gallery-x"],
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
        ">12.35<", "numpy", "For print", "gallery-x", "snakemake all", "The first 2 samples",
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
    assert [kind for kind, _ in kinds] == ["svg+xml", "webp"]
    assert base64.b64decode(kinds[1][1])[8:12] == b"WEBP"


def test_what_others_wrote_stays_text(written):
    assert "alert(1)</script>" not in written
    assert written.count("<script") == written.count("</script>") == 2
    shown = html.unescape(re.sub(r"<[^>]*>", "", written))
    # Title, heading, heading of the samples, note, row of the gallery, link, section, cell, row of
    # the table, caption, configuration, and two commands.
    assert shown.count(EVIL) == 13
    assert EVIL.replace("/", "∕") in shown, "the rejected input's id"
    [alternative] = re.findall(r'alt="(a [^"]*)"', written)
    assert html.unescape(alternative) == f'a "caption" {EVIL}'


def unpacked(mesh: dict) -> tuple[np.ndarray, np.ndarray]:
    """What `viewer.js` makes of a packed mesh, anew."""
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(mesh["data"])), np.uint8)
    n, m = mesh["counts"]
    low, high = numbers[: 6 * n].reshape(2, -1).astype(int)
    steps = (low + 256 * high).reshape(3, n)
    levels = np.cumsum(steps, axis=1).T % 2**16
    low, high = numbers[6 * n :].reshape(2, -1).astype(int)
    corners, unnamed = [], 0
    for below in low + 256 * high:
        corners.append(unnamed - below)
        unnamed += below == 0
    vertices = (2 * levels / (2**viewer.BITS - 1) - 1) * mesh["scale"]
    return vertices, np.array(corners).reshape(m, 3)


def test_meshes_are_packed():
    vertices, faces = ball()
    packed = viewer.embed_mesh(*viewer.reduced(vertices, faces))
    assert packed["radius"] == pytest.approx(0.5) and packed["counts"] == [162, 320]
    found, corners = unpacked(packed)
    # Vertices stand in another order; the triangles are the same ones.
    assert np.abs(found[corners] - vertices[faces]).max() < 0.5 / 2**viewer.BITS * 1.01
    assert len(packed["data"]) < 3000
    assert viewer.embed_mesh(*viewer.reduced(np.zeros((0, 3)), np.zeros((0, 3), int))) is None


def test_samples_are_escaped(shown, tmp_path):
    packed = viewer.embed_mesh(*viewer.reduced(*ball()))
    page.build(shown._replace(gallery=gallery(packed)), tmp_path / "r.html")
    written = (tmp_path / "r.html").read_text()
    [data] = re.findall(r'<script type="application/json" id="samples">(.*?)</script>', written)
    found = json.loads(data)
    assert found["rows"] == [EVIL] and found["train"][EVIL]["mesh"] == packed
    assert found["samples"][0]["facts"] == [[EVIL, "1"]]
    assert written.count("<canvas") == 2


def test_intervals_stand_beside_the_measured_rows(written):
    assert written.index("with intervals") < written.index("<h3>Published")
    assert re.search(r'<td class="number" data-padding="">5.0 \[4.0, 6.5\] ≈</td>', written)
    assert "95 %. ≈: chance alone" in written


def test_published_rows_say_who_measured_them(written):
    _, published = written.split("<h3>Published</h3>")
    for method, source in (("PVD", "re-eval"), ("DPC", "re-eval"), ("HyperDiffusion", "own")):
        row = published.split(f'<th scope="row">{method}</th>')[1].split("</tr>")[0]
        assert source in html.unescape(row), method
    assert "about its mean over its deviation" in published


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


def test_images_do_not_turn(written):
    assert "<canvas" not in written and "reset view" not in written


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
