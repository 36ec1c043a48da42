"""How a fit of fields is run."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from nefgpt.base.settings import Count, settings


@settings
class Steps:
    """How many steps a fit takes, and of which kind.

    Parameters
    ----------
    schedule : "cosine" takes all steps; "plateau" halves a field's rate when its loss stalls, and
        the field is done when it stalls at a thousandth of the first rate.
    quality_resolution : of the grid that the fit is measured on, samples per axis.
    """

    steps: Count = 800
    points_per_step: Count = 4096
    learning_rate: Annotated[float, Gt(0)] = 0.01
    loss: Literal["l1", "mse"] = "l1"
    schedule: Literal["cosine", "plateau"] = "cosine"
    quality_resolution: Annotated[int, Ge(16), Le(512)] = 96


@settings
class Optimiser(Steps):
    """Adam on a field's weights, or on its coefficients in a basis.

    Parameters
    ----------
    pull : L2 penalty on the difference to the template, in the same space.
    averaging : decay of the weights' running mean; 0 is off.
    """

    pull: Annotated[float, Ge(0)] = 0.0
    averaging: Annotated[float, Ge(0), Lt(1)] = 0.0
