"""How fields are fitted: the blocks `template` and `fit`."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from nefgpt.base.settings import Count, settings
from nefgpt.fields.settings import Optimiser


@settings
class Template(Optimiser):
    """What all fields start from; see `nefgpt.fitting.template`."""

    shape_id: str | None = None
    n_shapes: Count = 1
    n_components: Annotated[int, Ge(0), Le(4096)] = 0
    fields_per_step: Count = 16
    coefficient_learning_rate: Annotated[float, Gt(0)] = 0.02

    def __post_init__(self) -> None:
        if self.n_components and self.n_shapes < 2:
            raise ValueError("n_components > 0 learns a basis, which needs n_shapes >= 2")
        if self.shape_id and self.n_shapes > 1:
            raise ValueError("shape_id names one shape, so n_shapes must be 1")
        if not self.n_components and self.n_shapes > 1:
            raise ValueError("n_shapes > 1 learns a basis, which needs n_components >= 1")


@settings
class Fit(Optimiser):
    """The fit of every field."""

    # A pack's ids are one argument of a shell command, which ends at 128 KiB.
    fields_per_job: Annotated[int, Ge(1), Le(1000)] = 1


@settings
class StartFit:
    """The fits from the template and from random starts, all weights free."""

    steps: Count = 1000
    points_per_step: Count = 4096
    learning_rate: Annotated[float, Gt(0)] = 0.01
    loss: Literal["l1", "mse"] = "mse"
    schedule: Literal["cosine", "plateau"] = "cosine"
    quality_resolution: Annotated[int, Ge(16), Le(512)] = 64
