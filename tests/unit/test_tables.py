"""Tables: measured and published rows apart, every cell as meant."""

import pandas as pd
import pytest

from nefgpt.base.errors import InputError
from nefgpt.evaluation import tables
from nefgpt.report.page import sample_metrics

HEADER = ",".join(tables.KEYS)


def write(path, method, setting, values, seed=0):
    lines = [f"{method},{setting},{name},{value},{seed},37,40" for name, value in values.items()]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


@pytest.fixture
def built(tmp_path):
    values = {"MMD x100": 2.125, "COV %": 58, "1-NNA %": 54.04, "valid %": 100, "a_b|%": 1e-5}
    paths = [
        write(tmp_path / "a.csv", "train meshes", "all", values),
        write(tmp_path / "b.csv", "x_1", "k3-t1", {**values, "MMD x100": "inf"}),
        write(tmp_path / "c.csv", "x_1", "k3-t1", {**values, "MMD x100": 3, "COV %": 60}, 1),
        write(tmp_path / "d.csv", "x_1", "t1", {**values, "copies %": "nan", "COV %": ""}),
    ]
    out = tmp_path / "tables"
    tables.main(["--metrics", *map(str, paths), "--out-dir", str(out)])
    return paths, out


def test_long_table_keeps_order_and_text(built):
    paths, out = built
    text = (out / "metrics.csv").read_text()
    assert text == HEADER + "\n" + "".join(p.read_text().removeprefix(HEADER + "\n") for p in paths)


def test_table2_csv(built):
    frame = pd.read_csv(built[1] / "table2.csv", dtype=str, keep_default_na=False)
    assert list(frame.columns) == [
        "method", "setting", "source", "MMD x100", "COV %", "1-NNA %", "FPD", "valid %",
            "copies %", "a_b|%",
    ]  # fmt: skip
    assert list(frame["source"]) == ["measured"] * 3 + ["published"] * 8
    assert frame.iloc[0].tolist() == [
        "train meshes", "all", "measured", "2.12", "58.0", "54.0", "", "100.0", "", "1e-05",
    ]  # fmt: skip
    assert frame["MMD x100"][1] == "inf"
    assert frame["COV %"][1] == "59.0 ± 1.4"
    assert frame["copies %"][2] == frame["COV %"][2] == ""
    assert frame.iloc[-1].tolist()[:7] == [
        "NeF-GPT", "(5, 1)", "published", "11.1", "35.64", "91.36", "31.87",
    ]  # fmt: skip
    measured, published = sample_metrics(built[1] / "table2.csv", built[1] / "metrics.csv")
    assert (measured.title, published.title) == ("Measured here", "Published")
    assert "samples per row against" in measured.note
    assert measured.columns[0].cells == ["train meshes", "x_1", "x_1"]
    assert "HyperDiffusion" in published.columns[0].cells
    assert measured.columns[2].cells == ["2.12", "∞", "2.12"]


def test_markdown_sets_published_apart(built):
    text = (built[1] / "table2.md").read_text()
    measured, published = text.split(f"## {tables.PUBLISHED_HEADING}")
    assert (
        "37 samples per row against 40 of the test split, mean and standard deviation over seeds "
        "0, 1." in measured
    )
    assert "FPD" not in measured
    assert "PVD" not in measured
    assert "| PVD | re-evaluated by HyperDiffusion | 3.4 | 39 | 76.3 | 5.8 |" in published
    assert tables.PUBLISHED_NOTE in published
    assert "| ∞ | 59.0 ± 1.4 |" in measured
    assert "a_b\\|%" in measured
    for part in (measured, published):
        lines = [line.replace("\\|", "") for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


def test_latex_is_escaped_and_regular(built):
    text = (built[1] / "table2.tex").read_text()
    assert r"x\_1 & k3-t1 & $\infty$ & 59.0 $\pm$ 1.4" in text
    assert r"a\_b|\%" in text
    assert r"MMD $\times 10^2$ $\downarrow$" in text
    assert rf"\multicolumn{{9}}{{l}}{{\emph{{{tables.PUBLISHED_HEADING}}}}} \\" in text
    assert text.index("multicolumn") < text.index("PVD")
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicol" not in line]
    assert len(rows) == 12
    assert {row.replace(r"\&", "").count("&") for row in rows} == {8}
    assert text.isascii()
    assert tables.tex_escape("a\\b^c~{&}") == (
        r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}\{\&\}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "No columns"),
        (HEADER + "\n", "no rows"),
        ("method,value\na,1\n", "lacks the columns"),
        (HEADER + "\na,b,COV %,many,0,1,1\n", "'many' is no number"),
        (HEADER + '\na,"b\n', "cannot read"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        tables.build([path], tmp_path / "out")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_same_row_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "a", "all", {"COV %": 1})
    with pytest.raises(InputError, match="already given"):
        tables.build([path, path], tmp_path / "out")


def test_rows_of_another_size_are_named():
    rows = [("a", "32", "32"), ("test-halves", "16", "16"), ("b", "32", "32")]
    long = pd.DataFrame(
        [(m, "all", "COV %", "1", s, a, b) for m, a, b in rows for s in "01"], columns=tables.KEYS
    )
    assert tables.about(long) == (
        "32 samples per row against 32 of the test split, mean and standard deviation over seeds "
        "0, 1; test-halves: 16 against 16."
    )
