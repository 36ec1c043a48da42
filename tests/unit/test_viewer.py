"""The page in a browser: gallery, viewer and tables work, nothing fails, nothing is loaded."""

import io
import time

import numpy as np
import pytest
import trimesh
from PIL import Image

from nefgpt.base.files import write_text
from nefgpt.evaluation import tables
from nefgpt.evaluation.metric import COLUMNS
from nefgpt.report import gallery, page, pictures, viewer
from nefgpt.report.style import save
from nefgpt.signals import render
from tests.unit import browser

pytestmark = pytest.mark.skipif(
    browser.FOUND is None, reason=f"no browser is installed: none of {', '.join(browser.NAMES)}"
)
EMPTY = 3  # the sample without a surface
N_SAMPLES = 200


def signal(mesh: trimesh.Trimesh) -> dict:
    vertices, faces = viewer.reduced(np.asarray(mesh.vertices), np.asarray(mesh.faces))
    picture = gallery._url(render.render(vertices, faces, 64))
    return {"picture": picture, "mesh": viewer.embed_mesh(vertices, faces)}


def samples_of(n: int) -> gallery.Gallery:
    """Samples of two rows beside a training ball that is inside out."""
    wedge, ball = trimesh.creation.box((0.9, 0.2, 0.4)), trimesh.creation.icosphere(2, 0.3)
    wedge.vertices[wedge.vertices[:, 0] > 0] *= [1, 0.5, 1]
    ball.invert()
    full, train = signal(wedge), {"a" * 60: signal(ball)}
    samples = []
    for i in range(n):
        known = {"distance": (7 * i % n) / 10, "near": "a" * 60, "facts": [("parts", "1")]}
        if i % (n // 2) == EMPTY:
            known = {"distance": None, "near": None, "facts": [], "picture": None, "mesh": None}
        row = {"row": int(i >= n // 2), "number": i % (n // 2), "label": None, "copy": i == 0}
        samples.append(full | row | known)
    data = {"rows": ["m t1", "m t2"], "distance": "d", "signals": "shapes"}
    data |= {"train": train, "samples": samples}
    return gallery.Gallery("m t1", list(range(8)), [*train], ["A note."], 1.0, data)


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Writes a page with so many samples, a wide table and a wide figure."""
    folder = tmp_path_factory.mktemp("page")
    names = [name for name in COLUMNS if name != "FPD"]
    lines = [
        f"a-model-with-a-long-name,k{k},{name},{value},0,9,9"
        for k, value in ((5, 2), (10, 10), (20, 1))
        for name in names
    ]
    write_text(folder / "metrics.csv", "\n".join([",".join(tables.KEYS), *lines]) + "\n")
    tables.build([folder / "metrics.csv"], folder / "tables")
    write_text(folder / "rejected.tsv", f"shape_id\tsource_path\treason\n{'a' * 60}\tb\tno faces\n")
    rows = [([np.zeros((32, 32, 4), np.uint8)] * 8)] * 2
    figure = pictures.picture_grid([("a row", images) for images in rows], "pictures")
    save(figure, folder / "figures", "pictures")

    def write(n: int):
        shown = page.Page(
            name="a-long-name-of-a-run" * 4,
            gallery=samples_of(n),
            table2=folder / "tables/table2.csv",
            metrics=folder / "tables/metrics.csv",
            intervals=([], ""),
            blocks=[("Small", [{"quantity": "a rather long name " * 4, "value": 0.5}])],
            figures=[(folder / "figures/pictures.png", "Pictures.")],
            more_figures=["gallery-of-a-long-name" * 4],
            rejected=folder / "rejected.tsv",
            config=f"root: {'/folder' * 40}\n",
        )
        page.build(shown, folder / f"{n}.html")
        return folder / f"{n}.html"

    return write


@pytest.fixture(scope="module")
def report(page_of):
    return page_of(24)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(chromium, report):
    chromium.resize(1280, 900)
    chromium.open(report)
    return chromium


def until(tab, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    deadline = time.monotonic() + browser.SECONDS
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, condition
        tab.frame()
    tab.frame()


def show(tab, number: int = 0) -> None:
    """Open a sample of the gallery."""
    tab.evaluate(f"document.querySelectorAll('#grid .thumb')[{number}].click()")
    until(tab, "document.getElementById('view-sample').width > 300")


def picture(tab, pane: str = "sample") -> np.ndarray:
    """What a canvas shows, RGBA int [H, W, 4]."""
    url = tab.evaluate(f"document.getElementById('view-{pane}').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(browser.decoded(url))), int)


def drawn(tab, pane: str = "sample") -> np.ndarray:
    """Where a canvas shows a shape, once it does, bool [H, W]."""
    deadline = time.monotonic() + browser.SECONDS
    while not (found := picture(tab, pane)[..., 3] == 255).any():
        assert time.monotonic() < deadline
        tab.frame()
    return found


def centre(tab, name: str) -> tuple[float, float]:
    found = f"document.getElementById('{name}').getBoundingClientRect()"
    return tuple(tab.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({found})"))


def text(tab, name: str) -> str:
    return tab.evaluate(f"document.getElementById('{name}').textContent.trim()")


def focus(tab) -> str:
    return tab.evaluate("document.activeElement.id || document.activeElement.ariaLabel")


def test_what_comes_first_is_the_best_row(tab):
    top = "r => r.getBoundingClientRect().bottom"
    assert tab.evaluate(f"({top})(document.querySelectorAll('.first')[1])") < 900
    shown = "[...document.querySelectorAll('.first .thumb')].map(one => one.ariaLabel)"
    assert tab.evaluate(shown) == [*(f"sample {i}" for i in range(8)), f"training: {'a' * 60}"]
    assert tab.evaluate("document.querySelectorAll('.first i').length") == 1, "one is empty"


def test_a_sample_opens_beside_its_nearest(tab):
    show(tab)
    sample, near = drawn(tab), drawn(tab, "near")
    assert 0.02 < sample.mean() < 0.5 and 0.02 < near.mean() < 0.5
    assert not sample[:, 0].any() and not sample[0].any(), "all of it lies within the view"
    red, _, blue = picture(tab)[sample][:, :3].mean(axis=0)
    assert blue > red, "seen from outside"
    assert np.ptp(picture(tab)[sample][:, 2]) > 20, "faces differ in light"
    red, _, blue = picture(tab, "near")[near][:, :3].mean(axis=0)
    assert red > 1.5 * blue, "faces seen from inside are red"
    assert text(tab, "viewer-title") == "m t1: sample 0" and text(tab, "place") == "1 of 24"
    assert text(tab, "facts") == "parts1"
    assert tab.errors == []


def test_a_training_signal_opens_alone(tab):
    tab.evaluate("document.querySelector('.first [data-train]').click()")
    drawn(tab)
    assert tab.evaluate("document.getElementById('pane-near').hidden")
    assert text(tab, "viewer-title").startswith("training: aaa")


def test_an_empty_sample_says_so(tab):
    tab.evaluate(f"document.querySelectorAll('#grid .thumb')[{EMPTY}].click()")
    assert tab.evaluate("document.getElementById('view-sample').hidden")
    assert tab.evaluate("document.querySelector('#pane-sample .none').checkVisibility()")
    assert tab.evaluate("document.getElementById('pane-near').hidden")


def test_the_mouse_turns_both(tab):
    show(tab)
    drawn(tab), drawn(tab, "near")
    before, other = picture(tab), picture(tab, "near")
    tab.drag(centre(tab, "view-sample"), (60, 0))
    across = picture(tab)
    assert (picture(tab, "near") != other).mean() > 0.001
    tab.drag(centre(tab, "view-sample"), (0, 60))
    down = picture(tab)
    assert (across != before).mean() > 0.01 and (down != across).mean() > 0.01
    tab.click(centre(tab, "reset"))
    assert np.array_equal(picture(tab), before)
    tab.move(centre(tab, "view-sample"))
    assert np.array_equal(picture(tab), before), "no button is down"


def test_one_finger_turns_it_two_zoom(tab):
    show(tab)
    size = drawn(tab).sum()
    x, y = centre(tab, "view-sample")
    before = picture(tab)
    tab.touch([[(x, y)], [(x + 50, y)]])
    turned = picture(tab)
    assert (turned != before).mean() > 0.01
    tab.touch([[(x - 20, y), (x + 20, y)], [(x - 30, y), (x + 30, y)]])
    larger, size = drawn(tab).sum(), (turned[..., 3] == 255).sum()
    assert 1.5**2 * 0.8 < larger / size < 1.5**2 * 1.2
    assert tab.evaluate("[scrollY, visualViewport.scale]") == [0, 1], "the page stays"


def test_the_keyboard_does_all(tab):
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    reached = []
    while "m t1: sample 0, #0 · 0.00" not in reached and len(reached) < 60:
        tab.press("Tab")
        reached.append(focus(tab))
        assert tab.evaluate(outline) == "solid", f"{reached[-1]} shows that it has the focus"
    assert {"sample 0", "row", "sort", "only"} <= {*reached}
    assert "sample 1" not in reached, "a group is one stop"
    tab.press("ArrowRight")
    assert focus(tab).startswith("m t1: sample 1")
    tab.press("ArrowDown")
    below = int(focus(tab).split()[3].strip(","))
    assert below > 4
    tab.press("ArrowUp")
    assert focus(tab).startswith("m t1: sample 1")
    tab.press("Enter", "\r")
    assert text(tab, "viewer-title") == "m t1: sample 1" and focus(tab) == "view-sample"
    drawn(tab)
    first = picture(tab)
    tab.press("ArrowLeft")
    turned = picture(tab)
    assert (turned != first).mean() > 0.01
    tab.press("ArrowUp")
    assert (picture(tab) != turned).mean() > 0.01
    small = (picture(tab)[..., 3] == 255).sum()
    tab.press("+", "+")
    assert (picture(tab)[..., 3] == 255).sum() > 1.2 * small
    tab.press("PageDown")
    assert text(tab, "viewer-title") == "m t1: sample 2"
    tab.press("Escape")
    assert not tab.evaluate("document.getElementById('viewer').open")
    assert focus(tab).startswith("m t1: sample 1"), "back to where it was opened"


def test_the_wheel_is_the_dialogs_until_the_shape_is_clicked(tab):
    show(tab)
    tab.evaluate("document.getElementById('close').focus()")
    drawn(tab)
    before = picture(tab)
    tab.wheel(centre(tab, "view-sample"), 120)
    assert np.array_equal(picture(tab), before)
    tab.click(centre(tab, "view-sample"))
    tab.wheel(centre(tab, "view-sample"), 120)
    assert (picture(tab)[..., 3] == 255).sum() < 0.9 * (before[..., 3] == 255).sum()


def test_one_after_the_other(tab):
    show(tab)
    tab.click(centre(tab, "next"))
    assert text(tab, "viewer-title") == "m t1: sample 1"
    tab.click(centre(tab, "previous"))
    tab.click(centre(tab, "previous"))
    assert text(tab, "viewer-title") == "m t2: sample 11", "before the first comes the last"
    tab.click(centre(tab, "close"))
    assert not tab.evaluate("document.getElementById('viewer').open")


def choose(tab, name: str, value: str) -> list[str]:
    """What the gallery lists after a choice."""
    found = f"document.getElementById('{name}')"
    tab.evaluate(f"{found}.value = '{value}'; {found}.dispatchEvent(new Event('change'))")
    return tab.evaluate("[...document.querySelectorAll('#grid .thumb')].map(o => o.ariaLabel)")


def test_the_gallery_is_sorted_and_filtered(tab):
    assert len(choose(tab, "row", "all")) == 24
    some = choose(tab, "row", "1")
    assert len(some) == 12 and all(one.startswith("m t2") for one in some)
    assert text(tab, "count") == "12 of 24 samples"
    near = choose(tab, "sort", "near")
    distances = [float(one.split("· ")[1]) for one in near if "empty" not in one]
    assert distances == sorted(distances) and "empty" in near[-1]
    assert choose(tab, "only", "empty") == ["m t2: sample 3, #3 empty"]
    choose(tab, "row", "all")
    assert len(choose(tab, "only", "copies")) == 1
    assert len(choose(tab, "only", "valid")) == 22


def test_pictures_wait_until_they_are_near(tab):
    sources = "[...document.querySelectorAll('#grid img')].map(image => image.src !== '')"
    assert not any(tab.evaluate(sources))
    tab.evaluate("document.getElementById('gallery').scrollIntoView()")
    until(tab, f"({sources}).some(Boolean)")


def column(tab, place: int) -> list[str]:
    rows = "document.querySelectorAll('#sample-metrics table')[0].tBodies[0].rows"
    return tab.evaluate(f"[...{rows}].filter(r => !r.hidden).map(r => r.cells[{place}].innerText)")


def test_tables_are_sorted_and_filtered(tab):
    head = "document.querySelectorAll('#sample-metrics table')[0].tHead.rows[0].cells[2]"
    assert column(tab, 1) == ["k5", "k10", "k20"]
    for sort, expected in (
        ("ascending", ["k20", "k5", "k10"]),
        ("descending", ["k10", "k5", "k20"]),
        (None, ["k5", "k10", "k20"]),
    ):
        tab.evaluate(f"{head}.firstElementChild.click()")
        assert column(tab, 1) == expected and tab.evaluate(f"{head}.ariaSort") == sort
    field = "document.querySelector('#sample-metrics input')"
    tab.evaluate(f"{field}.value = 'long k10'; {field}.dispatchEvent(new Event('input'))")
    assert column(tab, 1) == ["k10"]


def test_two_hundred_samples_open_in_two_seconds(chromium, page_of):
    path = page_of(N_SAMPLES)
    chromium.resize(1280, 900)
    chromium.open(path)
    known = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    until(chromium, f"{known} > 0")
    assert chromium.evaluate(known) < 2000, "milliseconds until all is loaded"
    count = "document.querySelectorAll('#grid .thumb').length"
    assert chromium.evaluate(count) == N_SAMPLES and chromium.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_fails_nothing_is_loaded_nothing_is_cut(tab, report, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", features=features)
    tab.resize(width, 844, mobile=width < 500)
    tab.open(report)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    show(tab)
    drawn(tab)
    for name in ("next", "previous", "view-sample"):
        tab.drag(centre(tab, name), (9, 9))
    dialog = "document.getElementById('viewer')"
    left, right = tab.evaluate(f"(r => [r.left, r.right])({dialog}.getBoundingClientRect())")
    assert left >= 0 and right <= width
    assert tab.evaluate(f"{dialog}.scrollWidth - {dialog}.clientWidth") == 0
    assert tab.errors == [] and tab.requests == [report.as_uri()]
    # A page wider than a phone's screen would be shown smaller, on a wider window.
    assert tab.evaluate("innerWidth") == width
    shown = "[...document.images].filter(image => image.src)"
    assert tab.evaluate(f"{shown}.every(image => image.naturalWidth > 0)")
    page_color, ink = tab.evaluate(
        "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
    )
    sums = [sum(map(int, color[4:-1].split(","))) for color in (page_color, ink)]
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
