"""Commands and stages: what each is called, where it is, and the version of its results.

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


# What people call on any files; see docs/your-shapes.md and docs/metrics.md.
FILES = {
    "inspect": Stage("signals.inspect", "say what is read from a mesh or image, and draw it"),
    "evaluate": Stage("evaluation.alone", "score folders of meshes, clouds or images by anybody"),
}
# What people call on a run that is finished; see docs/using.md.
COMMANDS = {
    "sample": Stage("runs.sample", "new meshes or images by a trained model"),
    "encode": Stage("runs.encode", "meshes or images to fields, coefficients and tokens"),
    "decode": Stage("runs.decode", "fields or tokens to meshes, points, grids, slices, images"),
    "complete": Stage("runs.complete", "what the model continues the first tokens of a shape with"),
    "interpolate": Stage("runs.interpolate", "fields from one shape to another"),
    "export": Stage("runs.export", "all that the commands above need, in one small file"),
}

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
    "draw": Stage("generators.sample", "make fields by one of the generators"),
    "regression": Stage("generators.regression", "a transformer on continuous weights"),
    "extract": Stage("evaluation.decode", "fields to meshes or images"),
    "clouds": Stage("evaluation.clouds", "what the metrics compare of real signals"),
    "fits": Stage("evaluation.fits", "fit the test signals, measure all fields by shape"),
    "classifier": Stage("evaluation.classifier", "train a classifier on real images"),
    "metrics": Stage("evaluation.score", "score samples against the test split"),
    "likelihood": Stage("evaluation.likelihood", "bits of held-out fields, by density"),
    "tune": Stage("evaluation.tune", "compare sampling settings on the val split"),
    "tables": Stage("evaluation.tables", "gather metrics into tables"),
    "present": Stage("report.figures", "draw the figures, write the page"),
}

# A number per stage: raise it when a change of code changes that stage's results. The numbers are
# parameters of the rules, so raising one re-runs the stage and what follows; editing a comment
# re-runs nothing.
VERSIONS = {
    "procedural": 1,
    "sdf": 4,
    "images": 3,
    "inputs": 2,
    "template": 4,
    "fit": 5,
    "weights": 2,
    "tokens": 4,
    "gpt": 5,
    "diffusion": 1,
    "sample": 3,
    "regression": 3,
    "extract": 3,
    "classifier": 2,
    "likelihood": 1,
    "evaluate": 5,
    "present": 7,
}
