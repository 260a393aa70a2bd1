"""Explorables without a kernel: every state is on the page, small, and accessible by keyboard."""

import base64
import io
import json
import re
import shutil

import nbformat
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from course_lib.authoring.form import canonical
from course_lib.teaching import explorable as module
from course_lib.teaching.style import canvas

GREYS = {0.0: 0, 0.5: 255, 1.0: 128}


def draw(level, word):
    """A square whose grey depends on the level, and whose place depends on the word."""
    figure, axes = canvas(size=(3, 2))
    grey = GREYS[level] / 255
    axes.set(xlim=(0, 2), ylim=(0, 1), title=f"{word} {level}")
    axes.add_patch(Rectangle((word == "b", 0), 1, 1, color=(grey, grey, grey)))
    return figure


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(module, "display", outputs.append)
    return outputs


def explore(**options):
    alt = lambda level, word: f"a square, {word}, <{level}>"  # noqa: E731
    options = dict(alt=alt, start={"level": 0.5}) | options
    module.explorable(draw, level=list(GREYS), word=["a", "b"], **options)


def data_of(page):
    return json.loads(re.search(r'application/json">(.*?)</script>', page).group(1))


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_the_start_is_a_plain_figure_and_the_page_holds_every_state(shown):
    explore()
    figure, page = shown
    assert figure.data.startswith(b"\x89PNG") and figure.alt == "a square, a, <0.5>"
    data = data_of(page.data)
    assert data["alts"][5] == "a square, b, <1.0>" and len(set(data["alts"])) == 6
    assert [bool(uri) for uri in data["states"]] == [True, True, False, True, True, True]
    start = Image.open(io.BytesIO(figure.data)).convert("RGBA")
    for i, (level, word) in enumerate((level, word) for level in GREYS for word in "ab"):
        over = start.copy()
        if data["states"][i]:
            over.alpha_composite(opened(data["states"][i]).convert("RGBA"))
        truth = module._same_size([Image.open(io.BytesIO(module.png(draw(level, word), None)))])[0]
        difference = np.abs(np.asarray(over.convert("RGB"), int) - np.asarray(truth))
        # 32 levels are 255/31 apart, so rounding errs by half of that at most; what is unchanged
        # comes from the PNG, which has all colours of so simple a drawing
        assert difference.max() <= 255 / 31 / 2 + 0.5


def test_too_many_bytes_are_refused_before_anything_is_shown(shown):
    with pytest.raises(ValueError, match=r"^the 6 states need [\d,]+ bytes, limit 3,000: offer"):
        explore(limit=3000)
    assert shown == []


def test_coarser_colours_make_room_for_what_would_not_fit(shown):
    noise = np.random.default_rng(0)
    frames = [
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(8)
    ]
    fine = module.page_of(frames, [""] * 8, 0, {"n": range(8)})
    limit = len(fine.encode()) - 1
    coarse = module.page_of(frames, [""] * 8, 0, {"n": range(8)}, limit)
    assert len(coarse.encode()) <= limit


@pytest.mark.parametrize(
    ("start", "told"),
    [({"speed": 1}, "speed"), ({"level": 0.7}, r"level starts at one of \[0.0, 0.5, 1.0\], got")],
)
def test_a_start_that_is_no_state_is_refused(shown, start, told):
    with pytest.raises(ValueError, match=told):
        explore(start=start)


def test_the_page_survives_the_form_that_notebooks_have_in_git(shown):
    explore()
    html = shown[1].data
    output = nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": "<HTML>"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    assert canonical(notebook).cells[0].outputs[0].data["text/html"] == html


def browser_page(path):
    """The page in headless Chromium, or a skip where Playwright or Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        yield page
        browser.close()


@pytest.fixture
def exported(shown, tmp_path):
    """Two explorables in a notebook, as nbconvert writes it: HTML without a kernel."""
    exporters = pytest.importorskip("nbconvert.exporters")
    cells = []
    for start in ({"level": 0.5}, {"level": 1.0, "word": "b"}):
        shown.clear()
        explore(start=start)
        png, metadata = shown[0]._repr_mimebundle_()
        outputs = [
            nbformat.v4.new_output("display_data", {"image/png": png["image/png"]},
                                   metadata={"image/png": metadata["image/png"]}),
            nbformat.v4.new_output("display_data", {"text/html": shown[1].data}),
        ]  # fmt: skip
        cells.append(nbformat.v4.new_code_cell("1", outputs=outputs))
    body, _ = exporters.HTMLExporter(template_name="classic").from_notebook_node(
        nbformat.v4.new_notebook(cells=cells)
    )
    path = tmp_path / "page.html"
    path.write_text(body, encoding="utf-8")
    yield from browser_page(path)


def grey_at(page, i, share):
    """The grey of the i-th figure on the screen, at that share of its width."""
    figure = page.locator("img[alt^='a square']").nth(i)
    figure.scroll_into_view_if_needed()
    picture = np.asarray(Image.open(io.BytesIO(figure.screenshot())).convert("L"))
    return int(picture[picture.shape[0] // 2, int(picture.shape[1] * share)])


def test_the_keyboard_moves_the_figure_above_and_no_other(exported):
    page = exported
    slider = page.get_by_role("slider", name="level").first
    slider.focus()
    assert slider.get_attribute("aria-valuetext") == "0.5"
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1.0"
    assert page.locator("output").first.text_content() == "1.0"
    figures = page.locator("img[alt^='a square']")
    assert figures.nth(0).get_attribute("alt") == "a square, a, <1.0>"
    assert abs(grey_at(page, 0, 0.35) - 128) <= 5
    page.keyboard.press("Home")
    assert abs(grey_at(page, 0, 0.35) - 0) <= 5
    page.keyboard.press("Tab")  # to the menu
    page.keyboard.press("ArrowDown")
    assert figures.nth(0).get_attribute("alt") == "a square, b, <0.0>"
    assert abs(grey_at(page, 0, 0.8) - 0) <= 5 and grey_at(page, 0, 0.35) > 240
    assert figures.nth(1).get_attribute("alt") == "a square, b, <1.0>"  # never touched
    assert abs(grey_at(page, 1, 0.8) - 128) <= 5


def test_back_at_the_start_the_figure_is_as_it_was(exported):
    page = exported
    figure = page.locator("img[alt^='a square']").first
    before = figure.screenshot()
    page.get_by_role("slider", name="level").first.focus()
    page.keyboard.press("ArrowRight")
    assert figure.screenshot() != before
    page.keyboard.press("ArrowLeft")
    assert figure.screenshot() == before
