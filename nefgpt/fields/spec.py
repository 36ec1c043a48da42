"""The neural field: one small MLP over encoded coordinates.

A field's weights are one flat vector, layer by layer, weight (row-major) then bias. What the
field computes is in `nefgpt.fields.fused`, for a CPU, and in `nefgpt.fields.stacked`, for a GPU.
"""

import dataclasses
import itertools
import json
import math
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Len

from nefgpt.base.errors import InputError
from nefgpt.base.settings import Count, from_dict, settings


@settings
class FieldSpec:
    """Everything that is needed to rebuild a field from its weights.

    Parameters
    ----------
    in_dim : coordinates per point (3 for shapes).
    out_dim : values per point: 1, or the 3 channels of a colour image.
    octaves : number of sine/cosine pairs per coordinate.
    include_input : keep the raw coordinates among the inputs.
    frequency : angular frequency of the first octave; octave k uses frequency * 2**k.
    mirror : the coordinate of which a field sees only the size, so that its two halves are alike;
        for signals with a plane of symmetry through the origin. None for all others.
    hidden : widths of the hidden layers.
    activation : "gelu", "relu" or "silu".
    output_bias : whether the output layer has a bias.
    output_activation : "tanh", "sigmoid" or "none".
    target : "sdf" regresses tanh((sdf - offset) / sdf_scale), "occupancy" the sign of
        sdf - offset; both are negative inside. "brightness" regresses an image's values, of each
        channel where there are several.
    sdf_scale : distance, in field units, at which the truncated target saturates.
    offset : distance in field units by which the fitted shape is thickened.
    """

    in_dim: Literal[2, 3] = 3
    out_dim: Annotated[int, Ge(1), Le(16)] = 1
    octaves: Annotated[int, Ge(0), Le(10)] = 2
    include_input: bool = True
    frequency: Annotated[float, Gt(0)] = 2 * math.pi
    mirror: Literal[0, 1, 2] | None = None
    hidden: Annotated[tuple[Count, ...], Len(1, 16)] = (16, 16, 16)
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    output_bias: bool = False
    output_activation: Literal["tanh", "sigmoid", "none"] = "tanh"
    target: Literal["sdf", "occupancy", "brightness"] = "sdf"
    sdf_scale: Annotated[float, Gt(0)] = 0.02
    offset: Annotated[float, Ge(-0.05), Le(0.05)] = 0.004

    def __post_init__(self) -> None:
        if self.mirror is not None and self.mirror not in range(self.in_dim):
            raise ValueError(
                f"mirror = {self.mirror}: there are {self.in_dim} coordinates, 0 is the first"
            )
        if self.out_dim != 1 and self.target != "brightness":
            raise ValueError(f"out_dim = {self.out_dim}: target {self.target} is one number")

    @property
    def n_inputs(self) -> int:
        """Width of the encoded input."""
        return self.in_dim * (int(self.include_input) + 2 * self.octaves)

    @property
    def layers(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of each tensor, in flattening order."""
        widths = [self.n_inputs, *self.hidden, self.out_dim]
        named: list[tuple[str, tuple[int, ...]]] = []
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            named.append((f"layers.{i}.weight", (fan_out, fan_in)))
            if i < len(self.hidden) or self.output_bias:
                named.append((f"layers.{i}.bias", (fan_out,)))
        return named

    @property
    def n_weights(self) -> int:
        """Length of the flat weight vector."""
        return sum(math.prod(shape) for _, shape in self.layers)

    @property
    def slices(self) -> list[tuple[str, int, int]]:
        """Name, start and stop of each tensor in the flat weight vector."""
        result, start = [], 0
        for name, shape in self.layers:
            stop = start + math.prod(shape)
            result.append((name, start, stop))
            start = stop
        return result

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Shape of the values at one point: () where there is one output."""
        return () if self.out_dim == 1 else (self.out_dim,)

    def used(self) -> dict:
        """All keys, but `out_dim` where it is 1, as in the files of older releases."""
        values = dataclasses.asdict(self)
        if self.out_dim == 1:
            del values["out_dim"]
        return values

    def to_json(self) -> str:
        """Serialise with sorted keys, so that equal specifications have equal text."""
        return json.dumps(self.used(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "FieldSpec":
        """Rebuild a specification; unknown keys raise InputError."""
        return from_dict(cls, json.loads(text))

    def target_of(self, values: np.ndarray) -> np.ndarray:
        """What the field is trained to be where the signal (distance, brightness) is `values`."""
        if self.target == "brightness":
            return values
        if self.target == "occupancy":
            return np.where(values < self.offset, np.float32(-1), np.float32(1))
        return np.tanh((values - self.offset) / self.sdf_scale)

    def surface_level(self, distance: float = 0.0) -> float:
        """The field's value at a signed distance (field units): undoes `offset` for "sdf".

        An occupancy field knows no distances, so its level set stays at zero.
        """
        if self.target == "occupancy":
            return 0.0
        return math.tanh((distance - self.offset) / self.sdf_scale)


def unflatten(spec: FieldSpec, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Split flat weights [..., W] into named arrays [..., *shape]; a round trip with `flatten`.

    The parts are views.
    """
    return {
        name: weights[..., start:stop].reshape(*weights.shape[:-1], *shape)
        for (name, shape), (_, start, stop) in zip(spec.layers, spec.slices, strict=True)
    }


def flatten(spec: FieldSpec, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Join one field's named arrays into a flat float32 vector [W]."""
    for name, shape in spec.layers:
        if name not in tensors or tensors[name].shape != shape:
            raise InputError(f"field tensor {name} is missing or is not of shape {shape}")
    return np.concatenate([tensors[name].ravel() for name, _ in spec.layers])


def random_weights(spec: FieldSpec, seed: int) -> np.ndarray:
    """Random start of one field, float32 [W]: He-uniform weights, zero biases."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, shape in spec.layers:
        bound = math.sqrt(6 / shape[-1]) if name != spec.layers[-1][0] else shape[-1] ** -0.5
        bound = 0.0 if name.endswith("bias") else bound
        parts.append(rng.uniform(-bound, bound, math.prod(shape)))
    return np.concatenate(parts).astype(np.float32)
