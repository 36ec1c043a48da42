"""One image file to pixels: every mode and depth, and what was done to it on the way."""

import dataclasses
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nefgpt.base.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

# It tells of every odd tag of a broken file; what cannot be read is said once, by name.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
EXPANSION = 100_000  # times its file's size: more than compression gives
PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF's and TIFF's number for how the picture has to be turned
WORDS = {"1": "black and white", "L": "grey", "RGB": "colour", "P": "palette"}
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it
# EXIF's orientations as Pillow's `exif_transpose` takes them.
TURNS: dict[int, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    2: ("mirrored", lambda a: a[:, ::-1]),
    3: ("turned by 180°", lambda a: a[::-1, ::-1]),
    4: ("mirrored upside down", lambda a: a[::-1]),
    5: ("mirrored along its diagonal", lambda a: a.swapaxes(0, 1)),
    6: ("turned clockwise", lambda a: np.rot90(a, -1)),
    7: ("mirrored along its other diagonal", lambda a: np.rot90(a, 2).swapaxes(0, 1)),
    8: ("turned counter-clockwise", lambda a: np.rot90(a)),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """What an image file holds.

    Attributes
    ----------
    values : [H, W, C] of 1 (grey) or 3 (red, green, blue) channels; uint8, or float32 in [0, 1].
    alpha : float32 [H, W] in [0, 1], 0 where it is transparent; None when it is nowhere.
    format : of the file, as "PNG".
    mode : the channels that the file has, and their depth, in words.
    bits : of each channel.
    done : what was done to come here, in words.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    format: str
    mode: str
    bits: int
    done: tuple[str, ...] = ()


def _one_frame(n: int, what: str) -> None:
    if n > 1:
        raise ValueError(f"it has {n} {what}; store the one that is meant as a file of its own")


def _of_pillow(image: "Image.Image", bits: int) -> Picture:
    """An image of at most 8 bits a channel."""
    from PIL import ImageOps

    kind, mode, done = image.format or "", image.mode, []
    if kind == "MPO":
        done.append("the first of its pictures is taken")  # the others are for 3D displays
    else:
        _one_frame(getattr(image, "n_frames", 1), "pages" if kind == "TIFF" else "frames")
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    image.load()
    image = ImageOps.exif_transpose(image)
    if turn:
        done.append(f"{turn[0]}, as its EXIF says")
    if mode in ("I", "F") or mode.startswith("I;"):
        raise ValueError(f"it holds numbers without a known white (mode {mode})")
    if mode in ("CMYK", "LAB"):
        done.append(f"{mode} turned into RGB, without its colour profile")
    bare = mode.removesuffix("A").removesuffix("a")  # LA, PA, RGBA, and with premultiplied alpha
    grey, words, alpha = bare in ("1", "L"), WORDS.get(bare, bare), None
    if mode == "L" and bits in (2, 4) and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= 255 // (2**bits - 1)  # Pillow scales the pixels alone
    if image.has_transparency_data:
        whole = np.asarray(image.convert("RGBA"))
        values, alpha = whole[..., :1] if grey else whole[..., :3], whole[..., 3]
        alpha = None if (alpha == 255).all() else alpha.astype(np.float32) / 255
        words += " with alpha"
    else:
        values = np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))
    return Picture(values, alpha, kind, f"{bits}-bit {words}", bits, tuple(done))


def _deep_png(content: bytes, image: "Image.Image") -> Picture:
    """A PNG file of 16 bits a channel; of colours Pillow keeps the upper 8 alone."""
    import imagecodecs

    _one_frame(getattr(image, "n_frames", 1), "frames")
    image.load()  # which raises when the file is cut
    key, turn = image.info.get("transparency"), image.getexif().get(ORIENTATION, 1)
    values = np.atleast_3d(imagecodecs.png_decode(content))
    alpha = None
    if values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1] / np.float32(65535)
    elif key is not None:  # one colour that is transparent
        alpha = (values != np.reshape(key, -1)).any(axis=2).astype(np.float32)
    return _deep(values, 65535, alpha, "PNG", 16, turn)


def _deep(
    values: np.ndarray, top: int, alpha: np.ndarray | None, kind: str, bits: int, orientation: int
) -> Picture:
    """A picture of any depth, white at `top`."""
    done = [f"{bits} bits scaled, all levels kept"] if top > 255 else []
    words = {1: "grey", 3: "colour"}[values.shape[2]] + " with alpha" * (alpha is not None)
    if turn := TURNS.get(orientation):
        done.insert(0, f"{turn[0]}, as its EXIF says")
        values, alpha = turn[1](values), alpha if alpha is None else turn[1](alpha)
    if alpha is not None and (alpha == 1).all():
        alpha = None
    values = (values / np.float32(top)).astype(np.float32)
    return Picture(values, alpha, kind, f"{bits}-bit {words}", bits, tuple(done))


def _deep_tiff(page) -> Picture:
    """A TIFF page of other numbers than 8-bit ones, or of one plane a channel."""
    bits, turn = page.bitspersample, page.tags.valueof(ORIENTATION, 1)
    if page.sampleformat == 2 or (page.sampleformat == 1 and bits > 16):
        raise ValueError(f"it holds {bits}-bit integers without a known white; use 8 or 16 bits")
    values = page.asarray()
    if page.axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if page.axes.strip("S") != "YX":
        raise ValueError(f"it has the axes {page.axes}; an image has two")
    values = np.atleast_3d(values)
    top = 2**bits - 1
    if page.sampleformat == 3:
        top = 1
        if not np.isfinite(values).all():
            raise ValueError("it has NaN or infinite pixels")
        if values.min() < 0 or values.max() > 1:
            low, high = values.min(), values.max()
            raise ValueError(f"it holds values from {low:g} to {high:g}; scale them to [0, 1]")
    colours, alpha = values.shape[2] - len(page.extrasamples), None
    more = [i for i, kind in enumerate(page.extrasamples) if kind in (1, 2)]
    if more:
        alpha = (values[..., colours + more[0]] / np.float32(top)).astype(np.float32)
    values = values[..., :colours]
    if page.photometric == 0:  # its zero is white
        values = top - values
    elif page.photometric == 5 and colours == 4:  # inks, which darken each other
        inks = values / np.float32(top)
        values = top * (1 - inks[..., :3]) * (1 - inks[..., 3:])
    elif page.photometric not in (1, 2):
        raise ValueError(f"it is {bits}-bit {page.photometric.name}; store it as grey or RGB")
    if more and page.extrasamples[more[0]] == 1:  # the alpha is in the colours already
        nothing = np.zeros(values.shape, np.float32)
        shown = np.divide(values, alpha[..., None], out=nothing, where=alpha[..., None] > 0)
        values = shown.clip(0, top)
    return _deep(values, top, alpha, "TIFF", bits, turn)


def _of_tiff(path: Path) -> Picture | None:
    """A TIFF file that Pillow would not read whole; None for one that it does."""
    import tifffile
    from PIL import Image

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        size = page.imagewidth * page.imagelength
        if size > Image.MAX_IMAGE_PIXELS or page.nbytes > EXPANSION * path.stat().st_size:
            raise ValueError(f"it claims {page.imagewidth} x {page.imagelength} pixels")
        _one_frame(page.imagedepth, "slices")
        if not size or not all(page.databytecounts):
            raise ValueError("parts of it are missing")
        _one_frame(sum(not page.is_reduced and not page.is_mask for page in file.pages), "pages")
        if page.bitspersample > 8 or page.sampleformat != 1 or page.planarconfig == 2:
            return _deep_tiff(page)
    return None


def read_picture(path: str | Path) -> Picture:
    """Read one image file.

    Raises
    ------
    InputError
        naming the file, when it is missing, empty, cut, no image, animated, or holds numbers
        whose white nobody knows.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"cannot read image {path}: there is no such file")
    try:
        with path.open("rb") as stream:
            head = stream.read(32)
    except OSError as error:
        raise InputError(f"cannot read image {path}: {error.strerror}") from error
    if not head:
        raise InputError(f"cannot read image {path}: the file is empty")
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; pixels are checked
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if head[:4] in TIFF and (picture := _of_tiff(path)):
                return picture
            with Image.open(path) as image:
                if head[:8] == PNG and head[24] == 16:
                    return _deep_png(path.read_bytes(), image)
                bits = head[24] if head[:8] == PNG else 1 if image.mode == "1" else 8
                return _of_pillow(image, bits)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read image {path}: it is not an image, or broken") from error
    # The decoders raise whatever their broken input leads to; each is the file's fault here.
    except Exception as error:
        said = isinstance(error, OSError | ValueError | RuntimeError | Image.DecompressionBombError)
        reason = str(error) if said else f"it is broken, {error!r}"
        raise InputError(f"cannot read image {path}: {reason:.200}") from error


