"""What chance does to a measure: intervals from halves of samples and references.

A value on half of the samples and half of the references, chosen without replacement, varies as
much about the value on all as that does about the truth: for a mean of n the variance on halves is
(1 - 1/2) / (n/2) of one sample's, which is 1/n. This is the jackknife that leaves out one half
(Shao and Wu 1989; subsampling: Politis and Romano 1994), and holds for measures that are no means.
No shape is in a half twice, as it would be in a bootstrap sample, where it is its own nearest
neighbour and ruins 1-NNA. Measures of sets depend on the sets' size, so only the spread of the
halves' values is taken, about the value on all. What other seeds of a training give is not in it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nefgpt.base.errors import InputError
from nefgpt.base.seeds import stable_seed
from nefgpt.evaluation import neighbours, novelty, sets, transport
from nefgpt.evaluation.metric import Known, Samples

N_HALVES = 400
FEWEST = 8  # samples; of fewer the halves say nothing
LEVEL = 95  # percent
COLUMNS = (
    *("method", "setting", "metric", "value", "low", "high"),
    *("above", "difference", "difference_low", "difference_high", "tie"),
)


def _of_half(
    draw: Samples, known: Known, chosen: tuple, rows: np.ndarray, references: np.ndarray
) -> dict:
    """Measures of some of the samples and references that are compared, which are `chosen`."""
    some = draw.pairs(known).some(rows, references)
    found = sets.of(some)
    if len(rows) > neighbours.K_DENSITY:
        found |= neighbours.of(some)
    if draw.moved_pairs(known) is not None:
        found |= transport.of(draw.moved_pairs(known).some(rows, references))
    if draw.distance is not None:
        apart, unseen = draw.distance[chosen[0][rows]], known.nearest_train
        found["novelty"] = novelty.ratio(apart, unseen[chosen[1][references]])
        found["copies %"] = 100 * float((apart < unseen.min()).mean())
    return found


def halves(draws: Sequence[tuple[Samples, Known]], seed: int) -> dict[str, np.ndarray]:
    """Mean over the draws of each measure on random halves, float64 [N_HALVES] each.

    All draws and all rows see the same halves of the references, so that rows can be compared.
    Empty where there are too few samples.
    """
    sizes = [len(draw.pairs(known).rr) for draw, known in draws]
    if min(sizes) < FEWEST:
        return {}
    rng = np.random.default_rng(stable_seed(seed, "halves of the references"))
    own = [np.random.default_rng(stable_seed(draw.seed, "halves")) for draw, _ in draws]
    chosen = [draw.chosen(known) for draw, known in draws]
    found = []
    for _ in range(N_HALVES):
        order = rng.random(max(len(known.reference) for _, known in draws))
        parts = []
        for one, compared, n, of_draw in zip(draws, chosen, sizes, own, strict=True):
            references = np.argsort(order[compared[1]])[: n // 2]
            rows = of_draw.permutation(n)[: n // 2]
            parts.append(_of_half(*one, compared, rows, references))
        found.append({name: np.mean([part[name] for part in parts]) for name in parts[0]})
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def interval(value: float, spread: np.ndarray) -> tuple[float, float]:
    """Ends of the interval about a value, from the halves' values."""
    tail = (100 - LEVEL) / 2
    low, high = value + np.percentile(spread - spread.mean(), [tail, 100 - tail])
    return min(low, value), max(high, value)


def table(rows: Sequence[tuple[pd.DataFrame, dict[str, np.ndarray]]]) -> pd.DataFrame:
    """One line (of `COLUMNS`) per row of the table and measure.

    Parameters
    ----------
    rows : metrics of one row, as metrics.csv has them, with what `halves` found.
    """
    lines, above = [], None
    for metrics, spreads in rows:
        first = metrics.iloc[0]
        values = pd.to_numeric(metrics["value"], errors="coerce")
        means = values.groupby(metrics["metric"], sort=False).mean()
        for name, spread in spreads.items():
            value = float(means.get(name, np.nan))
            if not (np.isfinite(value) and np.isfinite(spread).all()):
                continue
            line = {"method": first["method"], "setting": first["setting"], "metric": name}
            low, high = interval(value, spread)
            most = 100.0 if name.endswith("%") else np.inf  # and no measure is below zero
            line |= {"value": value, "low": max(low, 0.0), "high": min(high, most)}
            if above is not None and name in above[2]:
                difference = value - above[2][name][0]
                low, high = interval(difference, spread - above[2][name][1])
                line |= {"above": f"{above[0]} {above[1]}", "difference": difference}
                line |= {"difference_low": low, "difference_high": high}
                line["tie"] = "yes" if low <= 0 <= high else "no"
            lines.append(line)
        known = {
            line["metric"]: (line["value"], spreads[line["metric"]])
            for line in lines
            if (line["method"], line["setting"]) == (first["method"], first["setting"])
        }
        above = first["method"], first["setting"], known
    return pd.DataFrame(lines, columns=COLUMNS)


def read_halves(path: Path) -> dict[str, np.ndarray]:
    """What `halves` found, from its file.

    Raises
    ------
    InputError
        naming the file, when it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error
