"""Images in: one file, or one of many in an array."""

import functools

import numpy as np

from nefgpt.base.errors import InputError
from nefgpt.inputs.idx import read_idx
from nefgpt.inputs.listing import DIGITS
from nefgpt.inputs.pixels import Picture, laid, read_picture

BACKGROUND = "white"


@functools.lru_cache(maxsize=4)
def _many(name: str) -> np.ndarray:
    """Images float32 [n, H, W] in [0, 1] of an IDX file or of scikit-learn's digits."""
    if name == DIGITS:
        from sklearn.datasets import load_digits

        return (load_digits().images / 16).astype(np.float32)
    images = read_idx(name)
    if images.ndim != 3:
        raise InputError(f"{name} holds no images (shape {images.shape})")
    return images.astype(np.float32) / 255


def pixels_of(
    picture: Picture, source: str, channels: int, background: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pixels of a picture as `read_image` has them, and what was done for that, in words."""
    pixels, done = laid(picture, channels, background), picture.done
    if picture.alpha is not None:
        if np.ptp(picture.alpha) and not np.ptp(pixels.reshape(-1, channels), axis=0).any():
            raise InputError(
                f"cannot read image {source}: nothing of it is seen on {background}; set another "
                "dataset.background"
            )
        done = (*done, f"transparent pixels laid on {background}")
    if channels == 1 and (picture.values != picture.values[..., :1]).any():
        done = (*done, "colours made grey")
    return pixels, done


def image_and_notes(
    source: str, channels: int | None = None, background: str = BACKGROUND
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One image as `read_image` has it, and what was done to the file for that, in words."""
    name, _, number = source.rpartition("#")
    if not (name and number.isdecimal()):  # else a # is part of the file's name
        return pixels_of(read_picture(source), source, channels or 1, background)
    images, index = _many(name), int(number)
    if index >= len(images):
        raise InputError(f"{source}: the file has {len(images)} images")
    return images[index], ()


def read_image(
    source: str, channels: int | None = None, background: str = BACKGROUND
) -> np.ndarray:
    """One image float32 [H, W], or [H, W, 3] of three channels, in [0, 1].

    Parameters
    ----------
    source : an image file, or FILE#NUMBER.
    channels : of an image file: 1 or None for grey, 3 for red, green and blue.
    background : the colour that what is transparent is laid on; a name or "#rrggbb".

    Raises
    ------
    InputError
        naming the file, when it cannot be read.
    """
    return image_and_notes(source, channels, background)[0]