def colour(name: str) -> np.ndarray:
    """Red, green and blue, float32 [3] in [0, 1], of a name or "#rrggbb".

    Raises
    ------
    ValueError
        for what is no colour, or a transparent one.
    """
    from PIL import ImageColor

    found = ImageColor.getrgb(name)
    if len(found) != 3:
        raise ValueError(f"{name!r} is transparent itself")
    return np.array(found, np.float32) / 255


def laid(picture: Picture, channels: int, background: str) -> np.ndarray:
    """Pixels float32 [H, W], or [H, W, 3] of three channels, laid on `background`."""
    values, alpha = picture.values, picture.alpha
    if channels == 1 and values.dtype == np.uint8 and values.shape[2] == 3 and alpha is None:
        # To the bit as Pillow makes colours grey.
        weighted = values.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((weighted + 0x8000) >> 16).astype(np.float32) / 255
    if values.dtype == np.uint8:
        values = values.astype(np.float32) / 255
    if alpha is not None:
        behind = colour(background)
        behind = behind[:1] if (behind == behind[0]).all() else behind
        values = alpha[..., None] * values + (1 - alpha[..., None]) * behind
    if channels == 3:
        return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)), np.float32)
    values = values[..., 0] if values.shape[2] == 1 else values @ LUMA
    return np.ascontiguousarray(values, np.float32)
