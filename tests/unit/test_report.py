"""The report: complete, self-contained, escaped."""

import base64
import json
import re

import numpy as np
import pytest
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.report import page

EVIL = "</script><script>alert(1)</script>"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def test_page_is_complete_and_self_contained(tmp_path):
    (tmp_path / "c.yaml").write_text("name: x\nurl: <b>&\n")
    (tmp_path / "t.csv").write_text(
        "method,setting,source,MMD x100\nours,,measured,3.123456\nPVD,,published,3.4\n"
    )
    (tmp_path / "m.csv").write_text(
        "method,setting,metric,value,seed,n_generated,n_reference\n"
        "ours,k=8,MMD,1,0,17,17\nours,k=8,MMD,3,1,17,17\n"
    )
    (tmp_path / "r.tsv").write_text("path\treason\na.obj\tno <faces>\n")
    (tmp_path / "f.png").write_bytes(PIXEL)
    trimesh.creation.icosphere(subdivisions=2, radius=0.5).export(tmp_path / "s.ply")
    spec = {
        "name": EVIL,
        "config": str(tmp_path / "c.yaml"),
        "table2": str(tmp_path / "t.csv"),
        "metrics": str(tmp_path / "m.csv"),
        "figures": [[str(tmp_path / "f.png"), f'a "caption" {EVIL}']],
        "rejected": str(tmp_path / "r.tsv"),
        "meshes": [
            {"label": EVIL, "path": str(tmp_path / "s.ply")},
            {"label": "gone", "path": str(tmp_path / "gone.ply")},
        ],
        "fit_quality": {"iou": 0.98765432, "fields": 12},
        "tables": [["Extra", str(tmp_path / "t.csv")]],
    }
    out = tmp_path / "report.html"
    page.build(spec, out)
    html = out.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in html
    assert not re.search(r"https?://|(src|href)=[\"']?(?!data:)[\w./]", html)
    for text in (
        "url: &lt;b&gt;&amp;", "3.123<", "Measured here", "Published", "MMD ×10² ↓",
        "17 samples per row against 17 of the test split",
        "no &lt;faces&gt;",
        "Left out: 1 ", "0.9877", ">12<", "Extra", "numpy",
        "1 empty or invalid", "data:image/png;base64,",
    ):  # fmt: skip
        assert text in html, text
    assert html.index("Measured here") < html.index("Published")
    (data,) = re.findall(r"<script type=application/json id=meshes>(.*?)</script>", html)
    (mesh,) = json.loads(data)
    assert mesh["label"] == EVIL
    levels = np.frombuffer(base64.b64decode(mesh["v"]), "<u2").reshape(-1, 3)
    radius = np.linalg.norm((levels / 32767.5 - 1) * mesh["scale"], axis=1)
    np.testing.assert_allclose(radius, 0.5, atol=1e-4)


def test_empty_specification_gives_a_page(tmp_path):
    page.build({}, tmp_path / "r.html")
    assert "Versions" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("reduce", [page.decimate, page._cluster])
def test_fewer_faces_same_shape(reduce):
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.8)
    vertices, faces = reduce(np.asarray(ball.vertices), np.asarray(ball.faces), 2000)
    assert 500 < len(faces) <= 2400
    radius = np.linalg.norm(vertices[np.unique(faces)], axis=1)
    np.testing.assert_allclose(radius, 0.8, atol=0.02)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nope\.csv"):
        page.build({"table2": str(tmp_path / "nope.csv")}, tmp_path / "r.html")
    with pytest.raises(InputError, match=r"nope\.png"):
        page.build({"figures": [[str(tmp_path / "nope.png"), ""]]}, tmp_path / "r.html")
