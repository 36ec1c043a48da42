"""How signals are sampled, and fields turned back into them: the blocks `sdf` and `extract`."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from nefgpt.base.settings import Share, settings


@settings
class Sampling:
    """How the signed distance of a mesh is sampled; lengths in field units."""

    backend: Literal["libigl", "mesh_to_sdf"] = "libigl"
    method: Literal["scan", "sample"] = "scan"
    n_uniform: Annotated[int, Ge(1000), Le(10**9)] = 100_000
    n_near: Annotated[int, Ge(1000), Le(10**9)] = 100_000
    sigma: Annotated[float, Gt(0), Le(0.2)] = 0.01
    extent: Annotated[float, Gt(0), Le(1)] = 0.9

    def used(self) -> dict:
        """What clouds depend on: libigl knows no methods."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Sampling)}
        if self.backend == "libigl":
            del values["method"]
        return values


@settings
class Sdf(Sampling):
    """Point clouds with signed distances."""

    # A pack's ids and paths are one argument of a shell command, which ends at 128 KiB.
    shapes_per_job: Annotated[int, Ge(1), Le(200)] = 16


@settings
class Extract:
    """How a surface is extracted; images need no settings."""

    resolution: Annotated[int, Ge(16), Le(1024)] = 96
    level: Annotated[float, Ge(-0.05), Le(0.05)] = 0.0
    min_component: Share = 0.0
