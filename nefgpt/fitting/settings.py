"""How fields are fitted: the blocks `template` and `fit`."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from nefgpt.base.settings import Count, settings
from nefgpt.fields.settings import Optimiser, Steps


@settings
class Template(Optimiser):
    """What all fields start from; see `nefgpt.fitting.template`.

    Parameters
    ----------
    kind : None is "basis" where there are components, else "one".
    """

    kind: Literal["one", "mean", "basis", "reptile"] | None = None
    shape_id: str | None = None
    n_shapes: Count = 1
    n_components: Annotated[int, Ge(0), Le(4096)] = 0
    fields_per_step: Count = 16
    coefficient_learning_rate: Annotated[float, Gt(0)] = 0.02
    inner_steps: Count = 16

    def __post_init__(self) -> None:
        if (self.fitter == "basis") != (self.n_components > 0):
            what = "needs n_components >= 1" if self.fitter == "basis" else "has no n_components"
            raise ValueError(f"kind {self.fitter} {what}")
        if self.shape_id and self.n_shapes > 1:
            raise ValueError("shape_id names one shape, so n_shapes must be 1")
        if self.fitter != "one" and self.n_shapes < 2:
            raise ValueError(f"kind {self.fitter} learns from several shapes: n_shapes >= 2")
        if self.fitter == "one" and self.n_shapes > 1:
            raise ValueError("kind one takes one shape: n_shapes must be 1, or kind another")

    @property
    def fitter(self) -> str:
        """The module of `nefgpt.fitting` that finds it."""
        return self.kind or ("basis" if self.n_components else "one")

    def used(self) -> dict:
        """What the template depends on: each kind leaves some keys idle."""
        one = ("fields_per_step", "coefficient_learning_rate", "inner_steps")
        many = ("schedule", "averaging", "quality_resolution")
        idle = {
            "one": one,
            "mean": (*one, "quality_resolution"),
            "basis": (*many, "inner_steps"),
            "reptile": (*many, "coefficient_learning_rate"),
        }[self.fitter]
        values = {name: value for name, value in vars(self).items() if name not in idle}
        del values["shape_id"]
        if self.fitter in ("one", "basis"):  # what n_components says already
            del values["kind"]
        return values


@settings
class Fit(Optimiser):
    """The fit of every field."""

    # A pack's ids are one argument of a shell command, which ends at 128 KiB.
    fields_per_job: Annotated[int, Ge(1), Le(1000)] = 1


@settings
class StartFit(Steps):
    """The fits from the template and from random starts, all weights free."""

    steps: Count = 1000
    loss: Literal["l1", "mse"] = "mse"
    quality_resolution: Annotated[int, Ge(16), Le(512)] = 64
