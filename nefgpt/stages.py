"""The stages: what each command is called, where it is, and the version of its results.

The workflow's rules name stages, so a module can move without anything running again.
"""

from typing import NamedTuple


class Stage(NamedTuple):
    """One command: the module whose `main` it is, the group it belongs to, and what it does."""

    module: str
    group: str
    does: str


STAGES = {
    "config": Stage("config", "inputs", "check a configuration, or write its JSON schema"),
    "dataset": Stage("dataset", "inputs", "list a run's shapes, or write its configuration"),
    "procedural": Stage("procedural", "inputs", "make airplanes"),
    "sdf": Stage("sdf", "signals", "meshes to point clouds with signed distances"),
    "images": Stage("images", "signals", "images to pixels with brightness"),
    "shapes": Stage("inputs", "signals", "gather what is known of every input"),
    "template": Stage("template", "fields", "learn what all fields start from"),
    "fit": Stage("fit", "fields", "fit fields to signals"),
    "starts": Stage("starts", "fields", "fit the same signals from the template and at random"),
    "weights": Stage("weights", "fields", "gather fields into one table"),
    "tokens": Stage("tokenizer", "generators", "learn a codebook, turn fields into tokens"),
    "train gpt": Stage("train_gpt", "generators", "train a transformer on tokens"),
    "sample": Stage("sample", "generators", "make fields by one of the methods"),
    "regression": Stage("regression", "generators", "a transformer on continuous weights"),
    "decode": Stage("extract", "evaluation", "fields to meshes or images"),
    "clouds": Stage("clouds", "evaluation", "what the metrics compare of real signals"),
    "classifier": Stage("classifier", "evaluation", "train a classifier on real images"),
    "metrics": Stage("metrics", "evaluation", "score samples against the test split"),
    "tune": Stage("tune", "evaluation", "compare sampling settings on the val split"),
    "tables": Stage("tables", "evaluation", "gather metrics into tables"),
    "present": Stage("present", "report", "draw the figures, write the page"),
}

# A number per stage: raise it when a change of code changes that stage's results. The numbers are
# parameters of the rules, so raising one re-runs the stage and what follows; editing a comment
# re-runs nothing.
VERSIONS = {
    "procedural": 1,
    "sdf": 1,
    "images": 1,
    "inputs": 1,
    "template": 4,
    "fit": 4,
    "weights": 1,
    "tokens": 3,
    "gpt": 5,
    "sample": 2,
    "regression": 3,
    "extract": 3,
    "classifier": 2,
    "evaluate": 4,
    "present": 5,
}
