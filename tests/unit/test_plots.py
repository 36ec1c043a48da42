"""Plots: of the right numbers, the same bytes every time."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from nefgpt.report import comparison, plots
from nefgpt.report.comparison import Line
from nefgpt.report.positions import per_position
from nefgpt.report.style import save


def losses() -> pd.DataFrame:
    iteration = np.arange(0, 100, 10)
    val = np.where(iteration % 20 == 0, np.exp(-iteration / 50) + 1, np.nan)
    names = ["train_loss", "val_loss", "calibrated_val_loss"]
    return pd.DataFrame({"iteration": iteration} | dict.fromkeys(names, val))


def test_same_figure_same_bytes(tmp_path):
    before = dict(mpl.rcParams)
    for folder in ("a", "b"):
        save(plots.loss_curves({"m": losses()}, 2.0), tmp_path / folder, "l")
    for name in ("l.svg", "l.pdf", "l.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"dc:date" not in (tmp_path / "a/l.svg").read_bytes()
    assert dict(mpl.rcParams) == before


def test_losses_are_in_bits():
    ax = plots.loss_curves({"m": losses()}).axes[0]
    assert ax.lines[1].get_ydata()[0] == pytest.approx(2 / np.log(2))
    assert ax.lines[3].get_xdata()[0] == 80  # the lowest point of the calibrated loss


def test_entropy():
    np.testing.assert_allclose(
        plots.entropy_bits(np.array([[1, 1, 1, 1], [4, 0, 0, 0]])), [2, 0], atol=1e-12
    )


def rows() -> tuple[pd.DataFrame, list[Line]]:
    """A bound, a probe of two settings, and a generator of which one number is unknown."""
    lines = [Line("real", "all", "bound")]
    lines += [Line("noise", name, "probe") for name in ("s1", "s2")]
    lines += [Line("m", name, "generator") for name in ("t1", "t2")]
    found = []
    for i, line in enumerate(lines):
        for metric in ("1-NNA %", "COV %", "novelty"):
            value = np.nan if (line.setting, metric) == ("t2", "novelty") else 50.0 + i
            found.append((line.method, line.setting, metric, value, value - 1, value + 2))
    names = ["method", "setting", "metric", "value", "low", "high"]
    return pd.DataFrame(found, columns=names), lines


def test_every_row_stands_on_the_plane():
    ax = comparison.plane(*rows()).axes[0]
    written = {text.get_text() for text in ax.texts}
    assert {"real", "noise s1", "noise s2", "m t1"} <= written
    assert "m t2" in ax.get_title() and "m t2" not in written, "it has no novelty"
    curves = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ls() == "--"]
    assert [51.0, 52.0] in [list(line.get_xdata()) for line in curves], "noise is one curve"


def test_names_on_the_plane_do_not_hide_each_other():
    frame, lines = rows()
    frame = frame.assign(value=50.0, low=49.9, high=50.1)
    fig = comparison.plane(frame, lines)
    fig.canvas.draw()
    own = {line.label for line in lines}
    boxes = [text.get_window_extent() for text in fig.axes[0].texts if text.get_text() in own]
    assert len(boxes) == len(lines)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_ladder_shows_intervals():
    frame, lines = rows()
    axes = comparison.ladder_chart(frame, lines).axes
    assert [ax.get_title() for ax in axes] == ["1-NNA % → 50", "COV % ↑", "novelty"]
    [first, *_] = axes[1].containers
    [bar] = first.lines[2]
    np.testing.assert_allclose(bar.get_segments()[0][:, 0], [49, 52])
    assert [text.get_text() for text in axes[2].texts][-1] == "none"


def test_rows_differ_in_grey():
    _, lines = rows()
    style = comparison.looks(lines)
    assert style[lines[1]] == style[lines[2]] and style[lines[1]] != style[lines[3]]
    assert style[lines[1]]["marker"] != style[lines[3]]["marker"]
    assert style[lines[0]]["mfc"] == "white"


def test_text_stays_text(tmp_path):
    save(plots.loss_curves({"m": losses()}), tmp_path, "l")
    assert ">bits per token" in (tmp_path / "l.svg").read_text().replace("loss (", ">")
    pdf = (tmp_path / "l.pdf").read_bytes()
    assert b"/Type0" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_fits_stand_worst_first():
    values = {"field": np.array([0.9, 0.5, 0.7, np.nan]), "quantised": np.full(4, 0.4)}
    panels = [("IoU", True, values), ("Chamfer", False, values)]
    names, splits = ["a", "b", "c", "d"], ["train", "train", "val", "train"]
    low, high = plots.fits_by_shape(panels, names, splits).axes
    assert low.lines[0].get_ydata().tolist() == [0.5, 0.9]
    assert high.lines[0].get_ydata().tolist() == [0.9, 0.5]
    assert low.get_xlabel().endswith("b, a") and high.get_xlabel().endswith("a, b")


def test_loss_by_position():
    bits = {"m": np.array([[1.0, 3.0], [3.0, 3.0]])}
    ax = per_position(bits, np.array([2.0, 4.0]), 8).axes[0]
    assert ax.lines[1].get_ydata().tolist() == [2, 3]
    assert [text.get_text() for text in ax.get_legend().get_texts()][1] == "m, mean 2.500"


def test_a_weight_that_never_changes_is_drawn():
    weights = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
    weights[:, 9] = 0
    figure = plots.weight_histograms(weights, {"a": (0, 9), "b": (9, 10)}, np.zeros(10))
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a (9)", "b (1)"]


def test_tokens_and_their_codebook():
    tokens = np.array([[0, 1, 1], [0, 1, 2]], np.uint16)
    usage, entropy, codebook = plots.token_statistics(tokens, np.array([0.5, -1, 0, 2])).axes
    assert usage.get_title() == "Usage: 3 of 4 codes, 1.46 bits"
    np.testing.assert_allclose(entropy.lines[0].get_ydata(), [0, 0, 1], atol=1e-12)
    assert codebook.lines[0].get_ydata().tolist() == [-1, 0, 0.5, 2]
