"""What the figures and the report of an image run show, found in its results folder."""

from pathlib import Path

import numpy as np
import pandas as pd

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, read_table
from nefgpt.evaluation.clouds import read_clouds
from nefgpt.generators.kind import BOUNDS
from nefgpt.report import figures, sheets

LADDER_ROWS = BOUNDS
LADDER_SIZE = 16


def _samples(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Images [n, H, W(, 3)] of one row of the ladder and what is known of each."""
    images = read_clouds(folder / "clouds.npy")
    table = read_table(folder / "samples.csv", ["sample", "shape_id", "label", "valid"])
    nearest = read_table(folder / "nearest.csv", ["sample", "nearest_1", "distance_x100"])
    if len(images) != len(table) or table["sample"].tolist() != nearest["sample"].tolist():
        raise InputError(f"{folder}: clouds.npy, samples.csv and nearest.csv differ; delete it")
    return images, table.join(nearest.drop(columns=["sample", "valid"], errors="ignore"))


def _train(results: Path) -> dict[str, np.ndarray]:
    """Training images by id."""
    images = read_clouds(results / "clouds/train.npy")
    ids = read_table(results / "clouds/train.csv", ["shape_id"])["shape_id"]
    return dict(zip(ids, images, strict=True))


def has_classes(results: Path) -> bool:
    """Whether the run's images have labels."""
    return bool(read_table(results / "clouds/train.csv", ["label"])["label"].all())


def class_tables(results: Path, rows: list[tuple[str, str]]) -> pd.DataFrame:
    """Accuracy and cross-entropy per class of all rows of the ladder, one below the other."""
    parts = [
        read_table(results / "samples" / row / setting / "classes.csv", ["label", "accuracy %"])
        for row, setting in rows
    ]
    frame = pd.concat(parts, ignore_index=True)
    numbers = ["label", "n", "accuracy %", "cross-entropy"]
    return frame.astype(dict.fromkeys(numbers, float)).astype({"label": int, "n": int})


def make_figures(
    results: Path, rows: list[tuple[str, str]], generators: list[tuple[str, str]], out_dir: Path
) -> None:
    """Draw the figures that only image runs have.

    Parameters
    ----------
    rows : method and setting of every row of the ladder.
    generators : those of them that are sampled.
    """
    train, classes = _train(results), has_classes(results)
    for row, setting in generators:
        images, table = _samples(results / "samples" / row / setting)
        title, n = f"{row} {setting}", len(table)
        if classes:
            labels, by = table["label"].to_numpy(int), " by class token"
            what = "the first sample of each class token, and its"
            first = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)]
        else:
            labels, by = np.arange(n) // sheets.SHEET_COLUMNS * sheets.SHEET_COLUMNS, ""
            first, what = list(range(min(sheets.SHEET_COLUMNS, n))), "the first samples, and their"
        sheet = sheets.contact_sheet(images, labels, f"{title}: samples{by}")
        figures.save(sheet, out_dir, f"sheet-{row}@{setting}")
        places = [name for name in table if name.startswith("nearest_")]
        nearest = [[train[i] for i in table.loc[s, places] if i] for s in first]
        distance = pd.to_numeric(table["distance_x100"], errors="coerce")
        figure = sheets.classes_with_nearest(
            [images[s] for s in first],
            nearest,
            [1 - 2 * distance[s] / 100 for s in first],
            f"{title}: {what} nearest training images",
        )
        figures.save(figure, out_dir, f"classes-{row}@{setting}")
    ladder = [_samples(results / "samples" / row / "all") for row in LADDER_ROWS]
    ids = ladder[0][1]["shape_id"].tolist()
    if ids != ladder[1][1]["shape_id"].tolist():
        raise InputError(f"{results / 'samples'}: the ladder's rows differ; delete them")
    chosen = np.linspace(0, len(ids) - 1, min(LADDER_SIZE, len(ids))).astype(int)
    figure = sheets.image_ladder(
        np.stack([train[ids[i]] for i in chosen]),
        *(images[chosen] for images, _ in ladder),
        "Training images, their fields, and their quantised fields",
    )
    figures.save(figure, out_dir, "ladder")
    if not classes:
        return
    about = read_json(results / "classifier.json")
    real = {int(c): value for c, value in about["accuracy % by class"].items()}
    figures.save(sheets.class_accuracy(class_tables(results, rows), real), out_dir, "accuracy")


def captions(results: Path, generators: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """File name and caption of the figures of `make_figures`, in the order of the report."""
    found, classes = [], has_classes(results)
    which = "for each class token its first sample" if classes else "the first samples"
    of_each = " of each class token" if classes else ""
    for row, setting in generators:
        name = f"{row}@{setting}"
        found += [
            (
                f"classes-{name}.png",
                f"{row} {setting}: {which} (not selected) and the three training images nearest "
                "to it by SSIM.",
            ),
            (f"sheet-{name}.png", f"{row} {setting}: the first samples{of_each}."),
        ]
    found += [("ladder.png", "Training images as pixels, as fields and as quantised fields.")]
    if not classes:
        return found
    return [
        *found,
        (
            "accuracy.svg",
            "Share of the images made for each class that a classifier trained on real images "
            "takes for it.",
        ),
    ]


def classifier_table(results: Path) -> list[dict]:
    """What the classifier is worth: its accuracy on real test images."""
    about = read_json(results / "classifier.json")
    names = ("accuracy %", "cross-entropy", "n_train", "n_test")
    return [{"quantity": f"real test images: {name}", "value": about[name]} for name in names]
