"""Image files of every mode and depth: what is read is what was written, or one clear message."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nefgpt.base.errors import InputError
from nefgpt.config import load, validate
from nefgpt.inputs.images import image_and_notes, read_image
from nefgpt.inputs.pixels import ORIENTATION, TURNS, read_picture
from nefgpt.inputs.settings import Dataset
from nefgpt.signals import images
from nefgpt.signals.file import load_signal

CASES = Path(__file__).parents[1] / "cases"
LUMA = np.array([0.299, 0.587, 0.114])
PNG_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}  # channels to the colour type of PNG
RNG = np.random.default_rng(0)


def png(pixels: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG file of uint8 or uint16 [H, W, C], written by the book."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    head = struct.pack(">IIBBBBB", width, height, depth, PNG_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    content = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def stored(folder: Path, content: bytes | Image.Image | np.ndarray, name: str, **about) -> str:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        tifffile.imwrite(path, content, **about)
    else:
        content.save(path, **about)
    return str(path)


def over(pixels: np.ndarray, top: float, behind: tuple[float, ...]) -> np.ndarray:
    """What [H, W, 1 to 4] shows before a background, float64 [H, W, 3]."""
    values = pixels / top
    colours = values[..., :1] if values.shape[2] < 3 else values[..., :3]
    alpha = values[..., -1:] if values.shape[2] in (2, 4) else np.ones_like(values[..., :1])
    return alpha * colours + (1 - alpha) * np.array(behind)


@st.composite
def written(draw):
    """Pixels, what is their white, and how they are stored."""
    channels, depth = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([8, 16]))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), channels)
    seed, top = draw(st.integers(0, 2**32 - 1)), 2**depth - 1
    pixels = np.random.default_rng(seed).integers(top + 1, size=shape, dtype=f"u{depth // 8}")
    ways = ["png", "tif", "big.tif", "planar.tif", "lzw.tif", "deflate.tif"]
    return pixels, top, draw(st.sampled_from(ways))


def encode(folder: Path, pixels: np.ndarray, way: str) -> str:
    if way == "png":
        return stored(folder, png(pixels), "a.png")
    channels = pixels.shape[2]
    about = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None}
    if channels in (2, 4):
        about["extrasamples"] = ["unassalpha"]
    if way == "planar.tif" and channels > 1:
        pixels, about["planarconfig"] = np.moveaxis(pixels, -1, 0), "separate"
    elif channels == 1:
        pixels = pixels[..., 0]
    else:
        about["planarconfig"] = "contig"
    about["bigtiff"] = way == "big.tif"
    about["compression"] = {"lzw.tif": "lzw", "deflate.tif": "zlib"}.get(way)
    return stored(folder, pixels, "a.tif", **about)


@given(written(), st.sampled_from([("white", (1, 1, 1)), ("#ff8000", (1, 128 / 255, 0))]))
def test_every_mode_and_depth_comes_back(tmp_path_factory, case, background):
    pixels, top, way = case
    path = encode(tmp_path_factory.mktemp("image"), pixels, way)
    name, behind = background
    expected = over(pixels, top, behind)
    colour = read_image(path, 3, name)
    assert colour.dtype == np.float32 and colour.shape == expected.shape
    np.testing.assert_allclose(colour, expected, atol=2e-6)
    grey = read_image(path, 1, name)
    tolerance = 0.002 if top == 255 and pixels.shape[2] == 3 else 2e-6  # as Pillow, in 8 bits
    np.testing.assert_allclose(grey, expected @ LUMA, atol=tolerance)
    assert grey.dtype == np.float32


@settings(max_examples=150)
@given(
    written(), st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 255)), min_size=1, max_size=4)
)
def test_broken_images_are_read_or_refused_by_name(tmp_path_factory, case, changes):
    pixels, _, way = case
    path = Path(encode(tmp_path_factory.mktemp("image"), pixels, way))
    content = bytearray(path.read_bytes())
    for where, value in changes:  # another byte, or the end
        at = int(where * (len(content) - 1))
        content[at:] = content[at : at + 1] if value < 0 else bytes([value]) + content[at + 1 :]
    path.write_bytes(content)
    try:
        found = read_image(str(path), 3)
    except InputError as error:
        assert str(path) in str(error) and len(str(error)) < 400
    else:
        assert found.dtype == np.float32 and found.shape[2:] == (3,)
        assert 0 <= found.min() and found.max() <= 1


def test_plain_images_of_8_bits_are_to_the_bit_as_pillow_has_them(tmp_path):
    for mode, shape in (("L", (40, 30)), ("RGB", (40, 30, 3))):
        image = Image.fromarray(RNG.integers(256, size=shape, dtype=np.uint8), mode)
        path = stored(tmp_path, image, f"{mode}.png")
        for channels, name in ((1, "L"), (3, "RGB")):
            expected = np.asarray(image.convert(name), np.float32) / 255
            assert read_image(path, channels).tobytes() == expected.tobytes()


def test_the_cases():
    ramp = read_image(str(CASES / "09_ramp16.png"))
    levels = np.round(ramp * 65535)
    np.testing.assert_allclose(ramp * 65535, levels, atol=0.01)
    assert len(np.unique(ramp)) == 16
    black = read_image(str(CASES / "09_black_on_transparent.png"))
    assert black.min() == 0 and black.max() == 1
    assert image_and_notes(str(CASES / "09_black_on_transparent.png"))[1] == (
        "transparent pixels laid on white",
    )


@pytest.mark.parametrize(("channels", "key"), [(1, (700,)), (3, (700, 1, 2))])
def test_one_colour_of_16_bits_may_be_transparent(tmp_path, channels, key):
    pixels = RNG.integers(65536, size=(3, 4, channels), dtype=np.uint16)
    pixels[1, 2] = key
    content = png(pixels, chunk(b"tRNS", struct.pack(f">{channels}H", *key)))
    found = read_image(stored(tmp_path, content, "a.png"), 3, "black")
    expected = over(pixels, 65535, (0, 0, 0))
    expected[1, 2] = 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_one_grey_of_few_bits_may_be_transparent(tmp_path, depth):
    levels = np.arange(8) % 2**depth
    packed = np.packbits((levels[:, None] >> np.arange(depth)[::-1]) & 1).tobytes()
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0))
    content += chunk(b"tRNS", struct.pack(">H", 1)) + chunk(b"IDAT", zlib.compress(b"\0" + packed))
    content = b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")
    found = read_image(stored(tmp_path, content, "a.png"), 1, "#808080")
    expected = np.where(levels == 1, 128 / 255, levels / (2**depth - 1))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_palettes_bits_and_inks(tmp_path):
    pixels = RNG.integers(4, size=(5, 6), dtype=np.uint8)
    palette = Image.fromarray(pixels, "P")
    colours = RNG.integers(256, size=(4, 3), dtype=np.uint8)
    palette.putpalette(colours.tobytes())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        path = stored(tmp_path, palette, name)
        np.testing.assert_allclose(read_image(path, 3), colours[pixels] / 255, atol=1e-6)
    path = stored(tmp_path, palette, "t.png", transparency=bytes([0, 100, 255, 255]))
    alpha = np.array([0, 100, 255, 255])[pixels][..., None]
    expected = over(np.concatenate([colours[pixels], alpha], 2), 255, (0, 0, 0))
    np.testing.assert_allclose(read_image(path, 3, "black"), expected, atol=1e-6)
    path = stored(tmp_path, palette, "t.gif", transparency=2)
    assert (read_image(path, 1, "#808080")[pixels == 2] == np.float32(128 / 255)).all()
    bits = pixels > 1
    for name in ("b.png", "b.tif", "b.bmp"):
        np.testing.assert_array_equal(
            read_image(stored(tmp_path, Image.fromarray(bits), name)), bits.astype(np.float32)
        )
    inks = Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], np.uint8), "CMYK")  # red
    for name in ("c.jpg", "c.tif"):
        found, notes = image_and_notes(stored(tmp_path, inks, name), 3)
        np.testing.assert_allclose(found, np.broadcast_to([1.0, 0, 0], (8, 8, 3)), atol=0.02)
        assert notes == ("CMYK turned into RGB, without its colour profile",)
    deep = np.full((3, 3, 4), [0, 65535, 65535, 0], np.uint16)
    path = stored(tmp_path, deep, "d.tif", photometric="separated")
    np.testing.assert_allclose(read_image(path, 3), np.broadcast_to([1.0, 0, 0], (3, 3, 3)))


@pytest.mark.parametrize("name", ["a.webp", "a.jpeg", "a.TIFF", "a.gif", "a.bmp"])
def test_other_formats_are_read(tmp_path, name):
    image = Image.fromarray(np.full((8, 9), 200, np.uint8))
    found = read_image(stored(tmp_path, image, name))
    np.testing.assert_allclose(found, np.full((8, 9), 200 / 255), atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8], pixels[:8, 16:] = [255, 0, 0], [0, 0, 255]
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = image.copy()
    upright.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright)) / 255
    deep = (pixels * np.uint16(257)).astype(np.uint16)
    about = {"photometric": "rgb", "extratags": [(ORIENTATION, "H", 1, orientation, True)]}
    content = png(deep, chunk(b"eXIf", exif.tobytes()[6:]))
    paths = [stored(tmp_path, image, name, exif=exif) for name in ("a.jpg", "a.png", "a.webp")]
    paths += [stored(tmp_path, p, f"{p.dtype}.tif", **about) for p in (pixels, deep)]
    for path in [*paths, stored(tmp_path, content, "deep.png")]:
        found, notes = image_and_notes(path, 3)
        assert found.shape == expected.shape, path
        assert np.abs(found - expected).mean() < (0.03 if "/a." in path else 1e-6)  # lossy ones
        turned = [f"{TURNS[orientation][0]}, as its EXIF says"] if orientation > 1 else []
        assert [note for note in notes if "EXIF" in note] == turned, path


def test_modes_are_said_in_words(tmp_path):
    colours = Image.fromarray(RNG.integers(256, size=(4, 4, 4), dtype=np.uint8), "RGBA")
    for mode, name, words in (
        ("1", "a.png", "1-bit black and white"),
        ("L", "a.png", "8-bit grey"),
        ("LA", "a.png", "8-bit grey with alpha"),
        ("P", "a.gif", "8-bit palette"),
        ("RGBA", "a.png", "8-bit colour with alpha"),
        ("CMYK", "a.tif", "8-bit CMYK"),
        ("I;16", "a.png", "16-bit grey"),
    ):
        image = colours.convert("L").convert(mode) if mode == "I;16" else colours.convert(mode)
        assert read_picture(stored(tmp_path, image, name)).mode == words
    path = stored(tmp_path, colours.convert("RGB"), "b.png")
    assert image_and_notes(path, 3)[1] == () and image_and_notes(path, 1)[1] == (
        "colours made grey",
    )


def test_zero_may_be_white_and_alpha_within_the_colours(tmp_path):
    deep = RNG.integers(65536, size=(3, 4), dtype=np.uint16)
    path = stored(tmp_path, deep, "a.tif", photometric="miniswhite")
    np.testing.assert_allclose(read_image(path), 1 - deep / 65535, atol=1e-6)
    alpha = np.array([[0, 1], [2, 4]]) * 16000
    pixels = np.dstack([alpha // 2, alpha // 4, alpha, alpha]).astype(np.uint16)
    about = {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    path = stored(tmp_path, pixels, "b.tif", **about)
    expected = pixels[..., :3] / 65535 + 1 - alpha[..., None] / 65535
    np.testing.assert_allclose(read_image(path, 3), expected, atol=1e-5)


def test_floats_are_taken_between_nought_and_one(tmp_path):
    values = RNG.random((4, 5)).astype(np.float32)
    np.testing.assert_array_equal(read_image(stored(tmp_path, values, "a.tif")), values)


def broken(folder: Path) -> dict[str, tuple[str, str]]:
    """Files that cannot be used, and what is said of each."""
    grey = RNG.integers(256, size=(40, 40, 1), dtype=np.uint8)
    frames = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in (0, 255)]
    several = {"save_all": True, "append_images": frames[1:]}
    jpeg, webp = io.BytesIO(), io.BytesIO()
    Image.fromarray(grey[..., 0]).save(jpeg, "JPEG")
    Image.fromarray(grey[..., 0]).save(webp, "WEBP", lossless=True)
    whole = Path(stored(folder, grey[..., 0].astype(np.uint16), "whole.tif")).read_bytes()
    wide = np.linspace(-3, 812.5, 16, dtype=np.float32).reshape(4, 4)
    made = {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"hello", "not an image"),
        "cut.png": (png(grey)[:-200], "truncated|broken"),
        "cut16.png": (png(grey.astype(np.uint16) * 257)[:-200], "truncated|broken"),
        "cut.jpg": (jpeg.getvalue()[:-200], "truncated"),
        "cut.webp": (webp.getvalue()[:-200], "cannot read"),
        "cut.tif": (whole[: len(whole) // 2], "cannot read"),
        "nan.tif": (np.full((4, 4), np.nan, np.float32), "NaN or infinite pixels"),
        "wide.tif": (wide, "values from -3 to 812"),
        "signed.tif": (np.zeros((4, 4), np.int16), "integers without a known white"),
        "labels.tif": (np.zeros((4, 4), np.uint32), "integers without a known white"),
        "stack.tif": (np.zeros((3, 4, 4), np.uint16), "3 pages"),
    }
    paths = {}
    for name, (content, message) in made.items():
        about = {"photometric": "minisblack"} if isinstance(content, np.ndarray) else {}
        paths[name] = (stored(folder, content, name, **about), message)
    for name, message in (("a.gif", "2 frames"), ("b.webp", "2 frames"), ("c.png", "2 frames")):
        paths[name] = (stored(folder, frames[0], name, **several), message)
    slices = {"volumetric": True, "tile": (1, 16, 16), "photometric": "minisblack"}
    several_slices = stored(folder, np.zeros((3, 4, 4), np.uint8), "slices.tif", **slices)
    paths["slices.tif"] = (several_slices, "3 slices")
    paths["d.tif"] = (stored(folder, frames[0], "d.tif", **several), "2 pages")
    return paths | {"none.png": (str(folder / "none.png"), "there is no such file")}


def test_what_cannot_be_used_is_named_in_one_line(tmp_path):
    for path, message in broken(tmp_path).values():
        with pytest.raises(InputError, match=message) as error:
            read_picture(path)
        assert path in str(error.value) and "\n" not in str(error.value)


def test_what_its_background_hides_is_no_image(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., :3], pixels[1:3, 1:3, 3] = 255, 255
    path = stored(tmp_path, Image.fromarray(pixels), "white on nothing.png")
    with pytest.raises(InputError, match=r"seen on white; set another dataset\.background"):
        read_image(path)
    assert read_image(path, 1, "black").sum() == 4
    assert (read_image(stored(tmp_path, Image.new("L", (4, 4), 255), "white.png")) == 1).all()


def test_the_log_says_what_was_done_and_left_out(tmp_path, caplog):
    caplog.set_level("INFO")
    names = ("09_ramp16", "09_black_on_transparent")
    sources = {name[:4]: str(CASES / f"{name}.png") for name in names}
    sources["gone"] = str(tmp_path / "gone.png")
    images.prepare(sources, tmp_path, tmp_path / "p.json", 1, "#808080")
    assert "left out gone: cannot read image" in caplog.text
    assert "1 of 3 images: transparent pixels laid on #808080" in caplog.text
    assert "1 of 3 images: 16 bits scaled, all levels kept" in caplog.text
    assert load_signal(tmp_path / "09_b.npz")["values"].max() == np.float32(128 / 255)
    assert json.loads((tmp_path / "p.json").read_text()).keys() == sources.keys()


@pytest.mark.parametrize("value", ["whit", "#12", "", "#ff000080"])
def test_a_background_is_a_colour(value):
    with pytest.raises(ValueError):
        Dataset(kind="images", root=".", background=value)
    values = {"name": "x", "dataset": {"kind": "images", "root": ".", "background": None}}
    full = load(Path(__file__).parents[2] / "config/digits.yaml")
    with pytest.raises(InputError, match="quote a colour"):
        validate(vars(full) | values)
