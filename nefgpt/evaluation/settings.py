"""How samples are compared: the blocks `evaluation`, `classifier` and `tuning`."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len

from nefgpt.base.settings import Count, settings

NORMALISATIONS = ("shape", "class", "box")  # see `nefgpt.signals.shapes.normalise_cloud`


@settings
class Fpd:
    """A network for Fréchet distances of point clouds; `axes`: where it finds x, up and depth."""

    extractor: Literal["pointnet", "pointnet2"] = "pointnet"
    checkpoint: str
    axes: Annotated[tuple[Annotated[int, Ge(0), Le(2)], ...], Len(3, 3)] = (0, 1, 2)


@settings
class Evaluation:
    """Sizes and seeds of the evaluation."""

    n_samples: Count | None = None
    draws: Annotated[int, Ge(1), Le(1000)] = 1
    normalisation: Literal["shape", "class", "box"] = "shape"
    emd_points: Annotated[int, Ge(1), Le(2048)] | None = None
    fpd: Fpd | None = None
    fits: bool = False


@settings
class ClassifierTraining:
    """Training of the classifier that says whether a sample shows its class."""

    epochs: Count = 30
    batch_size: Count = 64
    learning_rate: Annotated[float, Gt(0)] = 1e-3


@settings
class Tuning:
    """A grid of sampling settings, compared on the val split."""

    model: str
    n_samples: Count
    top_k: Annotated[tuple[Count | None, ...], Len(1)] = (None,)
    top_p: Annotated[tuple[Annotated[float, Gt(0), Le(1)] | None, ...], Len(1)] = (None,)
    temperature: Annotated[tuple[Annotated[float, Ge(0)], ...], Len(1)] = (1.0,)
    guidance: Annotated[tuple[Annotated[float, Ge(0)] | None, ...], Len(1)] = (None,)
