"""Images as signals: grayscale brightness over [-1, 1]^2. One of the kinds of `nefgpt.signals`.

x runs to the right and y downwards; points are pixel centres, so that a field can be rendered at
any size.
"""

import argparse
import functools
import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nefgpt import cli, fused
from nefgpt.dataset import DIGITS, IMAGE_SUFFIX
from nefgpt.errors import InputError
from nefgpt.field import FieldSpec
from nefgpt.idx import read_idx
from nefgpt.io import atomic_path, sha256_of, write_json
from nefgpt.signals import Decoded

QUALITY = ("psnr", "ssim")
KEPT = QUALITY
DISTANCE = "(1 − SSIM)/2 ×10²"
FILES = ("images", ".png")
COMPARED = None  # the size of the images
_PSNR_LIMIT = 100.0  # dB; an exact copy would be infinite
_WINDOW = 7  # pixels; the default of scikit-image


@functools.lru_cache(maxsize=4)
def _source(name: str) -> np.ndarray:
    """Images float32 [n, H, W] in [0, 1] of a file or of scikit-learn's digits."""
    if name == DIGITS:
        from sklearn.datasets import load_digits

        return (load_digits().images / 16).astype(np.float32)
    if Path(name).suffix.lower() == IMAGE_SUFFIX:
        from PIL import Image

        try:
            with Image.open(name) as image:
                return np.asarray(image.convert("L"), np.float32)[None] / 255
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read image {name}: {error}") from error
    images = read_idx(name)
    if images.ndim != 3:
        raise InputError(f"{name} holds no images (shape {images.shape})")
    return images.astype(np.float32) / 255


def read_image(source: str) -> np.ndarray:
    """One image float32 [H, W] in [0, 1]; `source` is a PNG file, or FILE#NUMBER."""
    name, _, number = source.rpartition("#")
    images = _source(name if name else source)
    index = int(number) if name else 0
    if index >= len(images):
        raise InputError(f"{source}: the file has {len(images)} images")
    return images[index]


def pixel_centres(height: int, width: int) -> np.ndarray:
    """Points float32 [height * width, 2], row by row, (x, y) in [-1, 1]^2, y downwards."""
    x, y = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


def prepare(sources: dict[str, str], out_dir: Path, manifest: Path) -> None:
    """Write `<shape_id>.npz` of every image, and the files' hashes.

    An image that cannot be read is rejected with its reason.

    Parameters
    ----------
    sources : shape id to PNG file, or FILE#NUMBER.
    """
    hashes = {}
    for shape_id, source in tqdm(sources.items(), desc="images", unit="image", mininterval=1):
        arrays: dict = {"rejected": "", "source_path": source, "sha256": ""}
        arrays |= {"points": np.zeros((0, 2), np.float32), "values": np.zeros(0, np.float32)}
        arrays["size"] = np.zeros(2, np.int64)
        try:
            image = read_image(source)
            arrays["sha256"] = hashlib.sha256(image.tobytes()).hexdigest()
            arrays |= {"points": pixel_centres(*image.shape), "values": image.ravel()}
            arrays["size"] = np.array(image.shape)
        except InputError as error:
            arrays["rejected"] = str(error)
        path = out_dir / f"{shape_id}.npz"
        with atomic_path(path) as temporary:
            np.savez(temporary, **arrays)
        hashes[shape_id] = sha256_of(path)
    write_json(manifest, hashes)


