"""What densities say of codes."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from nefgpt.evaluation.densities import Cells, chosen_by_the_others, gaussian, kernel, mixture
from nefgpt.evaluation.likelihood import COLUMNS, KERNEL, Held, Said, simple, table
from nefgpt.generators.gpt import generator
from nefgpt.generators.kind import Given
from nefgpt.generators.settings import Setting
from nefgpt.report import likelihood

CODES = np.array([-1.5, -0.2, 0.4, 2.0])


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 3)) * [1, 2, 0.3]


@pytest.mark.parametrize(
    "density",
    [
        lambda cells, scores, tokens: kernel(cells, scores, tokens, 0.3),
        lambda cells, scores, tokens: gaussian(cells, scores, tokens, 1.5),
        lambda cells, scores, tokens: mixture(cells, scores, tokens, 2, 0),
    ],
)
def test_the_masses_of_all_sequences_add_up_to_one(scores, density):
    every = np.array(list(itertools.product(range(4), repeat=3)))
    assert (2 ** density(Cells(CODES, scores), scores, every)).sum() == pytest.approx(1)


def test_a_gaussian_says_what_its_distribution_function_says(scores):
    one = scores[:, :1]
    low, high = (CODES[0] + CODES[1]) / 2, (CODES[1] + CODES[2]) / 2
    of = norm(one.mean(), 1.5 * one.std())
    found = gaussian(Cells(CODES, one), one, np.array([[1]]), 1.5)
    assert 2 ** found[0] == pytest.approx(of.cdf(high) - of.cdf(low))


def test_masses_far_from_all_centres_keep_their_digits():
    """Twenty deviations away both tails are one in float64: their difference must not be."""
    cells = Cells(np.arange(50.0), np.array([[0.0], [2.0]]))  # deviation 1
    found = cells.log_mass(0, np.array([0.0]), 1.0)[0, [20, 30]]
    assert found == pytest.approx(norm.logsf([19.5, 29.5]), rel=1e-3)
    mirrored = cells.log_mass(0, np.array([49.0]), 1.0)[0, [29, 19]]
    assert mirrored == pytest.approx(found)


def test_a_setting_is_chosen_by_the_other_fields():
    log2 = np.array([[0.0, -10.0, -10.0], [-1.0, -1.0, -1.0]])
    found, best = chosen_by_the_others(log2)
    assert best == 1
    assert found.tolist() == [-1, -1, -1]  # the first field alone would have chosen the other


def held(scores: np.ndarray, more: np.ndarray) -> Held:
    cells = Cells(CODES, scores)
    borders = (CODES[1:] + CODES[:-1]) / 2
    train, other = np.searchsorted(borders, scores), np.searchsorted(borders, more)
    return Held(
        cells, len(CODES), scores, train, other, *(np.zeros(len(x), int) for x in (scores, more))
    )


def test_the_true_density_says_fewest_bits_and_clusters_are_seen():
    """Two tight clusters: a kernel and a mixture know them, one Gaussian does not."""
    rng = np.random.default_rng(1)

    def draw(n):
        return rng.choice([-1.2, 1.6], (n, 1)) + rng.normal(0, 0.1, (n, 3))

    said = simple(held(draw(60), draw(30)), seed=0)
    rows = {(r["density"], r["setting"]): r for r in table(said, dict.fromkeys(COLUMNS[3:7], 0), 3)}
    bits = {key: row["bits_per_field"] for key, row in rows.items()}
    assert bits[KERNEL, "calibrated"] == pytest.approx(1, abs=0.2)  # which of the two clusters
    assert bits["Gaussian mixture", "calibrated"] < 2  # its clusters are held to a least width
    assert bits["codes by place", "plain"] > 2.5  # a bit for every place
    assert bits["Gaussian", "plain"] > 2.5
    assert rows["Gaussian", "plain"]["above_kernel"] > 1.5
    assert rows[KERNEL, "calibrated"]["above_kernel"] == 0


def test_classes_have_densities_of_their_own():
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.normal(m, 0.1, (40, 2)) for m in (-1.2, 1.6)])
    of = held(scores, scores[::4])
    blind = simple(of, 0)["Gaussian"].log2[0].mean()
    told = of._replace(of_train=np.repeat([0, 1], 40), of_held=np.repeat([0, 1], 10))
    assert simple(told, 0)["Gaussian"].log2[0].mean() > blind + 1.5


def test_one_held_out_field_has_no_calibrated_rows():
    said = {"Gaussian": Said(np.array([[-3.0], [-2.0]]), ["a", "b"], 0)}
    (row,) = table(said, dict.fromkeys(COLUMNS[3:7], 0), 3)
    assert row["bits_per_field"] == 3 and row["setting"] == "plain"
    assert np.isnan(row["standard_error"])


def test_a_setting_may_ask_for_the_calibrated_temperature(monkeypatch):
    tokenizer = SimpleNamespace(codes=CODES, sequence_length=3, decode=lambda tokens: tokens)
    asked = {}

    def fake(model, n, length, n_codes, **options):
        asked.update(options)
        return np.zeros((n, length), np.uint16)

    monkeypatch.setattr(generator, "generate", fake)
    loaded = generator.Loaded(None, {"temperature": 2.5}, tokenizer)
    for wanted, found in (("calibrated", 2.5), (0.7, 0.7)):
        setting = Setting(temperature=wanted, top_k=3)
        generator.sample(loaded, Given(None), setting, 2, seed=0)
        assert (asked["temperature"], asked["top_k"]) == (found, 3)


def test_the_report_says_who_knows_less_than_noise():
    assert likelihood.verdict(3.0, 1.0) == "less than noise on train fields"
    assert likelihood.verdict(-3.0, 1.0) == "more than noise on train fields"
    assert likelihood.verdict(-1.0, 1.0) == "as much, as far as can be seen"
    assert likelihood.verdict(0.0, 0.0) == "" and likelihood.verdict(1.0, np.nan) == "not known"
    kernel = Said(np.array([[-4.0, -5.0]]), ["0.5 deviations"], None)
    model = Said(np.array([[-3.0, -3.5], [-2.0, -2.5]]), ["temperature 1", "temperature 2"], 0)
    about = {"n_train": 9, "seed": 0, "split": "val", "n_held_out": 2}
    found = pd.DataFrame(table({KERNEL: kernel, "tiny": model}, about, 3), columns=COLUMNS)
    rows = likelihood.rows_of(found)
    assert [row["density"] for row in rows] == [KERNEL, "tiny", "tiny"]
    assert rows[2]["of it"] == "temperature 2" and rows[2]["bits a field"] == "2.2 ± 0.2"
    (axes,) = likelihood.bars(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [KERNEL, "tiny"]
    assert "val split" in axes.get_xlabel()
