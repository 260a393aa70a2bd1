"""The website: what becomes a page, and the pages themselves, looked at in Chromium.

`make test` looks at every kind of page, `make test-site` at all of them. The last part is skipped
where there is no Chromium or Chrome.
"""

import functools
import html
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import pytest

from course_lib.authoring.slides import BROWSERS
from course_lib.common.paths import ROOT

pytest.importorskip("sphinx", reason="the website needs the extra .[site]")
pytest.importorskip("myst_nb", reason="the website needs the extra .[site]")

from course_lib.authoring.site import pages, reference
from course_lib.authoring.site.build import build
from course_lib.authoring.site.docstrings import as_rst
from course_lib.authoring.site.extension import alt_texts

CHAPTER = "notebooks/01_forward_noising"
LIMIT = 2_000_000  # bytes of a page with all that it loads
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


# ---- what becomes a page -----------------------------------------------------------------------


def test_docstrings_become_paragraphs_lists_and_examples():
    lines = [
        *("Noise x_t by *t*.", "", "x, t: what `f`s take", "    and more", "scale: a number", ""),
        *(">>> f(1)", "2", "", "    indented"),
    ]
    assert as_rst(lines, ["x", "t", "scale"]) == [
        *(r"Noise x\_t by \*t\*.", ""),
        *(r"- **x**, **t**: what ``f``\ s take and more", "", "- **scale**: a number", ""),
        *(">>> f(1)", "2", "", "::", "", "    indented", ""),
    ]


def test_only_parameters_are_explained():
    text = ["Warning: this is prose.", "name: of no parameter"]
    assert as_rst(text, ["x"]) == ["Warning: this is prose. name: of no parameter", ""]


@pytest.fixture
def chapter():
    return nbformat.read(ROOT / f"{CHAPTER}.ipynb", as_version=4)


def test_solutions_are_folded_on_the_page_and_missing_in_the_download(chapter):
    solutions = [cell for cell in chapter.cells if "solution" in pages.tags(cell)]
    on_page = pages.shown(chapter, "01")
    folded = [cell for cell in on_page.cells if "solution" in pages.tags(cell)]
    assert len(folded) == len(solutions) > 4
    assert all("hide-cell" in pages.tags(cell) for cell in folded)
    handed_out = pages.handed_out(chapter)
    assert not any("solution" in pages.tags(cell) for cell in handed_out.cells)
    code = "\n".join(cell.source for cell in handed_out.cells)
    assert not any(cell.source in code for cell in solutions)


def test_every_figure_has_its_own_description(chapter):
    alts = alt_texts(chapter)
    assert len(alts) > 10 and all(alts.values()) and len(set(alts.values())) == len(alts)


def test_equations_stand_with_the_modules_that_their_tests_mirror():
    equations = reference.checked_equations()
    found = {number: tex for number, tex, _ in equations[Path("course_lib/diffusion/ddpm.py")]}
    assert {"1.2", "1.8", "2.6"} <= found.keys() and "1.4" not in found
    assert r"\bar\alpha_t" in found["1.2"]


def test_the_reference_names_all_that_a_folder_exports():
    import course_lib.diffusion as diffusion

    shown = reference.shown(diffusion)
    names = [name for names in shown.values() for name in names]
    for module, own in shown.items():  # a module explains what is exported of it, or everything
        assert {*own} <= {*diffusion.__all__} or not {*own} & {*diffusion.__all__}, module
    assert len(names) == len({*names}) and {*names} >= {*diffusion.__all__}


def test_no_page_shows_the_answers():
    assert "exercises" not in reference.FOLDERS
    table = pages.linked("[ch01](tests/exercises/test_ch01.py) [a](tests/models/test_vae.py)", "")
    assert table == "ch01 [a](source/tests/models/test_vae.py.md)"
    assert "**Key**" not in pages.page_of(pages.NOTEBOOKS / "lecturers.md")


def test_links_to_modules_lead_to_the_reference():
    link = pages.linked("[see](../course_lib/models/vae.py)", "../")
    assert link == '<a href="../api/models.html#module-course_lib.models.vae">see</a>'


