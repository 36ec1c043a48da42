"""Settings: parts of the configuration as dataclasses, with the bounds beside each field.

`nefgpt.config` checks types and bounds, once; a job only looks whether it knows all keys.
"""

import dataclasses
import typing
from typing import Annotated, TypeVar, dataclass_transform

from annotated_types import Ge, Le

from nefgpt.base.errors import InputError

T = TypeVar("T")
Count = Annotated[int, Ge(1), Le(10**9)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass, of which pydantic refuses unknown keys and NaN."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(kind)
    made.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}
    return made


def from_dict(kind: type[T], values: dict) -> T:
    """Settings from a mapping, as JSON gives it; keys that are missing have their defaults.

    Raises
    ------
    InputError
        for a key that is unknown, or missing without a default, and for values that do not go
        together.
    """
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise InputError(f"{kind.__name__} has no settings {', '.join(unknown)}")
    found = {}
    for name, value in values.items():
        options = typing.get_args(hints[name]) or (hints[name],)
        block = next((option for option in options if dataclasses.is_dataclass(option)), None)
        if block and isinstance(value, dict):
            value = from_dict(block, value)
        found[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**found)
    except (TypeError, ValueError) as error:
        raise InputError(f"settings of {kind.__name__}: {error}") from error
