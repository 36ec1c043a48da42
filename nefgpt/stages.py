"""The stages: what each command is called, where it is, and the version of its results.

The workflow's rules name stages, so a module can move without anything running again.
"""

from typing import NamedTuple


class Stage(NamedTuple):
    """One command: the module whose `main` it is, and what it does."""

    module: str
    does: str

    @property
    def room(self) -> str:
        """The subpackage that holds the module."""
        return self.module.partition(".")[0]


STAGES = {
    "config": Stage("config", "check a configuration, or write its JSON schema"),
    "dataset": Stage("inputs.listing", "list a run's shapes, or write its configuration"),
    "procedural": Stage("inputs.airplanes.write", "make airplanes"),
    "sdf": Stage("signals.sdf", "meshes to point clouds with signed distances"),
    "images": Stage("signals.images", "images to pixels with brightness"),
    "shapes": Stage("signals.table", "gather what is known of every input"),
    "template": Stage("fitting.template", "learn what all fields start from"),
    "fit": Stage("fitting.fit", "fit fields to signals"),
    "starts": Stage("fitting.starts", "fit the same signals from the template and at random"),
    "weights": Stage("fitting.weights", "gather fields into one table"),
    "tokens": Stage("generators.gpt.tokenizer", "learn a codebook, turn fields into tokens"),
    "train": Stage("generators.train", "train one of the generators"),
    "sample": Stage("generators.sample", "make fields by one of the generators"),
    "regression": Stage("generators.regression", "a transformer on continuous weights"),
    "decode": Stage("evaluation.decode", "fields to meshes or images"),
    "clouds": Stage("evaluation.clouds", "what the metrics compare of real signals"),
    "fits": Stage("evaluation.fits", "fit the test signals, measure all fields by shape"),
    "classifier": Stage("evaluation.classifier", "train a classifier on real images"),
    "metrics": Stage("evaluation.score", "score samples against the test split"),
    "evaluate": Stage("evaluation.alone", "score folders of meshes, clouds or images by anybody"),
    "tune": Stage("evaluation.tune", "compare sampling settings on the val split"),
    "tables": Stage("evaluation.tables", "gather metrics into tables"),
    "present": Stage("report.figures", "draw the figures, write the page"),
}

# A number per stage: raise it when a change of code changes that stage's results. The numbers are
# parameters of the rules, so raising one re-runs the stage and what follows; editing a comment
# re-runs nothing.
VERSIONS = {
    "procedural": 1,
    "sdf": 2,
    "images": 1,
    "inputs": 1,
    "template": 4,
    "fit": 5,
    "weights": 2,
    "tokens": 4,
    "gpt": 5,
    "sample": 3,
    "regression": 3,
    "extract": 3,
    "classifier": 2,
    "evaluate": 5,
    "present": 7,
}
