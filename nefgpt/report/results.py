"""What a results folder holds: where its files are, and what they say."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from nefgpt.base.errors import InputError
from nefgpt.base.files import read_json, read_table
from nefgpt.config import Config, validate
from nefgpt.evaluation import tables
from nefgpt.evaluation.intervals import LEVEL
from nefgpt.evaluation.likelihood import COLUMNS as LIKELIHOOD
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.fitting.weights import Fields, read_fields
from nefgpt.generators.gpt.tokenizer import Tokenizer, load_tokenizer
from nefgpt.generators.gpt.tokens import TokenTable, read_tokens
from nefgpt.generators.kind import BOUNDS, TRAINED
from nefgpt.generators.kind import KINDS as KINDS_OF_ROWS
from nefgpt.report.comparison import Line
from nefgpt.signals.kind import KINDS, Entry, Kind, Shown, named
from nefgpt.signals.table import read_shapes

PROBES = "noise", "averages"  # kinds of rows: train fields, changed without a model


class Sample(NamedTuple):
    """One sample of a row of the table.

    Attributes
    ----------
    number : its place among the row's samples.
    shape_id : of the training signal that stands in as sample, or a name.
    label : the class it was made for; None without classes.
    valid : whether it holds a signal; else it is empty.
    shown : its decoded field.
    nearest : ids of the training signals nearest to it, nearest first; none when it is empty.
    distance : to the nearest, times 100; NaN when it is empty.
    """

    number: int
    shape_id: str
    label: int | None
    valid: bool
    shown: Shown
    nearest: list[str]
    distance: float


class Run:
    """A run, as its results folder has it.

    Attributes
    ----------
    folder : of the results, RUN/results/NAME; RUN is where Snakemake ran.
    config : its configuration.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config: Config = validate(read_json(self.folder / "config.json"))

    @property
    def files(self) -> Entry:
        """What the files of its signals are called."""
        return KINDS[self.config.signals]

    @property
    def kind(self) -> Kind:
        """The kind of its signals."""
        return named(self.config.signals)

    @cached_property
    def labelled(self) -> bool:
        """Whether its inputs have classes."""
        rows = read_shapes(self.folder / "shapes.parquet")
        return all(row["label"] is not None for row in rows)

    def real(self, shape_id: str) -> Shown:
        """A real signal."""
        # The paths of inputs start from where Snakemake ran.
        root = self.folder.absolute().parent.parent
        return Shown(None, self.folder / self.files.folder / f"{shape_id}.npz", root)

    def samples(self, row: str, setting: str) -> list[Sample]:
        """Samples of one row of the table, in order.

        Raises
        ------
        InputError
            naming a file that is missing or of other samples.
        """
        folder = self.folder / "samples" / row / setting
        table = read_table(folder / "samples.csv", ["sample", "shape_id", "label", "valid"])
        columns = ["sample", "valid", "nearest_1", "distance_x100"]
        about = read_table(folder / "nearest.csv", columns)
        for column in ("sample", "valid"):
            if table[column].tolist() != about[column].tolist():
                raise InputError(
                    f"{folder / 'nearest.csv'} and {folder / 'samples.csv'} differ in {column!r}; "
                    "delete them and run again"
                )
        nearest = about[[name for name in about if name.startswith("nearest_")]].to_numpy()
        distances = pd.to_numeric(about["distance_x100"], errors="coerce")
        found = []
        for i, entry in enumerate(table.itertuples()):
            path = folder / self.files.decoded / f"{entry.sample}{self.files.suffix}"
            valid = entry.valid.lower() == "true"
            # Only a sample known to be empty may lack its file.
            if valid and not path.is_file():
                raise InputError(f"{path}: there is no such file; delete {folder} and run again")
            shown = Shown(path, self.real(entry.shape_id).signal if row in BOUNDS else None)
            label = int(entry.label) if entry.label else None
            ids = [name for name in nearest[i] if name and valid]
            distance = distances[i] if valid else np.nan
            found.append(Sample(i, entry.shape_id, label, valid, shown, ids, distance))
        return found

    @cached_property
    def fields(self) -> Fields:
        """The fields that were fitted."""
        return read_fields(self.folder / "weights.parquet")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What turns fields into tokens and back."""
        return load_tokenizer(self.folder / "codebook.safetensors")

    @cached_property
    def token_table(self) -> TokenTable:
        """The fields' tokens, in the order of `fields`.

        Raises
        ------
        InputError
            when they are of other fields.
        """
        path = self.folder / "tokens.parquet"
        table = read_tokens(path)
        if table.shape_ids != self.fields.shape_ids:
            raise InputError(f"{path} is of other fields than weights.parquet; delete both")
        return table

    def sample_tokens(self, row: str, setting: str) -> np.ndarray:
        """Tokens uint16 [n, L] of the samples of one row."""
        return read_tokens(self.folder / "samples" / row / setting / "tokens.parquet").tokens

    def has_tokens(self, row: str, setting: str) -> bool:
        """Whether the samples of a row were decoded from tokens."""
        kinds = {found[:2]: found.kind for found in self.config.rows}
        return KINDS_OF_ROWS[kinds[row, setting]].learns == "tokens"

    @cached_property
    def unseen(self) -> tuple[float, float]:
        """Least and median distance, times 100, of a test signal to its nearest training signal.

        Raises
        ------
        InputError
            when the file of distances cannot be read.
        """
        path = self.folder / "clouds" / "distances.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                nearest = 100 * stored["nearest_train"]
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
        return float(nearest.min()), float(np.median(nearest))

    def losses(self, model: str) -> pd.DataFrame:
        """How the training of a transformer went, a row per evaluation."""
        columns = (
            "iteration train_loss val_loss calibrated_val_loss temperature tokens_per_second"
        ).split()
        path = self.folder / "gpt" / model / "losses.csv"
        return read_table(path, columns)[columns].apply(pd.to_numeric)

    def metrics(self) -> pd.DataFrame:
        """The long table of metrics, its values numbers."""
        frame = tables.read_metrics(self.folder / "tables" / "metrics.csv")
        return frame.assign(value=pd.to_numeric(frame["value"], errors="coerce"))

    def _halves(self) -> pd.DataFrame:
        """Intervals that were measured on halves; without lines in results of earlier releases."""
        path = self.folder / "tables" / "intervals.csv"
        names = ["method", "setting", "metric", "value", "low", "high", "tie"]
        found = read_table(path, names)[names] if path.is_file() else pd.DataFrame(columns=names)
        return found.astype(dict.fromkeys(("value", "low", "high"), float))

    def intervals(self) -> pd.DataFrame:
        """A line per row and measure: `method`, `setting`, `metric`, `value`, `low`, `high`.

        `value` is the mean over draws. `low` and `high` are ends of the interval on halves of the
        samples; of measures that have none one standard deviation over draws away, NaN of one.
        """
        keys = ["method", "setting", "metric"]
        grouped = self.metrics().groupby(keys, sort=False)["value"].agg(["mean", "std"])
        found = pd.DataFrame({"value": grouped["mean"]})
        found["low"] = grouped["mean"] - grouped["std"]
        found["high"] = grouped["mean"] + grouped["std"]
        found.update(self._halves().set_index(keys)[["low", "high"]])
        return found.reset_index()

    @property
    def interval(self) -> str:
        """What `low` and `high` of `intervals` are."""
        if len(self._halves()):
            return f"{LEVEL} % intervals from halves of the samples and of the test split"
        draws = self.config.evaluation.draws
        return f"one standard deviation of {draws} draws" if draws > 1 else "none, of one draw"

    def interval_rows(self) -> list[dict]:
        """The table of intervals, a row for each of `lines`; nothing where none were measured."""
        rows: dict[tuple[str, str], dict] = {}
        for line in self._halves().itertuples():
            row = rows.setdefault(
                (line.method, line.setting), {"method": line.method, "setting": line.setting}
            )
            digits = COLUMNS[line.metric].digits if line.metric in COLUMNS else 2
            low, value, high = (f"{x:.{digits}f}" for x in (line.low, line.value, line.high))
            row[line.metric] = f"{value} [{low}, {high}]{' ≈' * (line.tie == 'yes')}"
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        return [{name: row.get(name, "") for name in names} for row in rows.values()]

    def test_fits(self) -> pd.DataFrame:
        """How well fields of test signals keep them, as `evaluation.fits` measures it.

        `shape_id`, `what` ("field" or "quantised") and measures; without lines where it is off.
        """
        path = self.folder / "tables" / "fits.csv"
        names = ["shape_id", "split", "what", *self.kind.KEPT]
        found = pd.DataFrame(columns=names)
        if self.config.evaluation.fits:
            found = read_table(path, names)[names]
        found = found[found["split"] == "test"].replace("", np.nan)  # of a field without a surface
        return found.astype(dict.fromkeys(self.kind.KEPT, float))

    @cached_property
    def lines(self) -> list[Line]:
        """The table's rows, as plots show them; what is no row of fields is a bound."""
        kinds = {row[:2]: row.kind for row in self.config.rows}
        roles = dict.fromkeys((None, *BOUNDS), "bound") | dict.fromkeys(PROBES, "probe")
        metrics = self.metrics()
        found = dict.fromkeys(zip(metrics["method"], metrics["setting"], strict=True))
        return [Line(*row, roles.get(kinds.get(row), "generator")) for row in found]

    def likelihood(self) -> pd.DataFrame:
        """Bits of held-out fields, by density."""
        path = self.folder / "tables" / "likelihood.csv"
        table = read_table(path, LIKELIHOOD)
        return table.apply(pd.to_numeric, errors="coerce").combine_first(table)[[*LIKELIHOOD]]

    def tuning(self) -> pd.DataFrame:
        """What the search compared, a row per sampling setting, every cell as the file's text."""
        columns = ["top_k", "top_p", "temperature", "guidance"]
        return read_table(self.folder / "tables" / "tuning.csv", columns)

    def regression(self) -> pd.DataFrame:
        """What the regression experiment measured, every cell as the file's text."""
        path = self.folder / "regression" / "regression.csv"
        return read_table(path, ["n_fields", "start", "psnr"])

    def classes(self) -> pd.DataFrame:
        """Accuracy and cross-entropy per class of all rows of the ladder, one below the other."""
        parts = [
            read_table(
                self.folder / "samples" / row.method / row.setting / "classes.csv",
                ["label", "accuracy %"],
            )
            for row in self.config.rows
        ]
        frame = pd.concat(parts, ignore_index=True)
        numbers = ["label", "n", "accuracy %", "cross-entropy"]
        return frame.astype(dict.fromkeys(numbers, float)).astype({"label": int, "n": int})

    def classifier(self) -> dict:
        """What the classifier is worth on real test inputs."""
        return read_json(self.folder / "classifier.json")


