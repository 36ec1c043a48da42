"""Generate neural fields by writing their weights, token by token.

>>> run = nefgpt.open("results/airplanes")
>>> field = run.sample(8, seed=0)[0]
>>> mesh = field.mesh(resolution=256)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nefgpt.runs.field import NeuralField, load_field
    from nefgpt.runs.run import Run, open

__all__ = ["NeuralField", "Run", "load_field", "open"]
__version__ = "0.1.0"

_HOMES = {"NeuralField": "field", "load_field": "field", "Run": "run", "open": "run"}


def __getattr__(name: str) -> object:
    """What is offered is loaded when it is asked for, so that `import nefgpt` takes no time."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nefgpt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"nefgpt.runs.{_HOMES[name]}"), name)
