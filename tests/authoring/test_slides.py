"""Decks: figures, equations and questions on slides, prose in the notes, no network, no TeX."""

import base64
import re
import subprocess

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.authoring import slides

pytest.importorskip("latex2mathml")
PNG = b"\x89PNG not a real one"
HEADER = """# 99 · A small chapter

**You learn $a^2$.**

![A circle](figures/99_small.png)

- say what it is;
- and *why*.
"""


@pytest.fixture
def book(tmp_path):
    """A chapter with a figure, a section with an equation, and questions."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "99_small.png").write_bytes(PNG)
    data = {"image/png": base64.b64encode(PNG).decode()}
    picture = new_output("display_data", data=data, metadata={"image/png": {"alt": "A <curve>"}})
    tagged = {"tags": ["slide"]}
    cells = [
        new_markdown_cell(HEADER),
        new_markdown_cell("## 1. Circles\n\nLook."),
        new_code_cell("plot()", outputs=[picture], metadata=tagged),
        new_markdown_cell("*Notice $x$.*\n\nIt grows.\n\n## 2. Next\n\nNot here."),
        new_markdown_cell(
            "It is\n\n$$a = \\langle b\\rangle^2 \\tag{99.1}$$\n\nThen $$c = d$$", metadata=tagged
        ),
        new_code_cell("secret_answer = 3"),
        new_markdown_cell(
            "## Check yourself\n\n**1.** Why?\n\n<details><summary>Answer</summary>\n\n"
            "Because.\n\n</details>"
        ),
    ]
    return new_notebook(cells=cells)


def test_each_tagged_cell_is_a_slide_below_its_heading(book, tmp_path):
    pages = slides.slides(book, tmp_path / "figures")
    assert [page.title for page in pages] == [
        "99 · A small chapter",
        "After this chapter you can",
        "1. Circles",
        "2. Next",
        "Check yourself",
    ]
    figure, equation, questions = pages[2:]
    assert 'alt="A &lt;curve&gt;"' in figure.body and "Notice <math" in figure.body
    assert figure.notes.strip() == "It grows."
    assert "(99.1)" in equation.body and "⟨" in equation.body
    assert "c" not in re.findall("<mi>(.)</mi>", equation.body)  # numbered equations alone
    assert "Why?" in questions.body and "Because" not in questions.body
    assert "Because." in questions.notes


def test_figures_under_one_caption_get_their_parts_of_it(book, tmp_path):
    """Also where another cell's figure, or none, is between the figure and the text."""
    (picture,) = book.cells[2].outputs
    book.cells[2].outputs.append(picture)
    book.cells.insert(3, new_code_cell("more()", outputs=[picture]))  # not for a slide
    book.cells.insert(4, new_code_cell("x = 1"))
    for caption, first, second in (
        ("First figure: a curve. Second figure: dots. Below, a map.", "A curve.", "Dots."),
        ("The curves: up. The pictures: dull.", *["The curves: up. The pictures: dull."] * 2),
    ):
        book.cells[5].source = f"*{caption}*\n\nIt grows."
        pages = slides.slides(book, tmp_path / "figures")[2:-2]
        shown = [re.search("<figcaption>(.*)</figcaption>", page.body)[1] for page in pages]
        assert shown == [first, second]
        assert [page.title for page in pages] == ["1. Circles"] * 2


def test_a_deck_asks_nothing_of_the_network_and_leaves_no_tex(book, tmp_path):
    page = slides.deck("99 · A small chapter", slides.slides(book, tmp_path / "figures"))
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources and all(s.startswith(("reveal/", "data:image/png;base64,")) for s in sources)
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "secret_answer" not in page


def test_a_tagged_cell_without_a_figure_is_named(book, tmp_path):
    book.cells[2].outputs = []
    with pytest.raises(ValueError, match=f"cell {book.cells[2].id} is tagged `slide`"):
        slides.slides(book, tmp_path / "figures")


@pytest.mark.parametrize("path", slides.chapters(), ids=lambda path: path.stem)
def test_every_chapter_has_a_deck_of_ten_to_twenty_slides(path):
    import nbformat

    pages = slides.slides(nbformat.read(path, as_version=4), path.parent / "figures")
    assert 10 <= len(pages) <= 20
    assert sum(bool(page.notes.strip()) for page in pages) >= len(pages) // 2
    html = slides.deck(path.stem, pages)
    text = re.sub(r"<(script|style|code)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.findall(r"\\[a-zA-Z]+", re.sub("<annotation.*?</annotation>", "", text))


def test_pdf_without_a_browser_and_an_unknown_chapter_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(slides.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="need a browser, one of chromium"):
        slides.make(tmp_path / "out", [], pdf=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"expected a chapter, one of 00, .* got '77'"):
        slides.chapters(["77"])


def test_long_equations_are_broken_outside_brackets_only():
    tex = r"L = \underbrace{a + b}_{c} + \sum_{t=2}^{T} f(x + y - z) \;+\; g \tag{1.1}"
    assert slides._broken(slides.TAG.sub("", tex), most=12) == [
        r"L = \underbrace{a + b}_{c}",
        r"+ \sum_{t=2}^{T} f(x + y - z)",
        r"+\; g",
    ]
    assert slides._broken(r"-a = -b + \begin{cases} c - d \end{cases}", most=1) == [
        r"-a = -b + \begin{cases} c - d \end{cases}"
    ]
    two = slides._equation(r"a = b, \qquad M = \begin{cases} c \\ d \end{cases} \tag{1.2}")
    assert two.count('<div class="equation">') == 2


def test_brackets_grow_and_norms_do_not():
    grown = slides.mathml(r"\Big(\frac ab\Big)^2")
    assert grown.count('stretchy="true"') == 2 and "<msup><mrow>" in grown
    assert slides.mathml(r"\|x\|^2").count('<mo stretchy="false">∥</mo>') == 2


def test_a_numbered_heading_is_no_list():
    assert slides._html("2. A bound", block=False) == "2. A bound"
    assert "<ol>" in slides._html("1. first\n2. second")


def test_a_pdf_that_lacks_slides_is_an_error(monkeypatch, tmp_path):
    """A browser that prints before the deck is there leaves one empty page."""
    target, printed = tmp_path / "99.pdf", b"/Type /Pages /Count 2 ... /Type /Page ... /Type/Page"
    pages = [slides.Slide("One", "<p>1</p>", "said"), slides.Slide("Two", "<p>2</p>")]
    text = slides.deck("99", pages, to_print=True)
    assert "reveal/print.css" in text and "Reveal.initialize" not in text

    def browser(command, **options):
        assert (tmp_path / "99.print.html").read_text("utf-8") == text
        assert command[-1].endswith("99.print.html") and f"--print-to-pdf={target}" in command
        target.write_bytes(printed)
        return subprocess.CompletedProcess(command, 0, stderr="busy")

    monkeypatch.setattr(slides.subprocess, "run", browser)
    slides.print_pdf("chromium", text, target)
    printed = b"/Type /Pages /Count 1 ... /Type /Page"
    with pytest.raises(OSError, match=r"printed 1 of 99\.pdf's 2 slides: busy"):
        slides.print_pdf("chromium", text, target)
    assert [path.name for path in tmp_path.iterdir()] == ["99.pdf"]