def best_setting(run: Run, with_tokens: bool = False) -> tuple[str, str]:
    """Model and setting of the trained model's row whose 1-NNA is best; the first of equals.

    Parameters
    ----------
    with_tokens : only rows whose samples were decoded from tokens.
    """
    column, metrics = COLUMNS["1-NNA %"], run.metrics()
    metrics = metrics[metrics["metric"] == column.name]
    means = metrics.groupby(["method", "setting"])["value"].mean().dropna().to_dict()
    models = [row[:2] for row in run.config.rows if row.kind in TRAINED]
    if with_tokens:
        models = [row for row in models if run.has_tokens(*row)]
    return min(models, key=lambda row: column.worse(means[row]) if row in means else np.inf)


def fit_quality(run: Run) -> list[dict]:
    """A column per split: how many fields, and how well they keep their signals."""
    fields = run.fields
    columns: dict[str, dict] = {}
    for split in ("train", "val"):
        rows = fields.of_split(split)
        row: dict = {"fields": len(rows)}
        for name, (title, worst) in run.kind.QUALITY.items():
            if name in fields.measures:
                values = fields.measures[name][rows].astype(float)
                values = values[~np.isnan(values)]
                tail, middle = np.quantile(values, [worst, 0.5]) if len(values) else [np.nan] * 2
                row[f"{title}, median"] = f"{middle:.3f}"
                row[f"{title}, {100 * worst:.0f}th percentile"] = f"{tail:.3f}"
        if "seconds" in fields.measures:
            seconds = pd.Series(fields.measures["seconds"][rows])
            row["seconds a field, median"] = f"{seconds.median():.2g}"
        columns[split] = row
    return [
        {"quantity": name, **{split: column[name] for split, column in columns.items()}}
        for name in columns["train"]
    ]