# ---- the pages, in a browser -------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, with a playground that says hello."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "play").mkdir()
    (folder / "play" / "index.html").write_text(
        '<!doctype html><html lang="en"><title>Play</title><main><h1>Hello</h1></main></html>'
    )
    build(folder / "built", play=folder / "play")
    return folder / "built"


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if not BROWSER:
        pytest.skip(f"no browser to look at the website: none of {', '.join(BROWSERS)} is here")
    api = pytest.importorskip("playwright.sync_api", reason="the extra .[dev] brings playwright")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium
        started = chromium.launch(executable_path=BROWSER, chromium_sandbox=False, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser, address):
    """A new page; after the test, it must have asked nobody but the site, and raised no error."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)  # a busy machine is no fault of the site
    page, asked, errors = context.new_page(), [], []
    context.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    page.on("response", lambda r: errors.append(f"{r.status} {r.url}") if r.status > 399 else None)
    yield page
    context.close()
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not errors


KINDS = [  # a page of each kind
    *("index.html", "install.html", "map.html", "measured.html", "licences.html", "search.html"),
    *(f"{CHAPTER}.html", "notebooks/notation.html", "notebooks/lecturers.html"),
    *("api/index.html", "api/diffusion.html", "_modules/course_lib/diffusion/process.html"),
    "source/tests/diffusion/test_process.py.html",
]
DARK = ["index.html", f"{CHAPTER}.html", "api/diffusion.html"]


def looked_at(site: Path, scheme: str, everything: bool) -> list[str]:
    """The pages to look at, without the playground, which has tests of its own."""
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    names = [name for name in names if not name.startswith("play/")]
    assert set(KINDS) | set(DARK) <= set(names)
    return DARK if scheme == "dark" else names if everything else KINDS


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_small_fits_a_phone_and_can_be_read_by_everyone(
    page, site, pytestconfig, scheme
):
    from axe_playwright_python.sync_playwright import Axe

    names = looked_at(site, scheme, pytestconfig.getoption("--site"))
    page.emulate_media(color_scheme=scheme)
    sizes: dict[str, int] = {}
    page.on("response", lambda r: sizes.update({r.url: size(r)}))
    faults = {}
    for name in names:
        sizes.clear()
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(name, wait_until="load")
        found = [
            f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in Axe().run(page, AXE_ON, AXE).response["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        page.set_viewport_size({"width": 375, "height": 700})
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > 375:
            found.append(f"{wide} pixels wide on a phone")
        if sum(sizes.values()) > LIMIT:
            found.append(f"{sum(sizes.values()):,} bytes")
        faults |= {name: found} if found else {}
    assert faults == {}


AXE_ON = {"exclude": [["math *"]]}  # thousands of elements that take the page's own colour
AXE = {"resultTypes": ["violations"]}


def size(response) -> int:
    return int(response.headers.get("content-length", 0))


def test_no_link_leads_nowhere(site):
    """Each link to a page of the site finds the page, and its anchor there."""
    texts = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    anchors = {name: set(re.findall(r'\sid="([^"]+)"', text)) for name, text in texts.items()}
    broken, count = set(), 0
    for name, text in texts.items():
        for link in map(html.unescape, re.findall(r'<a\s[^>]*?href="([^"]*)"', text)):
            target, anchor = map(unquote, urldefrag(urljoin(name, link)))
            if re.match(r"\w+:", target):
                continue
            count += 1
            found = (site / target).is_file()
            if not found or (anchor and target in anchors and anchor not in anchors[target]):
                broken.add((name, link))
    assert count > 1000 and not broken


def test_the_first_page_leads_to_the_chapters_and_the_playground(page):
    page.goto("index.html")
    page.get_by_role("link", name="01 · Forward noising").last.click()
    assert page.title().startswith("01 · Forward noising")
    page.get_by_role("link", name="Next 02 · The DDPM loss").click()
    page.get_by_role("link", name="Previous 01 · Forward noising").click()
    page.goto("index.html")
    page.get_by_role("link", name="Open the playground").click()
    assert page.get_by_role("heading", name="Hello").is_visible()


def test_search_finds_a_word_of_a_chapter_and_a_function(page):
    page.goto("search.html?q=Einstein")
    page.get_by_role("link", name="01 · Forward noising").last.wait_for()
    page.goto("search.html?q=drop_condition")
    page.locator("#search-results a[href*='api/diffusion']").first.wait_for()


def test_an_explorable_moves_by_keyboard(page):
    page.goto(f"{CHAPTER}.html")
    control = page.locator(".explorable input, .explorable select").first
    before = page.locator(".explorable output").first.inner_text()
    control.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".explorable output").first.inner_text() != before
    over = page.locator("img[src^='data:image/webp']")
    over.wait_for()
    boxes = over.evaluate(  # at one moment: figures that load above it move both
        "over => [over, over.parentElement.querySelector('img')].map("
        "image => JSON.stringify(image.getBoundingClientRect()))"
    )
    assert boxes[0] == boxes[1]


def test_hints_and_solutions_open_by_keyboard_only_when_asked(page):
    page.goto(f"{CHAPTER}.html")
    solution = page.get_by_text("# Solution").first
    assert not solution.is_visible()
    page.locator("details.hide", has_text="Show the solution").first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert solution.is_visible()


def test_the_first_tabs_skip_to_the_content_and_open_the_menu_on_a_phone(page):
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(f"{CHAPTER}.html")
    link = page.locator(".sidebar-drawer").get_by_role("link", name="02 · The DDPM loss")
    assert not link.is_visible()  # nor can the keyboard reach it
    reached = set()
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim()"))
        if page.evaluate("document.activeElement.id") == "__navigation":
            page.keyboard.press("Space")
            link.wait_for()
            page.keyboard.press("Space")
            link.wait_for(state="hidden")
    assert "Skip to content" in reached


def test_dark_mode_is_a_button(page):
    page.goto("index.html")
    background = "getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(background)}
    for _ in range(2):
        page.get_by_role("button", name="color theme").locator("visible=true").first.click()
        seen.add(page.evaluate(background))
    assert len(seen) == 2


def test_every_numbered_equation_is_drawn_and_can_be_linked(page, chapter):
    page.goto(f"{CHAPTER}.html#equation-1.8")
    prose = "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    numbers = re.findall(r"\\tag\{([^}]+)\}", prose)
    for number in numbers:
        formula = page.locator(f"[id='equation-{number}'] math")
        assert formula.count() == 1 and formula.bounding_box()["height"] > 10
    assert len(numbers) > 5 and page.locator("merror").count() == 0
    assert page.evaluate("document.fonts.check('16px \"STIX Two Math\"')")


def test_the_download_is_the_student_edition(page, site):
    page.goto(f"{CHAPTER}.html")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download this chapter").click()
    notebook = nbformat.read(waiting.value.path(), as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# 01 · Forward noising")
    assert not any("solution" in pages.tags(cell) for cell in notebook.cells)


def test_a_chapter_prints_without_menus_on_pages_of_paper(page, tmp_path):
    page.goto(f"{CHAPTER}.html")
    page.emulate_media(media="print")
    assert not page.locator(".sidebar-drawer").is_visible()
    assert not page.get_by_role("button", name="color theme").first.is_visible()
    page.set_viewport_size({"width": 700, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and 10 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 80


def test_a_folder_with_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something other than the site"):
        build(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"
