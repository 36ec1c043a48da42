"""What a run would make of a mesh or an image: the first thing to ask for when one does not work.

Nothing of a run is read or written.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from nefgpt.base.errors import InputError
from nefgpt.base.files import atomic_path
from nefgpt.base.settings import settings
from nefgpt.inputs.folders import below, folder_of, resolved
from nefgpt.inputs.images import BACKGROUND, pixels_of
from nefgpt.inputs.listing import IMAGE_SUFFIXES, SUFFIXES, safe_id
from nefgpt.inputs.pixels import colour, read_picture
from nefgpt.inputs.settings import Frame
from nefgpt.signals.settings import Sampling

if TYPE_CHECKING:
    import trimesh

EXAMPLES = """\
examples:
  nefgpt inspect airplane.obj
  nefgpt inspect meshes --out pictures
  nefgpt inspect scan.stl --up +z --forward +y --out pictures
  nefgpt inspect digit.png photo.jpg --channels 1 --background grey
  nefgpt inspect meshes digit.png --json
"""
SAMPLING = Sampling(n_uniform=20_000, n_near=8_000)
# Lengths that things have, for the guess of a unit, in metres.
_UNITS = ((1.0, "metres"), (1e-3, "millimetres"), (1e-2, "centimetres"))
_THINGS = 0.02, 200.0


@settings
class Settings:
    """How inputs are looked at; the keys of the same names in a configuration."""

    frame: Frame = Frame()
    channels: int = 3
    background: str = BACKGROUND


def length(metres: float) -> str:
    """A length for people, in the unit that suits it."""
    for unit, name in ((1e3, "km"), (1.0, "m"), (1e-2, "cm")):
        if metres >= unit:
            return f"{metres / unit:.3g} {name}"
    return f"{metres * 1e3:.3g} mm"


def unit_guess(extent: float) -> str:
    """What unit a mesh may be in, by its longest side; it makes no difference to a run."""
    if 0.45 <= extent <= 2.05:
        return f"normalised, or {length(extent)} if in metres"
    fit = [(unit, name) for unit, name in _UNITS if _THINGS[0] <= extent * unit <= _THINGS[1]]
    if not fit:
        return "no common unit"
    return ", ".join(f"{length(extent * unit)} if in {name}" for unit, name in fit[:2])


def of_mesh(path: Path, wanted: Settings, out: Path | None = None) -> dict:
    """What is read from a mesh file and what would be fitted; with `out` a picture is drawn.

    A mesh that encloses nothing has its `reason` among the facts.

    Raises
    ------
    InputError
        naming the file, when it cannot be read.
    """
    from nefgpt.inputs import meshes
    from nefgpt.signals import sdf, table

    read = meshes.read_mesh(path, wanted.frame)
    mesh = read.mesh
    center, scale = meshes.normalise(mesh.vertices, SAMPLING.extent)
    extents = np.ptp(mesh.vertices, axis=0)
    about = {
        "format": read.format,
        "parts": read.parts,
        "vertices": read.n_vertices,
        "polygons": read.n_polygons,
        "triangles": len(mesh.faces),
        "pieces": int(mesh.body_count),
        "watertight": bool(mesh.is_watertight),
        "oriented": bool(mesh.is_winding_consistent),
        "extent": extents.tolist(),
        "center": center.tolist(),
        "unit": unit_guess(float(extents.max())),
        "scale": scale,
        "done": list(read.notes),
        "doubts": [],
    }
    inner = np.zeros((0, 3))
    try:
        cloud = sdf.sample_sdf(mesh, SAMPLING, seed=0)
    except InputError as error:
        about["reason"] = str(error)
    else:
        inner = cloud["points"][cloud["sdf"] < 0]
        about |= {
            "inside": float(cloud["inside"]),
            "sign_agreement": float(cloud["sign_agreement"]),
            "asymmetry": cloud["asymmetry"].tolist(),
            "thin": float(cloud["thin"].mean()),
            "cells": cloud["cells"].tolist(),
        }
        if about["sign_agreement"] < table.DOUBTFUL:
            about["doubts"].append("inside and outside are doubtful: see the slices")
    if out:
        _draw(mesh, center, scale, inner, out)
    return about


def _draw(
    mesh: "trimesh.Trimesh", center: np.ndarray, scale: float, inner: np.ndarray, out: Path
) -> None:
    import trimesh

    from nefgpt.signals import portraits, sdf

    scaled = trimesh.Trimesh((mesh.vertices - center) * scale, mesh.faces, process=False)
    page = portraits.of_mesh(scaled, lambda at: sdf.signed_distance(scaled, at), inner)
    with atomic_path(out) as temporary:
        page.save(temporary)


def of_image(path: Path, wanted: Settings, out: Path | None = None) -> dict:
    """What is read from an image file; with `out` a picture is drawn.

    Raises
    ------
    InputError
        naming the file, when a run would leave it out.
    """
    picture = read_picture(path)
    pixels, notes = pixels_of(picture, str(path), wanted.channels, wanted.background)
    if out:
        from nefgpt.signals import portraits

        page = portraits.of_image(picture, pixels)
        with atomic_path(out) as temporary:
            page.save(temporary)
    return {
        "format": picture.format,
        "mode": picture.mode,
        "bits": picture.bits,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "transparent": 0.0 if picture.alpha is None else float((picture.alpha < 1).mean()),
        "levels": len(np.unique(pixels)),
        "low": float(pixels.min()),
        "high": float(pixels.max()),
        "done": list(notes),
    }


def look(path: Path, wanted: Settings, out: Path | None = None) -> dict:
    """What a run would make of a file: `usable`, and the facts, or the `reason` why not.

    Parameters
    ----------
    out : of the picture, .png; it is not drawn of what cannot be read.
    """
    image = path.suffix.lower() in IMAGE_SUFFIXES
    about = {"file": str(path), "kind": "image" if image else "mesh"}
    if not image and path.suffix.lower() not in SUFFIXES and path.is_file():
        known = f"meshes end in {_ends(SUFFIXES)}, images in {_ends(IMAGE_SUFFIXES)}"
        return about | {"kind": None, "usable": False, "reason": f"unknown format: {known}"}
    try:
        facts = (of_image if image else of_mesh)(path, wanted, out)
    except InputError as error:
        return about | {"usable": False, "reason": str(error).removeprefix(f"{path}: ")}
    about |= {"usable": "reason" not in facts} | facts
    return about | ({"picture": str(out)} if out else {})


def turned(found: list[dict]) -> None:
    """Add to the doubts of meshes how they lie turned against the others of a call.

    `cells`, what is compared, is taken out.
    """
    from nefgpt.signals.pose import Poses

    cells = {i: np.array(about.pop("cells")) for i, about in enumerate(found) if "cells" in about}
    poses = Poses(cells) if cells else None
    for i, own in cells.items():
        if turn := poses.turn(i, own):
            found[i]["doubts"].append(f"lies turned against the rest: {turn}")


def _ends(suffixes: set[str]) -> str:
    return " ".join(sorted(suffixes))


def text_of(about: dict) -> str:
    """What `look` found, for people."""
    rows = [] if about["usable"] else [("reason", about["reason"])]
    if "format" in about:
        rows += (_image_rows if about["kind"] == "image" else _mesh_rows)(about)
    for name in ("done", "doubts"):
        rows += [(name.removesuffix("s"), text) for text in about.get(name, ())]
    rows += [("picture", about["picture"])] if "picture" in about else []
    head = about["file"] + ("" if about["usable"] else ": cannot be used")
    return f"{head}\n" + "".join(f"  {name:<10} {text}\n" for name, text in rows)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _mesh_rows(about: dict) -> list[tuple[str, str]]:
    extent = " × ".join(f"{side:.4g}" for side in about["extent"])
    center = ", ".join(f"{x:.4g}" for x in about["center"])
    closed = "watertight" if about["watertight"] else "open: inside is what it winds around"
    alike = "faces turned alike" if about["oriented"] else "faces turned both ways"
    pieces = _count(about["pieces"], "connected piece")
    rows = [
        ("format", f"{about['format']}, {_count(about['parts'], 'part')}"),
        ("read", f"{about['vertices']:,} vertices, {_count(about['polygons'], 'face')}"),
        ("kept", f"{_count(about['triangles'], 'triangle')}, {pieces}"),
        ("surface", f"{closed}; {alike}"),
        ("extent", f"{extent} (x, y, z) around ({center}): {about['unit']}"),
        ("fitted", f"moved to the origin, scaled by {about['scale']:.4g}"),
    ]
    if "inside" in about:
        signs = f"inside is hidden and outside is seen at {about['sign_agreement']:.0%} of points"
        apart = ", ".join(
            f"{axis} {share:.0%}" for axis, share in zip("xyz", about["asymmetry"], strict=True)
        )
        rows += [
            ("inside", f"{about['inside']:.1%} of the unit cube; {signs}"),
            ("thin", f"{about['thin']:.0%} of the surface, on parts thinner than 0.02 of the cube"),
            ("asymmetry", f"{apart}: the share of the surface that mirroring moves off it"),
        ]
    return rows


def _image_rows(about: dict) -> list[tuple[str, str]]:
    clear = f"{about['transparent']:.0%} of it transparent" if about["transparent"] else "opaque"
    return [
        ("format", f"{about['format']}, {about['mode']}"),
        ("size", f"{about['width']} × {about['height']} pixels (width × height), {clear}"),
        (
            "fitted",
            f"{about['levels']} levels from {about['low']:.3g} to {about['high']:.3g} "
            "(0 is black, 1 white)",
        ),
    ]


def files_of(names: list[str]) -> Iterator[tuple[Path, str]]:
    """Files, and those below folders, each with a name for its picture that no other has.

    Raises
    ------
    InputError
        for a folder that holds no mesh and no image.
    """
    taken: set[str] = set()
    for name in names:
        root = resolved(name)
        if root.is_dir():
            found = below(folder_of("FILE", name))
            paths = found.of(SUFFIXES | IMAGE_SUFFIXES)
            if not paths:
                raise InputError(f"{name} holds no mesh and no image, but {found.kinds()}")
        else:
            paths = [root]
        for path in paths:
            said = path.relative_to(root) if path != root else Path(path.name)
            label = first = safe_id(Path(f"{said}.x"))
            while label in taken:
                label = f"{first}-{len(taken)}"
            taken.add(label)
            yield path, label


def main() -> None:
    """Command line: look at inputs; status 1 when one of them cannot be used."""
    parser = argparse.ArgumentParser(
        description="Say what is read from meshes and images, and what would be done to them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a mesh, an image or a folder")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="draw a picture of each here")
    parser.add_argument("--json", action="store_true", help="write a JSON list")
    axes = [f"{sign}{axis}" for axis in "xyz" for sign in "+-"]
    for name in ("up", "forward"):
        default = getattr(Frame(), name)
        text = f"meshes: this axis of the file points {name}; default {default}"
        parser.add_argument(f"--{name}", choices=axes, default=default, metavar="AXIS", help=text)
    text = "images: 3 keeps colours, 1 makes them grey; default 3"
    parser.add_argument("--channels", type=int, choices=[1, 3], default=3, help=text)
    text = "images: colour behind what is transparent; default white"
    parser.add_argument("--background", default=BACKGROUND, metavar="COLOUR", help=text)
    args = parser.parse_args()
    try:
        colour(args.background)
        frame = Frame(up=args.up, forward=args.forward)
    except ValueError as error:
        raise InputError(str(error)) from error
    wanted = Settings(frame=frame, channels=args.channels, background=args.background)
    found = []
    files = list(files_of(args.files))
    for path, label in tqdm(files, desc="inputs", unit="input", mininterval=1, disable=None):
        found.append(look(path, wanted, args.out / f"{label}.png" if args.out else None))
    turned(found)
    text = json.dumps(found, indent=2) + "\n" if args.json else "".join(map(text_of, found))
    sys.stdout.write(text)
    if not all(about["usable"] for about in found):
        sys.exit(1)
