"""Images in: one PNG, or one of many in an array."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.inputs.idx import read_idx
from nefgpt.inputs.listing import DIGITS, IMAGE_SUFFIX

if TYPE_CHECKING:
    from PIL import Image


def _pixels(image: "Image.Image", channels: int | None) -> np.ndarray:
    """Pixels of one PNG; see `read_image`."""
    if channels is None:
        return np.asarray(image.convert("L"), np.float32) / 255
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        grey = np.asarray(image, np.float32) / 65535
        return grey if channels == 1 else np.repeat(grey[..., None], channels, axis=2)
    from PIL import Image

    whole = image.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
    return np.asarray(whole.convert("L" if channels == 1 else "RGB"), np.float32) / 255


@functools.lru_cache(maxsize=4)
def _source(name: str, channels: int | None) -> np.ndarray:
    """Images float32 [n, H, W(, 3)] in [0, 1] of a file or of scikit-learn's digits."""
    if name == DIGITS:
        from sklearn.datasets import load_digits

        return (load_digits().images / 16).astype(np.float32)
    if Path(name).suffix.lower() == IMAGE_SUFFIX:
        from PIL import Image

        try:
            with Image.open(name) as image:
                return _pixels(image, channels)[None]
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read image {name}: {error}") from error
    images = read_idx(name)
    if images.ndim != 3:
        raise InputError(f"{name} holds no images (shape {images.shape})")
    return images.astype(np.float32) / 255


def read_image(source: str, channels: int | None = None) -> np.ndarray:
    """One image float32 [H, W], or [H, W, 3] of three channels, in [0, 1].

    Parameters
    ----------
    source : a PNG file, or FILE#NUMBER.
    channels : of a PNG file: 1 for grayscale, 3 for red, green and blue. What is transparent is
        laid on white, and 16 bits are scaled. None for the grayscale files of 8 bits that stand
        in for MNIST.

    Raises
    ------
    InputError
        naming the file, when it cannot be read.
    """
    name, _, number = source.rpartition("#")
    of_many = bool(name) and number.isdecimal()  # else a # is part of the file's name
    images = _source(name if of_many else source, channels)
    index = int(number) if of_many else 0
    if index >= len(images):
        raise InputError(f"{source}: the file has {len(images)} images")
    return images[index]
