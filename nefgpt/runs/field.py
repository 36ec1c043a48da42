"""One neural field, to be asked for values, a mesh, an image."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.fields import file, fused
from nefgpt.fields.spec import FieldSpec
from nefgpt.signals.kind import kind_of, name_of
from nefgpt.signals.settings import Extract

if TYPE_CHECKING:
    import trimesh

    from nefgpt.signals.surface import Surface

_NEAREST_ONE = 1 - 1e-6  # float32 cannot tell what is nearer, so distances end here
FINEST = 1024  # samples per axis of a grid: a billion values, four gigabytes
MOST_POINTS = 10**8  # of a surface: more than a gigabyte
SIZES = {"shapes": (8, FINEST), "images": (1, 8192)}  # of a surface's grid, in pixels


def within(name: str, value: int, low: int, high: int) -> None:
    """Refuse a number out of its range, naming it."""
    if not low <= value <= high:
        raise InputError(f"{name} must be in {low} to {high}, got {value}")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NeuralField:
    """A field: a function of points, small enough to be written weight by weight.

    Attributes
    ----------
    spec : what the field is, beside its weights.
    weights : float32 [W].
    name : of the sample, the shape or the file.
    label : the class; None without classes.
    tokens : uint16 [L], the codes it was decoded from; None where there are none.
    coefficients : float32 [k] in the run's basis; None where they are not known.
    record : how it was fitted, and how well; {} for samples.
    extract : how its surface is extracted unless told otherwise.
    size : of its image, (height, width) or (height, width, 3); None for shapes.
    """

    spec: FieldSpec
    weights: np.ndarray
    name: str = "field"
    label: int | None = None
    tokens: np.ndarray | None = None
    coefficients: np.ndarray | None = None
    record: dict = dataclasses.field(default_factory=dict)
    extract: Extract = dataclasses.field(default_factory=Extract)
    size: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        label = "" if self.label is None else f", class {self.label}"
        return f"NeuralField({self.name!r}, {self.signals}, {len(self.weights)} weights{label})"

    @property
    def signals(self) -> str:
        """The kind of signal it holds, "shapes" or "images"."""
        return name_of(self.spec)

    @property
    def quality(self) -> dict[str, float]:
        """How well it keeps the signal it was fitted to: IoU, Chamfer, F-score; PSNR, SSIM."""
        return {k: self.record[k] for k in kind_of(self.spec).QUALITY if k in self.record}

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values at points.

        Parameters
        ----------
        points : float [..., 3] in [-0.5, 0.5]^3 for shapes, [..., 2] in [-1, 1]^2 for images.

        Returns
        -------
        float32 [...], or [..., out_dim] of fields with several outputs. For shapes it is negative
        inside; see `distance`.
        """
        points = np.asarray(points, np.float32)
        if points.shape[-1:] != (self.spec.in_dim,):
            raise InputError(
                f"points of this field have {self.spec.in_dim} coordinates, got shape "
                f"{points.shape}"
            )
        flat = np.ascontiguousarray(points.reshape(-1, self.spec.in_dim))
        found = fused.values(self.spec, self.weights, flat)
        return found.reshape((*points.shape[:-1], *self.spec.signal_shape))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the surface in field units, float32 [...], negative inside.

        The field holds tanh((distance - offset) / sdf_scale), so far from the surface the
        distance comes out smaller than it is: it ends at some 7 times `spec.sdf_scale`.

        Parameters
        ----------
        points : float [..., 3] in [-0.5, 0.5]^3.

        Raises
        ------
        InputError
            when the field is not of signed distances.
        """
        if self.spec.target != "sdf":
            raise InputError(f"{self.name} holds {self.spec.target}, which says no distances")
        values = self(points).clip(-_NEAREST_ONE, _NEAREST_ONE)
        return (self.spec.offset + self.spec.sdf_scale * np.arctanh(values)).astype(np.float32)

    def mesh(self, resolution: int | None = None, level: float | None = None) -> "trimesh.Trimesh":
        """Its surface, closed, in field coordinates (+Y up, the nose of airplanes towards -Z).

        Parameters
        ----------
        resolution : grid samples per axis; the run's when not given.
        level : signed distance, in field units, of the surface; the run's when not given.

        Returns
        -------
        trimesh.Trimesh, without faces where the field is nowhere negative.

        Raises
        ------
        InputError
            when the field holds an image.
        """
        import trimesh

        found = self._surface(resolution, level)
        return trimesh.Trimesh(found.vertices, found.faces, process=False)

    def points(self, n: int = 2048, seed: int = 0, resolution: int | None = None) -> np.ndarray:
        """Points on its surface, uniform by area, float32 [n, 3] in field coordinates.

        Parameters
        ----------
        resolution : of the mesh that they lie on; see `mesh`.

        Raises
        ------
        InputError
            when the field holds an image, or no surface.
        """
        within("n", n, 1, MOST_POINTS)
        found = self._surface(resolution)
        if not found.valid:
            raise InputError(f"{self.name} has no surface to take points from")
        return found.sample(n, seed)

    def grid(self, resolution: int = 64) -> np.ndarray:
        """Its values on a grid over [-0.5, 0.5]^3, corners included.

        Returns
        -------
        float32 [resolution] * 3, indexed x, y, z: signed distances (see `distance`), or the
        field's values where it knows none.
        """
        self._needs("shapes", "grid")
        within("resolution", resolution, 2, FINEST)
        axis = np.linspace(-0.5, 0.5, resolution, dtype=np.float32)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
        return self.distance(points) if self.spec.target == "sdf" else self(points)

    def image(self, size: int | tuple[int, int] | None = None) -> np.ndarray:
        """Its image, float32 [height, width] or [height, width, 3], in [0, 1].

        Parameters
        ----------
        size : pixels of the longer side, or (height, width); the run's images' when not given.

        Raises
        ------
        InputError
            when the field holds a shape, or no size is known.
        """
        from nefgpt.signals.images import render

        self._needs("images", "image")
        if isinstance(size, int):
            height, width = (self.size or (1, 1))[:2]
            longer = max(height, width)
            within("size", size, *SIZES["images"])
            size = max(1, round(size * height / longer)), max(1, round(size * width / longer))
        size = size or self.size
        if size is None:
            raise InputError(f"{self.name} does not say how large its image is: give a size")
        return render(self.spec, self.weights[None], *size[:2])[0]

    def save(self, path: str | Path) -> None:
        """Write it to a file of its own; `nefgpt.load_field` reads it."""
        file.save_field(
            Path(path), self.spec, self.weights, self.record, coefficients=self.coefficients
        )

    def _surface(self, resolution: int | None, level: float | None = None) -> "Surface":
        from nefgpt.signals.surface import surface

        self._needs("shapes", "surface")
        chosen = {"resolution": resolution, "level": level}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        within("resolution", chosen.get("resolution", FINEST), *SIZES["shapes"])
        return surface(self.spec, self.weights, **(vars(self.extract) | chosen))

    def _needs(self, signals: str, what: str) -> None:
        if self.signals != signals:
            raise InputError(f"{self.name} is a field of {self.signals}, which have no {what}")


def load_field(path: str | Path) -> NeuralField:
    """Read a field's file: it holds all that is needed, the run it is from need not be there.

    Parameters
    ----------
    path : .safetensors of a run's `fields/`, or as `NeuralField.save` writes it.

    Raises
    ------
    InputError
        when it cannot be read, was changed after it was written, or its shape was rejected.
    """
    path = Path(path)
    found = file.load_field(path)
    if found.weights is None:
        raise InputError(
            f"{path} holds no field: its input was rejected, {found.record['rejected']}"
        )
    known = found.coefficients
    return NeuralField(found.spec, found.weights, path.stem, None, None, known, found.record)
