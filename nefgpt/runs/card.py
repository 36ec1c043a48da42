"""The model card of an exported model, in the form that the Hugging Face hub reads."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from nefgpt.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

# Licences that the hub knows by these names; others are "other" with a name.
KNOWN = (
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause cc cc-by-2.0 cc-by-3.0 "
    "cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 epl-2.0 eupl-1.2 gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-3.0 mit "
    "mpl-2.0 odbl odc-by osl-3.0 pddl unknown unlicense wtfpl zlib"
).split()
_DATA = {"procedural": "airplanes made by rule", "digits": "scikit-learn's digits"}
_WAYS = {"shapes": "unconditional-3d-generation", "images": "unconditional-image-generation"}


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-").lower()


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _rows(run: Run, models: list[str]) -> "pd.DataFrame":
    """The rows of the table that tell what these models are worth: theirs, and the bounds."""
    sampled = {row.method for row in run.config.sampled}
    return run.table[[name in models or name not in sampled for name, _ in run.table.index]]


def _front(run: Run, models: list[str], licence: str) -> dict:
    """What stands between the card's first lines."""
    known = licence.lower() in KNOWN
    front = {"license": licence.lower() if known else "other"}
    if not known:
        front["license_name"] = licence
    kind = "image" if run.config.signals == "images" else "3d"
    front |= {"library_name": "nefgpt"}
    front["tags"] = ["neural-fields", "implicit-neural-representation", f"{kind}-generation"]
    task = _WAYS[run.config.signals]
    if kind == "image":
        front["pipeline_tag"] = task
    data = run.config.dataset.kind
    index = []
    for model in models:
        results = []
        for (method, setting), values in run.table.iterrows():
            if method != model:
                continue
            metrics = [
                {"type": _slug(name), "name": name, "value": float(value)}
                for name, value in values.items()
                if math.isfinite(value)
            ]
            about = {"type": data, "name": _DATA.get(data, data), "split": "test"}
            task_of = {"type": task, "name": f"samples at {setting}"}
            results.append({"task": task_of, "dataset": about, "metrics": metrics})
        index.append({"name": f"{run.config.name}-{model}", "results": results})
    front["model-index"] = [entry for entry in index if entry["results"]]
    return front


def _table(frame: "pd.DataFrame") -> str:
    """A table of numbers in Markdown."""
    heads = ["row", "setting", *frame.columns]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(frame.columns)]
    for (method, setting), values in frame.iterrows():
        cells = [method, setting, *(_number(float(value)) for value in values)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card(run: Run, models: list[str], licence: str, file: Path) -> str:
    """The text of README.md.

    Parameters
    ----------
    models : names of the generators that are exported.
    licence : one of the hub's names, or any text.
    file : what is exported to, as the examples call it.
    """
    name, what = run.config.name, "images" if run.config.signals == "images" else "meshes"
    spec = run.spec
    learned = ", ".join(f"`{m}` ({run.models[m]})" for m in models)
    training = "No field of the training set is in it."
    if run.config.template.fitter == "one":
        training = "The template is a field of one training shape; no other is in it."
    hidden = ", ".join(map(str, spec.hidden))
    one = "image()" if what == "images" else "mesh(resolution=256)"
    front = yaml.safe_dump(_front(run, models, licence), sort_keys=False, allow_unicode=True)
    stated = "was not stated" if licence == "unknown" else f"of this model: {licence}"
    return f"""---
{front}---

# {name}

Generates {what} by writing the weights of neural fields, token by token (NeF-GPT). A
field is an MLP of {spec.n_weights} weights ({hidden} hidden units) over
{spec.in_dim} coordinates; a sequence has
{run.tokenizer.sequence_length} tokens of {len(run.tokenizer.codes)} codes. Generators: {learned}.

## Use

With the Python package `nefgpt`; no run and no training data are needed:

```sh
nefgpt sample {file.name} --n 10 --out samples
```

```python
import nefgpt

run = nefgpt.open("{file.name}")
field = run.sample(8, seed=0)[0]
field.{one}
```

`nefgpt --help` lists what else there is: `encode`, `decode`, `complete`, `interpolate`.

## What it is worth

Means over `evaluation.draws` = {run.config.evaluation.draws} draws, against the test split of
{_DATA.get(run.config.dataset.kind, f"the data set (kind {run.config.dataset.kind})")}. The rows
above the generators are bounds: real {what}, their fields, and their quantised fields.

{_table(_rows(run, models))}

## What is in it

`config.json` (the whole configuration), `fields/template.safetensors` (what all fields start from,
and their basis), `codebook.safetensors`, a folder for each generator, `tables/metrics.csv`, and
`nefgpt.json` with the SHA-256 of each file. Nothing is pickled. {training} Of a
Gaussian the mean, the components and their deviations are kept.

The licence {stated}.
"""
