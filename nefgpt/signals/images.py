"""Images as signals: brightness over [-1, 1]^2, of one channel or three. A kind of signal.

x runs to the right and y downwards; points are pixel centres, so that a field can be rendered at
any size.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt.base import cli
from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path, sha256_of, write_json
from nefgpt.fields import fused
from nefgpt.fields.spec import FieldSpec
from nefgpt.inputs.images import read_image
from nefgpt.signals.file import load_signal
from nefgpt.signals.kind import Decoded, Measure, Shown, usable
from nefgpt.signals.settings import Extract
from nefgpt.signals.similarity import psnr, ssim_matrix

QUALITY = {"psnr": Measure("PSNR (dB)", 0.05), "ssim": Measure("SSIM", 0.05)}
KEPT = tuple(QUALITY)
COMPARED = None  # the size of the images
DISTANCE = "(1 − SSIM)/2"
SIDE = 98  # twelve times the 8 pixels of a digit, and its frame
_FRAME = 0xDA


def pixel_centres(height: int, width: int) -> np.ndarray:
    """Points float32 [height * width, 2], row by row, (x, y) in [-1, 1]^2, y downwards."""
    x, y = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def prepare(
    sources: dict[str, str], out_dir: Path, manifest: Path, channels: int | None = None
) -> None:
    """Write `<shape_id>.npz` of every image, and the files' hashes.

    An image that cannot be read is rejected with its reason.

    Parameters
    ----------
    sources : shape id to PNG file, or FILE#NUMBER.
    channels : see `nefgpt.inputs.images.read_image`.
    """
    hashes = {}
    for shape_id, source in tqdm(sources.items(), desc="images", unit="image", mininterval=1):
        arrays: dict = {"rejected": "", "source_path": source, "sha256": ""}
        arrays |= {"points": np.zeros((0, 2), np.float32), "values": np.zeros(0, np.float32)}
        arrays["size"] = np.zeros(2, np.int64)
        try:
            image = read_image(source, channels)
            arrays["sha256"] = hashlib.sha256(image.tobytes()).hexdigest()
            arrays["points"] = pixel_centres(*image.shape[:2])
            arrays["values"] = image.reshape(-1, *image.shape[2:])
            arrays["size"] = np.array(image.shape)
        except InputError as error:
            arrays["rejected"] = str(error)
        path = out_dir / f"{shape_id}.npz"
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)
        hashes[shape_id] = sha256_of(path)
    write_json(manifest, hashes)


def render(spec: FieldSpec, weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images float32 [F, height, width(, 3)] in [0, 1] of fields [F, W]."""
    points = pixel_centres(height, width)
    values = np.stack([fused.values(spec, field, points) for field in weights])
    return values.clip(0, 1).reshape(-1, height, width, *spec.signal_shape)


def training_rows(n: int) -> np.ndarray:
    """Which of `n` pixels fits may see, bool [n]: all, for an image is nothing but its pixels."""
    return np.ones(n, bool)


def quality(spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
    """How well one field [W] keeps its image, at the image's own size: `psnr` (dB) and `ssim`."""
    truth = real(signal)[None]
    found = render(spec, weights[None], *truth.shape[1:3])
    return {"psnr": psnr(found, truth), "ssim": float(ssim_matrix(found, truth)[0, 0])}


def real(signal: dict, normalisation: str = "shape") -> np.ndarray:
    """What the metrics compare of a real image: its pixels, float32 [H, W(, 3)]."""
    return signal["values"].reshape(signal["size"].tolist())


def distances(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of (1 - SSIM)/2; an image of NaN is infinitely far from everything."""
    itself, b = b is None, a if b is None else b
    result = np.full((len(a), len(b)), np.inf)
    rows, columns = (np.flatnonzero(usable(x)) for x in (a, b))
    for start in tqdm(range(0, len(rows), 256), desc="SSIM", unit="tile", mininterval=1):
        some = rows[start : start + 256]
        result[np.ix_(some, columns)] = (1 - ssim_matrix(a[some], b[columns])) / 2
    # Rounding must not make a copy differ from its original, or an image from itself.
    result[result < 1e-9] = 0.0
    if itself:
        np.fill_diagonal(result, 0.0)
    return result


def nearest(a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `b` to each of `a`; see `nefgpt.signals.chamfer.nearest_clouds`."""
    found, apart = [], []
    for tile in np.array_split(a, -(-len(a) // 256)):
        matrix = distances(tile, b)
        order = np.argsort(matrix, axis=1, kind="stable")[:, :k]
        found.append(np.where(np.isfinite(matrix).any(axis=1)[:, None], order, -1))
        apart.append(np.take_along_axis(matrix, order, axis=1))
    return np.concatenate(found), np.concatenate(apart)


def decode(
    spec: FieldSpec,
    field: np.ndarray,
    settings: Extract,
    seed: int,
    size: tuple[int, ...],
    source: Path | None = None,
    normalisation: str = "shape",
) -> Decoded:
    """Render one field [W] at `size` = (height, width(, 3))."""
    from PIL import Image

    (image,) = render(spec, field[None], *size[:2])
    if not np.isfinite(image).all():
        return Decoded(None, {}, None)
    picture = Image.fromarray(np.rint(255 * image).astype(np.uint8))
    return Decoded(image, {}, picture.save)


def read_decoded(path: Path) -> np.ndarray:
    """An image that `decode` saved, float32 [H, W] or [H, W, 3] in [0, 1]."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image, np.float32) / 255
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot read image {path}: {error}; delete it and run again") from error


def picture(image: np.ndarray, size: int) -> np.ndarray:
    """One image [H, W], in black on white, or [H, W, 3], in a thin frame.

    Pixels stay squares of equal size where there are fewer than `size` of them.

    Returns
    -------
    RGBA, uint8 [size, size, 4].
    """
    from PIL import Image

    pixels = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(255 - pixels[..., None], 3, axis=2)
    height, width = pixels.shape[:2]
    times = (size - 2) / max(height, width)
    times = int(times) if times > 1 else times
    shape = [max(1, round(n * times)) for n in (width, height)]
    way = Image.Resampling.NEAREST if times >= 1 else Image.Resampling.BOX
    pixels = np.asarray(Image.fromarray(pixels).resize(shape, way))
    framed = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=_FRAME)
    canvas = np.zeros((size, size, 4), np.uint8)
    top, left = ((size - n) // 2 for n in framed.shape[:2])
    spot = canvas[top : top + framed.shape[0], left : left + framed.shape[1]]
    spot[..., :3], spot[..., 3] = framed, 255
    return canvas


def pictures(shown: Sequence[Shown], size: int) -> list[np.ndarray | None]:
    """Pictures of images, RGBA uint8 [size, size, 4] each; None for those that are not there."""
    found: list[np.ndarray | None] = []
    for one in shown:
        if one.decoded is None:
            found.append(picture(real(load_signal(one.signal)), size))
        elif one.decoded.is_file():
            found.append(picture(read_decoded(one.decoded), size))
        else:
            found.append(None)
    return found


def main() -> None:
    """Command line: images to signals."""
    parser = argparse.ArgumentParser(description="Write images as signals for the fits.")
    parser.add_argument("--sources", required=True, help="JSON object: shape id -> file, or @file")
    parser.add_argument("--channels", type=int, choices=[1, 3], help="of PNG files of any mode")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()
    prepare(cli.json_argument(args.sources), args.out_dir, args.manifest, args.channels)