def doubtful(run: Run) -> list[dict]:
    """Inputs that were kept in spite of a doubt, and fields that hold nothing of theirs."""
    rows = read_shapes(run.folder / "shapes.parquet")
    found = [
        {"input": row["shape_id"], "split": row["split"], "doubt": row["doubts"]}
        for row in rows
        if row["doubts"]
    ]
    fields = run.fields
    if "iou" in fields.measures:
        found += [
            {"input": fields.shape_ids[i], "split": fields.splits[i], "doubt": "fitted to IoU 0"}
            for i in np.flatnonzero(fields.measures["iou"] == 0)
        ]
    return found


def tokenizer_quality(run: Run) -> list[dict]:
    """What the codebook costs, a row per quantity."""
    path = run.folder / "tokens.json"
    quality = read_json(path)
    if not isinstance(quality, dict):
        raise InputError(f"{path} must hold a JSON object; delete it")
    return [{"quantity": k.replace("_", " "), "value": v} for k, v in quality.items()]


def training(run: Run) -> list[dict]:
    """A row per transformer: its size, what its training took and what it reached."""
    rows = []
    for model in run.config.gpt:
        about = read_json(run.folder / "gpt" / model / "config.json")
        losses = run.losses(model)
        kept = losses.set_index("iteration").loc[about["iteration"]]
        settings = about["settings"]
        tokens = settings["batch_size"] * settings["accumulate"] * about["sequence_length"]
        done, speed = losses["iteration"].diff()[1:], losses["tokens_per_second"][1:]
        rows.append(
            {
                "model": model,
                "parameters": about["n_parameters"],
                "iterations": settings["iterations"],
                "seconds": round(float((done * tokens / speed).sum())),
                "kept iteration": about["iteration"],
                "val loss, bits per code": f"{kept['calibrated_val_loss'] / np.log(2):.3f}",
                "at temperature": f"{kept['temperature']:g}",
            }
        )
    return rows


def classifier_quality(run: Run) -> list[dict]:
    """What the classifier is worth, a row per quantity."""
    about = run.classifier()
    names = ("accuracy %", "cross-entropy", "n_train", "n_test")
    return [{"quantity": f"real test inputs: {name}", "value": about[name]} for name in names]
