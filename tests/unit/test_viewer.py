"""The page in a browser: the viewer draws and turns, nothing fails, nothing is loaded."""

import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from nefgpt.base.files import atomic_path, write_text
from nefgpt.evaluation import tables
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.report import page, pictures, viewer
from nefgpt.report.style import save
from nefgpt.signals.kind import Shown
from tests.unit import browser

pytestmark = pytest.mark.skipif(
    browser.FOUND is None, reason=f"no browser is installed: none of {', '.join(browser.NAMES)}"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with two shapes, a wide table and a wide figure."""
    folder = tmp_path_factory.mktemp("page")
    wedge, inside_out = (
        trimesh.creation.box((0.9, 0.2, 0.4)),
        trimesh.creation.icosphere(2, 0.3),
    )
    wedge.vertices[wedge.vertices[:, 0] > 0] *= [1, 0.5, 1]
    inside_out.invert()
    for name, mesh in (("wedge", wedge), ("inside-out", inside_out)):
        with atomic_path(folder / f"{name}.ply") as temporary:
            mesh.export(temporary)
    names = [name for name in COLUMNS if name != "FPD"]
    lines = [f"a-model-with-a-long-name,k5,{name},1,0,9,9" for name in names]
    write_text(folder / "metrics.csv", "\n".join([",".join(tables.KEYS), *lines]) + "\n")
    tables.build([folder / "metrics.csv"], folder / "tables")
    write_text(folder / "rejected.tsv", f"shape_id\tsource_path\treason\n{'a' * 60}\tb\tno faces\n")
    rows = [([np.zeros((32, 32, 4), np.uint8)] * 8)] * 2
    figure = pictures.picture_grid([("a row", images) for images in rows], "pictures")
    save(figure, folder / "figures", "pictures")
    shown = page.Page(
        name="a-long-name-of-a-run" * 4,
        meshes=[
            viewer.Mesh(name * 9, Shown(folder / f"{name}.ply")) for name in ("wedge", "inside-out")
        ],
        table2=folder / "tables/table2.csv",
        metrics=folder / "tables/metrics.csv",
        blocks=[("Small", [{"quantity": "a rather long name " * 4, "value": 0.5}])],
        figures=[(folder / "figures/pictures.png", "Pictures.")],
        rejected=folder / "rejected.tsv",
        config=f"root: {'/folder' * 40}\n",
    )
    page.build(shown, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(chromium, report):
    chromium.resize(1280, 900)
    chromium.open(report)
    return chromium


def picture(tab) -> np.ndarray:
    """What the canvas shows, RGBA int [H, W, 4]."""
    url = tab.evaluate("document.getElementById('view').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(browser.decoded(url))), int)


def centre(tab, name: str) -> tuple[float, float]:
    found = f"document.getElementById('{name}').getBoundingClientRect()"
    return tuple(tab.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found})"))


def focus(tab) -> str:
    return tab.evaluate("document.activeElement.id")


def test_it_draws(tab):
    shown = picture(tab)
    drawn = shown[..., 3] == 255
    assert 0.02 < drawn.mean() < 0.5
    assert not drawn[:, 0].any() and not drawn[0].any(), "all of it lies within the view"
    red, _, blue = shown[drawn][:, :3].mean(axis=0)
    assert blue > red, "seen from outside"
    assert np.ptp(shown[drawn][:, 2]) > 20, "faces differ in light"
    assert tab.errors == []


def test_faces_seen_from_inside_are_red(tab):
    tab.click(centre(tab, "next"))
    shown = picture(tab)
    red, _, blue = shown[shown[..., 3] == 255][:, :3].mean(axis=0)
    assert red > 1.5 * blue


def test_the_mouse_turns_it(tab):
    before = picture(tab)
    tab.drag(centre(tab, "view"), (60, 0))
    across = picture(tab)
    tab.drag(centre(tab, "view"), (0, 60))
    down = picture(tab)
    assert (across != before).mean() > 0.01 and (down != across).mean() > 0.01
    tab.click(centre(tab, "reset"))
    assert np.array_equal(picture(tab), before)
    tab.move(centre(tab, "view"))
    assert np.array_equal(picture(tab), before), "no button is down"


def test_one_finger_turns_it_two_zoom(tab):
    x, y = centre(tab, "view")
    before = picture(tab)
    tab.touch([[(x, y)], [(x + 50, y)]])
    turned = picture(tab)
    assert (turned != before).mean() > 0.01
    tab.touch([[(x - 20, y), (x + 20, y)], [(x - 30, y), (x + 30, y)]])
    larger, size = picture(tab)[..., 3] == 255, (turned[..., 3] == 255).sum()
    assert 1.5**2 * 0.8 < larger.sum() / size < 1.5**2 * 1.2
    assert tab.evaluate("[scrollY, visualViewport.scale]") == [0, 1], "the page stays"


def test_the_keyboard_does_all(tab):
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    reached = []
    while "view" not in reached and len(reached) < 30:
        tab.press("Tab")
        reached.append(focus(tab))
        assert tab.evaluate(outline) == "solid", f"{reached[-1]} shows that it has the focus"
    assert reached[-5:] == ["previous", "shape", "next", "reset", "view"]
    first = picture(tab)
    tab.press("ArrowLeft")
    turned = picture(tab)
    assert (turned != first).mean() > 0.01
    tab.press("ArrowUp")
    assert (picture(tab) != turned).mean() > 0.01
    small = (picture(tab)[..., 3] == 255).sum()
    tab.press("+", "+")
    assert (picture(tab)[..., 3] == 255).sum() > 1.2 * small


def test_the_wheel_is_the_pages_until_the_shape_is_clicked(tab):
    before = picture(tab)
    # Pages scroll smoothly.
    tab.evaluate("void (ended = new Promise(r => addEventListener('scrollend', r)))")
    tab.wheel(centre(tab, "view"), 120)
    tab.evaluate("ended.then(() => {})")
    assert tab.evaluate("scrollY") > 0
    assert np.array_equal(picture(tab), before)
    tab.evaluate("scrollTo(0, 0)")
    tab.click(centre(tab, "view"))
    tab.wheel(centre(tab, "view"), 120)
    assert tab.evaluate("scrollY") == 0
    assert (picture(tab)[..., 3] == 255).sum() < 0.9 * (before[..., 3] == 255).sum()


def test_shapes_are_chosen(tab):
    about = "document.getElementById('about').textContent"
    assert tab.evaluate(about) == "1 of 2, 12 faces"
    first = picture(tab)
    tab.click(centre(tab, "next"))
    assert tab.evaluate(about) == "2 of 2, 320 faces"
    assert not np.array_equal(picture(tab), first)
    tab.click(centre(tab, "next"))
    assert np.array_equal(picture(tab), first), "after the last comes the first"
    tab.click(centre(tab, "previous"))
    assert tab.evaluate("document.getElementById('shape').selectedIndex") == 1
    assert tab.evaluate("document.getElementById('view').ariaLabel").startswith("inside-out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_fails_nothing_is_loaded_nothing_is_cut(tab, report, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", features=features)
    tab.resize(width, 844, mobile=width < 500)
    tab.open(report)
    for name in ("next", "view"):
        tab.evaluate(f"document.getElementById('{name}').scrollIntoView()")
        tab.drag(centre(tab, name), (9, 9))
    assert tab.errors == [] and tab.requests == [report.as_uri()]
    # A page wider than a phone's screen would be shown smaller, on a wider window.
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page_color, text = tab.evaluate(
        "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
    )
    sums = [sum(map(int, color[4:-1].split(","))) for color in (page_color, text)]
    assert (sums[0] > sums[1]) == (scheme == "light")


def test_numbers_stand_below_each_other(tab):
    tab.evaluate("document.querySelectorAll('#sample-metrics tbody')[1].id = 'published'")
    # Where the decimal points of one column are: text up to the point, measured.
    ends = tab.evaluate(
        """[...document.querySelectorAll('#published tr')].map(row => {
          const text = row.children[3].firstChild, range = document.createRange();
          range.setStart(text, 0);
          range.setEnd(text, text.data.split('.')[0].length);
          return range.getBoundingClientRect().right;
        })"""
    )
    assert len(ends) == len(tables.PUBLISHED)
    assert np.ptp(ends) < 0.1


@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        ("<script>throw new Error('fault')</script>", "fault"),
        ("<script>console.error('fault')</script>", "fault"),
        ("<img src='http://127.0.0.1:9/fault.png' alt=''>", "Content Security Policy"),
        ("<script>fetch('http://127.0.0.1:9').catch(() => {})</script>", "Content Security Policy"),
        ("<script src='fault.js'></script>", "Content Security Policy"),
    ],
)
def test_faults_are_noticed(tab, report, tmp_path, fault, noticed):
    broken = tmp_path / "broken.html"
    write_text(broken, report.read_text().replace("</body>", f"{fault}</body>"))
    tab.open(broken)
    assert any(noticed in error for error in tab.errors), tab.errors
