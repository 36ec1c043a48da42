"""How good the results of small fixed runs are: their figures have to stay within bands.

A change may break no rule that a test knows and still ruin what is made. So the runs are also
ruined on purpose here, and the figures then have to leave their bands.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from nefgpt import config
from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation import classifier, sets
from nefgpt.evaluation.clouds import gather
from nefgpt.evaluation.metric import Known, Samples
from nefgpt.evaluation.settings import ClassifierTraining
from nefgpt.fields.spec import FieldSpec
from nefgpt.fitting import fit, template, weights
from nefgpt.generators.components import differences
from nefgpt.generators.gpt import train
from nefgpt.generators.gpt.batches import prefix_of
from nefgpt.generators.gpt.generator import load
from nefgpt.generators.gpt.sampling import generate
from nefgpt.generators.gpt.tokenizer import (
    fit_tokenizer,
    load_tokenizer,
    save_tokenizer,
    tokenize,
)
from nefgpt.generators.gpt.tokens import read_tokens, write_tokens
from nefgpt.generators.kind import Given
from nefgpt.generators.sample import draw
from nefgpt.generators.settings import Gaussian, Gpt, Setting, Tokens
from nefgpt.inputs.airplanes import write
from nefgpt.inputs.listing import list_shapes
from nefgpt.signals import images, sdf, shapes
from nefgpt.signals.file import load_signal

pytestmark = pytest.mark.quality

SEED = 0
CONFIGS = Path(__file__).parents[2] / "config"
# What a figure may be; beside it what seeds 0, 1 and 2 gave, and a run ruined on purpose. Bands
# are wider than seeds need, since another processor rounds otherwise.
BANDS = {
    "airplanes: IoU, train": (0.86, 0.92),  # .885 .885 .902; not fitted .23
    "airplanes: IoU, unseen": (0.60, 0.75),  # .687 .654 .673; not fitted .21
    "airplanes: IoU lost in quantisation": (0.005, 0.035),  # .020 .016 .016; codes shuffled .73
    "airplanes: thin parts, train": (0.93, 0.98),  # .961 .955 .965; not fitted .10
    "family: 1-NNA % of the Gaussian": (86, 97),  # 91 91.5 91
    "family: 1-NNA % of the GPT": (48, 71),  # 62.5 59.5 57.5; not trained 95.5
    "family: COV % of the GPT": (45, 65),  # 54.5 54.5 55.5; not trained 39
    "family: MMD, GPT / Gaussian": (0.25, 0.45),  # .337 .332 .322; not trained 1.18
    "digits: PSNR (dB), unseen": (26, 30),  # 27.4 28.2 27.4
    "digits: accuracy % of real images": (88, 97),  # 92.3 92.6 93.9
    "digits: accuracy % of the Gaussian": (78, 96),  # 85 89 89
    "digits: 1-NNA % of the Gaussian": (58, 78),  # 68 69 63
    "digits: accuracy % of the GPT": (70, 92),  # 80 85 83; no class asked for 9
    "digits: 1-NNA % of the GPT": (60, 82),  # 69 74 69; no class asked for 76
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums are rounded alike on any number of cores, and threads do not wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outside(figures: dict[str, float]) -> dict[str, float]:
    """Those that are not within their bands."""
    return {k: v for k, v in figures.items() if not BANDS[k][0] <= v <= BANDS[k][1]}


# --- Airplanes: signed distances, basis, fits, tokens ----------------------------------------
@pytest.fixture(scope="module")
def airplanes(tmp_path_factory):
    """Folder of 36 airplanes whose basis is learned and 12 others: clouds, fields, tokens."""
    folder = tmp_path_factory.mktemp("airplanes")
    chosen = config.load(CONFIGS / "config.yaml")
    sampling = replace(chosen.sdf, n_uniform=8000, n_near=8000)
    entries, clouds = [], {}
    for i, path in enumerate(write.write_pack(folder, SEED, 0, 48)):
        entries.append([f"a{i}", "train" if i < 36 else "val", None])
        clouds[f"a{i}"] = folder / f"a{i}.npz"
        sdf.prepare(path, f"a{i}", clouds[f"a{i}"], sampling, SEED)
    learned = {name: clouds[name] for name, split, _ in entries if split == "train"}
    start = folder / "template.safetensors"
    how = replace(chosen.template, n_shapes=36, n_components=16, steps=1500, fields_per_step=12)
    template.make(chosen.field, learned, start, how, SEED)
    fit_all(folder, chosen, entries)
    return folder


def fit_all(folder: Path, chosen: config.Config, entries: list) -> None:
    """Clouds and template to fields, their table, and tokens."""
    start, fitted = folder / "template.safetensors", [e[0] for e in entries if e[1] != "test"]
    paths = {name: (folder / f"{name}.npz", folder / f"{name}.safetensors") for name in fitted}
    fit.fit_shapes(chosen.field, paths, chosen.fit, SEED, start)
    weights.collect(entries, folder, start, folder / "weights.parquet")
    tokenize(folder / "weights.parquet", folder, folder, chosen.tokens, 64)


def test_fields_of_airplanes(airplanes):
    table = read_tokens(airplanes / "tokens.parquet")
    seen, iou = table.of_split("train"), table.measures["iou"]
    thin = weights.read_fields(airplanes / "weights.parquet").measures["thin"]
    found = {
        "airplanes: IoU, train": np.median(iou[seen]),
        "airplanes: IoU, unseen": np.median(iou[table.of_split("val")]),
        "airplanes: IoU lost in quantisation": np.median(
            (iou - table.measures["iou_quantised"])[seen]
        ),
        "airplanes: thin parts, train": np.nanmean(thin[seen]),
    }
    assert not outside(found)


def test_fields_that_are_not_fitted_are_seen(airplanes):
    fields = weights.read_fields(airplanes / "weights.parquet")
    rows = [
        shapes.quality(fields.spec, fields.template, load_signal(airplanes / f"{name}.npz"), 64)
        for name in fields.shape_ids
    ]
    iou, thin = (np.array([row[name] for row in rows]) for name in ("iou", "thin"))
    seen = fields.of_split("train")
    found = {
        "airplanes: IoU, train": np.median(iou[seen]),
        "airplanes: IoU, unseen": np.median(iou[fields.of_split("val")]),
        "airplanes: thin parts, train": np.nanmean(thin[seen]),
    }
    assert outside(found) == found


def test_a_shuffled_codebook_is_seen(airplanes):
    tokenizer = load_tokenizer(airplanes / "codebook.safetensors")
    codes = np.random.default_rng(0).permutation(tokenizer.codes)
    table = read_tokens(airplanes / "tokens.parquet")
    broken = replace(tokenizer, codes=codes).decode(table.tokens)
    spec = weights.read_fields(airplanes / "weights.parquet").spec
    lost = []
    for i in table.of_split("train"):
        signal = load_signal(airplanes / f"{table.shape_ids[i]}.npz")
        found = shapes.overlap(spec, broken[i], signal)["iou"]
        lost.append(table.measures["iou"][i] - found)
    found = {"airplanes: IoU lost in quantisation": np.median(lost)}
    assert outside(found) == found


# --- A family of known structure: tokens, GPT, Gaussian ---------------------------------------
N_TRAIN, N_VAL, N_TEST = 400, 60, 200
FAMILY = FieldSpec(hidden=(2,), octaves=0)
GPT = Gpt(
    embedding=48,
    layers=2,
    iterations=400,
    batch_size=64,
    learning_rate=2e-3,
    label_smoothing_width=0.7,
)


def family(n: int) -> np.ndarray:
    """Coefficients [n, 8] near one of three closed curves, which no Gaussian is."""
    rng = np.random.default_rng(stable_seed(SEED, "family"))
    angle, kind = rng.uniform(0, 2 * np.pi, n), rng.integers(3, size=n)
    waves = [wave(k * angle) / k for k in (1, 2, 3) for wave in (np.cos, np.sin)]
    places = [np.cos(2.1 * kind), np.sin(2.1 * kind)]
    found = np.stack([*waves, *places], axis=1) + rng.normal(0, 0.05, (n, 8))
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What generators are given of the family, and unseen members [N_TEST, W]."""
    folder = tmp_path_factory.mktemp("family")
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(FAMILY.n_weights, 8)))[0].T.astype(np.float32)
    anchor = rng.normal(size=FAMILY.n_weights).astype(np.float32)
    numbers = family(N_TRAIN + N_VAL + N_TEST)
    made = anchor + numbers @ basis
    splits = ["train"] * N_TRAIN + ["val"] * N_VAL
    rows = [
        weights.Row(f"f{i}", split, None, made[i], {}, numbers[i]) for i, split in enumerate(splits)
    ]
    weights.write_fields(folder / "weights.parquet", FAMILY, anchor, rows, basis)
    fields = weights.read_fields(folder / "weights.parquet")
    learned = differences(fields, fields.of_split("train"))
    tokenizer = fit_tokenizer(learned, anchor, Tokens(n_codes=31, n_components=8))
    given = Given(fields, folder / "codebook.safetensors", folder / "tokens.parquet")
    save_tokenizer(given.codebook, tokenizer, np.zeros(31))
    about = {"shape_id": fields.shape_ids, "split": splits, "label": fields.labels}
    write_tokens(given.tokens, about, tokenizer.encode(differences(fields)), 31)
    return given, made[len(splits) :]


