"""Images in: one PNG, or one of many in an array."""

import functools
from pathlib import Path

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.inputs.idx import read_idx
from nefgpt.inputs.listing import DIGITS, IMAGE_SUFFIX


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
