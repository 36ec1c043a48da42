"""How generators are trained and sampled.

The blocks `tokens`, `gpt`, `sampling`, `gaussian`, `noise`, `averages` and `regression`.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from nefgpt.base.settings import Count, Share, settings
from nefgpt.fitting.settings import StartFit

Rate = Annotated[float, Gt(0)]


@settings
class Tokens:
    """Vector quantisation."""

    kind: Literal["scalar", "basis"] = "basis"
    n_codes: Annotated[int, Ge(2), Le(60_000)] = 127
    n_components: Count = 32


@settings
class Gpt:
    """One transformer over codes and its training."""

    embedding: Count = 128
    heads: Count = 4
    layers: Count = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    iterations: Count = 1000
    batch_size: Count = 32
    accumulate: Count = 1
    learning_rate: Rate = 1e-3
    min_learning_rate: Annotated[float, Ge(0)] = 1e-4
    warmup: Annotated[int, Ge(0), Le(10**9)] = 50
    weight_decay: Annotated[float, Ge(0)] = 0.1
    eval_every: Count = 50
    jitter: Share = 0.0
    mix: Share = 0.0
    label_smoothing_width: Annotated[float, Ge(0)] = 0.0
    class_dropout: Share = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is no multiple of heads {self.heads}")


@settings
class Setting:
    """One way of sampling from a transformer's distribution."""

    top_k: Count | None = None
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    temperature: Annotated[float, Ge(0)] = 1.0
    guidance: Annotated[float, Ge(0)] | None = None


@settings
class Gaussian:
    """The simplest generator: a Gaussian over principal components of the weights."""

    n_components: Count = 32


@settings
class Noise:
    """Train fields with Gaussian noise: `scale` times the train fields' deviations.

    Those along their principal components, or of each weight by itself.
    """

    space: Literal["components", "weights"] = "components"
    scale: Annotated[float, Ge(0)] = 0.4


@settings
class Averages:
    """Means of two train fields, the second among the nearest of the first; null: any."""

    neighbours: Count | None = 5


@settings
class Regressor:
    """The transformer on continuous weights and its training; `n_fields` lists sizes of sets."""

    n_fields: Annotated[tuple[Count, ...], Len(1)] = (1, 4, 16, 32)
    embedding: Count = 64
    heads: Count = 2
    layers: Count = 2
    loss: Literal["l1", "mse"] = "l1"
    iterations: Count = 400
    batch_size: Count = 8
    learning_rate: Rate = 3e-3
    min_learning_rate: Annotated[float, Ge(0)] = 1e-4
    warmup: Annotated[int, Ge(0)] = 20
    noise: Annotated[float, Ge(0)] = 0.5

    def __post_init__(self) -> None:
        if self.embedding % self.heads:
            raise ValueError(f"embedding {self.embedding} is no multiple of heads {self.heads}")


@settings
class Regression(Regressor):
    """How many fields a transformer on continuous weights can memorise."""

    n_shapes: Annotated[int, Ge(2)] = 48
    fit: StartFit = StartFit()

    def __post_init__(self) -> None:
        Regressor.__post_init__(self)  # `super()` knows no class that a decorator made anew
        if max(self.n_fields) > self.n_shapes:
            raise ValueError(f"n_fields asks for more than n_shapes = {self.n_shapes} fields")
