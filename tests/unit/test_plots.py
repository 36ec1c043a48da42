"""Plots: of the right numbers, the same bytes every time."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from nefgpt.report import plots
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
    for name in ("l.svg", "l.png"):
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


def test_metric_bars_average_seeds():
    rows = [("a", "", "MMD x100", 3.0), ("a", "", "MMD x100", 5.0), ("b", None, "1-NNA %", 60.0)]
    figure = plots.metric_bars(pd.DataFrame(rows, columns=["method", "setting", "metric", "value"]))
    widths = [[bar.get_width() for bar in ax.patches] for ax in figure.axes]
    assert widths == [[60.0], [], [4.0]]


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