def scores_of(samples: np.ndarray, unseen: np.ndarray) -> tuple[float, float, float]:
    """1-NNA, COV and MMD of samples [n, W] against as many others, by their weights."""
    across = cdist(samples, unseen)
    nearest = sets.one_nna(cdist(samples, samples), across, cdist(unseen, unseen))
    return nearest, sets.coverage(across), sets.mmd(across)


def trained_and_scored(given: Given, unseen: np.ndarray, settings: Gpt, folder: Path) -> dict:
    """Figures of a GPT."""
    train.train(given.tokens, folder, settings, SEED)
    (samples,) = draw("gpt", given._replace(model=folder), Setting(), N_TEST, [SEED])
    (simple,) = draw("gaussian", given, Gaussian(n_components=8), N_TEST, [SEED])
    plain, _, apart = scores_of(simple.weights, unseen)
    assert not outside({"family: 1-NNA % of the Gaussian": plain})
    nearest, covered, found = scores_of(samples.weights, unseen)
    return {
        "family: 1-NNA % of the GPT": nearest,
        "family: COV % of the GPT": covered,
        "family: MMD, GPT / Gaussian": found / apart,
    }


def test_samples_of_a_family(members, tmp_path):
    assert not outside(trained_and_scored(*members, GPT, tmp_path))