def render(spec: FieldSpec, weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images float32 [F, height, width] in [0, 1] of fields [F, W]."""
    points = pixel_centres(height, width)
    values = np.stack([fused.values(spec, field, points) for field in weights])
    return values.clip(0, 1).reshape(-1, height, width)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], at most 100."""
    error = float(np.square(image - truth).mean())
    return min(_PSNR_LIMIT, -10 * np.log10(error)) if error else _PSNR_LIMIT


def ssim_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of all pairs, float64 [n, m].

    Wang et al. (2004) with uniform windows of 7 pixels (of the image's size where it is smaller),
    sample covariance, K1 = 0.01, K2 = 0.03, data range 1, averaged over all windows inside the
    image, as scikit-image computes it. One matrix product per window compares all pairs.

    Parameters
    ----------
    a, b : float32 [n, H, W] and [m, H, W].
    """
    height, width = a.shape[1:]
    rows, columns = min(_WINDOW, height), min(_WINDOW, width)
    n_pixels = rows * columns
    c1, c2 = 0.01**2, 0.03**2
    sample = n_pixels / max(n_pixels - 1, 1)
    total = np.zeros((len(a), len(b)))

    def patches(images: np.ndarray, y: int, x: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patch = images[:, y : y + rows, x : x + columns].reshape(len(images), -1).astype(np.float64)
        mean = patch.mean(axis=1)
        centred = patch - mean[:, None]
        return centred, mean, sample * np.square(centred).mean(axis=1)

    n_windows = 0
    for y in range(height - rows + 1):
        for x in range(width - columns + 1):
            centred_a, mean_a, variance_a = patches(a, y, x)
            centred_b, mean_b, variance_b = patches(b, y, x)
            covariance = sample * (centred_a @ centred_b.T) / n_pixels
            means = np.outer(mean_a, mean_b)
            squares = np.square(mean_a)[:, None] + np.square(mean_b)
            variances = variance_a[:, None] + variance_b
            total += ((2 * means + c1) * (2 * covariance + c2)) / (
                (squares + c1) * (variances + c2)
            )
            n_windows += 1
    return total / n_windows


def training_rows(n: int) -> np.ndarray:
    """Which of `n` pixels fits may see, bool [n]: all, for an image is nothing but its pixels."""
    return np.ones(n, bool)


def quality(spec: FieldSpec, weights: np.ndarray, signal: dict, resolution: int) -> dict:
    """How well one field [W] keeps its image, at the image's own size: `psnr` (dB) and `ssim`."""
    height, width = signal["size"].tolist()
    found = render(spec, weights[None], height, width)
    truth = signal["values"].reshape(1, height, width)
    return {"psnr": psnr(found, truth), "ssim": float(ssim_matrix(found, truth)[0, 0])}


def real(signal: dict) -> np.ndarray:
    """What the metrics compare of a real image: its pixels, float32 [H, W]."""
    return signal["values"].reshape(signal["size"].tolist())


def distances(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """All pairs of (1 - SSIM)/2; an image of NaN is infinitely far from everything."""
    itself, b = b is None, a if b is None else b
    result = np.full((len(a), len(b)), np.inf)
    rows, columns = (np.flatnonzero(np.isfinite(x).all(axis=(1, 2))) for x in (a, b))
    for start in tqdm(range(0, len(rows), 256), desc="SSIM", unit="tile", mininterval=1):
        some = rows[start : start + 256]
        result[np.ix_(some, columns)] = (1 - ssim_matrix(a[some], b[columns])) / 2
    # Rounding must not make a copy differ from its original, or an image from itself.
    result[result < 1e-9] = 0.0
    if itself:
        np.fill_diagonal(result, 0.0)
    return result


def nearest(a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `b` to each of `a`; see `nefgpt.chamfer.nearest_clouds`."""
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
    settings: dict,
    seed: int,
    size: tuple[int, ...],
    source: Path | None = None,
) -> Decoded:
    """Render one field [W] at `size` = (height, width)."""
    from PIL import Image

    (image,) = render(spec, field[None], *size)
    if not np.isfinite(image).all():
        return Decoded(None, {}, None)
    picture = Image.fromarray(np.rint(255 * image).astype(np.uint8))
    return Decoded(image, {}, picture.save)


def main() -> None:
    """Command line: images to signals."""
    parser = argparse.ArgumentParser(description="Write images as signals for the fits.")
    parser.add_argument("--sources", required=True, help="JSON object: shape id -> file, or @file")
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    args = parser.parse_args()
    prepare(cli.json_argument(args.sources), args.out_dir, args.manifest)