def test_a_gpt_that_learned_nothing_is_seen(members, tmp_path):
    idle = replace(GPT, iterations=2, learning_rate=1e-9, min_learning_rate=0)
    found = trained_and_scored(*members, idle, tmp_path)
    assert outside(found) == found


# --- Digits: images, classes, classifier ------------------------------------------------------
@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Folder of a run, and the test split: its table and images."""
    folder = tmp_path_factory.mktemp("digits")
    chosen = config.load(CONFIGS / "digits.yaml")
    inputs = list_shapes(replace(chosen.dataset, n_shapes=1200), folder, SEED)
    images.prepare({s.shape_id: s.path for s in inputs}, folder, folder / "manifest.json")
    entries = [[s.shape_id, s.split, s.label] for s in inputs]
    learned = [name for name, split, _ in entries if split == "train"][:256]
    learned = {name: folder / f"{name}.npz" for name in learned}
    how = replace(chosen.template, n_shapes=256, steps=1000)
    template.make(chosen.field, learned, folder / "template.safetensors", how, SEED)
    fit_all(folder, chosen, entries)
    train.train(folder / "tokens.parquet", folder / "gpt", chosen.gpt["digits-400"], SEED)
    split = {
        name: gather([row for row in entries if row[1] == name], folder, images)
        for name in ("train", "test")
    }
    table, seen = split["train"]
    labels = table["label"].to_numpy(int)
    judge = classifier.train(seen, labels, ClassifierTraining(epochs=15), SEED)
    classifier.save_classifier(folder / "classifier.safetensors", judge, {"n_classes": 10})
    return folder, *split["test"]


def accuracy(folder: Path, pictures: np.ndarray, labels: list[int]) -> float:
    """Percent of images that the run's classifier takes for these classes."""
    table = pd.DataFrame({"label": labels})
    judged = classifier.class_scores(pictures, table, folder / "classifier.safetensors")
    return judged[0]["accuracy %"]


def scores_of_digits(folder: Path, who: str, fields: np.ndarray, unseen: np.ndarray) -> dict:
    """Accuracy and 1-NNA of fields that were made for all classes in turn."""
    spec = weights.read_fields(folder / "weights.parquet").spec
    made = images.render(spec, fields, 8, 8)
    known = Known(unseen, images.distances(unseen))
    return {
        f"digits: accuracy % of {who}": accuracy(folder, made, [i % 10 for i in range(len(made))]),
        f"digits: 1-NNA % of {who}": sets.measure(
            Samples(made, pd.DataFrame(), images, SEED), known
        )["1-NNA %"],
    }


def test_digits(digits):
    folder, table, unseen = digits
    fields = weights.read_fields(folder / "weights.parquet")
    psnr = fields.measures["psnr"][fields.of_split("val")]
    found = {
        "digits: PSNR (dB), unseen": np.median(psnr),
        "digits: accuracy % of real images": accuracy(folder, unseen, table["label"].tolist()),
    }
    given = Given(fields, folder / "codebook.safetensors", model=folder / "gpt", batch_size=256)
    (samples,) = draw("gpt", given, Setting(), len(unseen), [SEED])
    (simple,) = draw(
        "gaussian", given._replace(model=None), Gaussian(n_components=24), len(unseen), [SEED]
    )
    found |= scores_of_digits(folder, "the GPT", samples.weights, unseen)
    found |= scores_of_digits(folder, "the Gaussian", simple.weights, unseen)
    assert not outside(found)


def test_samples_without_their_class_are_seen(digits):
    folder, _, unseen = digits
    given = Given(None, folder / "codebook.safetensors", model=folder / "gpt")
    model, about, tokenizer = load(given)
    n, n_codes = len(unseen), about["n_codes"]
    prefix = prefix_of(np.full(n, -1), n, n_codes)
    codes = generate(model, n, tokenizer.sequence_length, n_codes, prefix=prefix, seed=SEED)
    found = scores_of_digits(folder, "the GPT", tokenizer.decode(codes), unseen)
    assert "digits: accuracy % of the GPT" in outside(found)
