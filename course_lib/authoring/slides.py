"""Slides from the chapters: cells tagged `slide` become a reveal.js deck that needs no network.

    course edition slides OUT            # a deck for each chapter
    course edition slides OUT --pdf      # and each as PDF, printed by Chromium or Chrome

A code cell gives its figure, with its caption; a Markdown cell gives its numbered equations. The
prose around them becomes the speaker notes (press S). Title, objectives and the questions of "Check
yourself" are added. Formulas are MathML, which browsers draw themselves.
"""

import base64
import html
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mistune
import nbformat
from latex2mathml.converter import convert
from nbformat import NotebookNode

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import ROOT

REVEAL = Path(__file__).with_name("reveal")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+)\$")
QUESTIONS = re.compile(r"^## Check yourself\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
HEADING = re.compile(r"^(#{1,3}) (.+)$", re.MULTILINE)
CAPTION = re.compile(r"\*(?!\*)(.*?[.!?)])\*(?=\s|$)\s*", re.DOTALL)
OF_ONE_FIGURE = re.compile(  # in the caption of several: "Second figure:", "The grid:", "Below,"
    r"(?:^|(?<=[.!?)] ))(?:(?:First|Second|Third) figure[:,]|Below[:,]|The [a-z]+(?: [a-z]+)?:) "
)
ALPHABETS = re.compile(r"\\math(bb|cal)\s*\{?([A-Z])\}?")
LARGE = re.compile(r"\\(?:big|Big|bigg|Bigg)[lr]?\s*([()\[\]])")
NORM = re.compile(r"<m[io]>([‖∥])</m[io]>")
FUNCTION = re.compile(  # without a bracket, and no base of an index or exponent
    r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(<mi>(?:log|exp|sin|cos)</mi>)(?!<mo[^>]*>&#x00028;)"
)
PDF_PAGE = re.compile(rb"/Type\s*/Page\b")
SIGNS = {"=", "+", "-", r"\le", r"\ge", r"\approx", r"\propto", r"\Longleftrightarrow"}
INVISIBLE = re.compile(
    r"\\(?:[bB]igg?|math[a-z]+|text|operatorname|underbrace|left|right|frac)\b|\\[,;!:]|[{}_^&\s]"
)
SYMBOLS = {  # of TeX, which the converter leaves as they are
    r"\langle": "⟨", r"\rangle": "⟩", r"\lVert": "‖", r"\rVert": "‖", r"\arg": r"\mathrm{arg}",
}  # fmt: skip


@dataclass(frozen=True)
class Slide:
    """One slide: its heading, what it shows as HTML, and what the speaker says as Markdown."""

    title: str
    body: str
    notes: str = ""
    level: int = 2  # of the heading


def slides(notebook: NotebookNode, figures: Path) -> list[Slide]:
    """The slides of a chapter, in order. figures: the folder that holds its first picture."""
    header = notebook.cells[0].source
    return [
        _opening(header, figures),
        _objectives(header),
        *_tagged(notebook.cells),
        *_questions(notebook.cells),
    ]


def _opening(header: str, figures: Path) -> Slide:
    title, promise = header.split("\n")[0].removeprefix("# "), re.search(r"\*\*(.+?)\*\*", header)
    alt, name = re.search(r"!\[([^\]]*)\]\(figures/([^)]+)\)", header).groups()
    picture = (figures / name).read_bytes()
    shown = f"<figcaption>{_html(promise[1], block=False)}</figcaption>"
    figure = f"<figure>{_image(picture, alt)}{shown}</figure>"
    return Slide(title, figure, level=1)


def _objectives(header: str) -> Slide:
    lines = re.findall(r"^- .+$", header, re.MULTILINE)
    return Slide("After this chapter you can", _html("\n".join(lines)))


def _tagged(cells: list[NotebookNode]) -> Iterator[Slide]:
    title, shown = "", []  # the figures since the last text, each None unless it is for a slide
    for cell in cells:
        tagged = "slide" in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            pictures = _pictures(cell)
            if tagged and not pictures:
                raise ValueError(f"cell {cell.id} is tagged `slide` and has no figure")
            shown += [each if tagged else None for each in pictures]
            continue
        yield from _figures(title, shown, cell.source)
        shown = []
        if tagged:
            yield from _equations(title, cell.source)
        if headings := HEADING.findall(cell.source):
            title = headings[-1][1]


def _pictures(cell: NotebookNode) -> list[str]:
    return [
        _image(base64.b64decode(data), output.metadata.get("image/png", {}).get("alt", ""))
        for output in cell.outputs
        if (data := output.get("data", {}).get("image/png"))
    ]


def _figures(title: str, shown: list[str | None], says: str) -> Iterator[Slide]:
    """A slide for each of the figures, with what the text below says of it."""
    caption, rest = _caption(says)
    notes, captions = HEADING.split(rest)[0], _captions(caption, len(shown))
    for picture, caption in zip(shown, captions, strict=True):
        if picture:
            size = ' class="long"' if len(caption) > 250 else ""
            below = f"<figcaption{size}>{_html(caption, block=False)}</figcaption>"
            yield Slide(title, f"<figure>{picture}{below * bool(caption)}</figure>", notes)


def _caption(text: str) -> tuple[str, str]:
    """The caption that a text begins with, in italics, and the rest.

    >>> _caption("*Look at the dots.* There are *many*.")
    ('Look at the dots.', 'There are *many*.')
    """
    found = CAPTION.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _captions(text: str, count: int) -> list[str]:
    """A caption for each of several figures: its own part if the text says so, else all of it.

    >>> _captions("First figure: rising. Second figure: a digit.", 2)
    ['Rising.', 'A digit.']
    """
    parts = [each.strip() for each in OF_ONE_FIGURE.split(text) if each.strip()]
    if count < 2 or len(parts) != count:
        return [text] * count
    return [part[0].upper() + part[1:] for part in parts]


def _equations(title: str, source: str) -> Iterator[Slide]:
    """A slide for each section of the cell that has numbered equations."""
    parts = HEADING.split(_caption(source)[1])
    for heading, text in zip([title, *parts[2::3]], parts[0::3], strict=True):
        numbered = [each for each in DISPLAY.findall(text) if TAG.search(each)]
        if numbered:
            yield Slide(heading, "".join(map(_equation, numbered)), text)


def _questions(cells: list[NotebookNode]) -> Iterator[Slide]:
    """The questions of "Check yourself"; their folded answers are for the speaker."""
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    if section := QUESTIONS.search(prose):
        asked = re.sub(r"<details>.*?</details>", "", section[1], flags=re.DOTALL)
        folded = re.findall(r"<details>.*?</summary>(.*?)</details>", section[1], re.DOTALL)
        answers = "\n\n".join(each.strip() for each in folded)
        yield Slide("Check yourself", _html(asked.strip()), answers)


# ---- HTML ------------------------------------------------------------------------------------


def mathml(tex: str, display: str = "inline") -> str:
    """A formula as MathML.

    >>> mathml("x^2")[:35]
    '<math xmlns="http://www.w3.org/1998'
    """
    tex = ALPHABETS.sub(_letter, tex).replace(r"\|", "∥ ")
    tex = re.sub(r"\\[bB]igg?[lr]?\s*(?=[∥‖])", "", tex)  # fonts don't make it larger below ²
    tex = LARGE.sub(lambda found: (r"\left" if found[1] in "([" else r"\right") + found[1], tex)
    for name, symbol in SYMBOLS.items():
        tex = re.sub(re.escape(name) + r"(?![a-zA-Z])", lambda found, s=symbol: s, tex)
    formula = NORM.sub(r'<mo stretchy="false">\1</mo>', convert(tex.strip(), display=display))
    return FUNCTION.sub(r'\1<mspace width="0.17em"/>', formula)


def _letter(found: re.Match) -> str:
    """A letter of \\mathbb or \\mathcal as its character, since MathML has no such alphabets."""
    kind = {"bb": "DOUBLE-STRUCK", "cal": "SCRIPT"}[found[1]]
    for prefix in ("MATHEMATICAL ", ""):  # Unicode lists ℝ and a few others apart
        try:
            return unicodedata.lookup(f"{prefix}{kind} CAPITAL {found[2]}")
        except KeyError:
            continue
    return found[2]


def _equation(tex: str) -> str:
    """A numbered equation; what \\qquad sets apart gets a line of its own, as does a long side."""
    number = f'<span class="number">({html.escape(TAG.search(tex)[1])})</span>'
    tex = TAG.sub("", tex).strip()
    lines = tex.split(r"\qquad")
    pairs = (("{", "}"), (r"\begin", r"\end"))
    if any(line.count(a) != line.count(b) for line in lines for a, b in pairs):
        lines = [tex]
    lines = [each for line in lines for each in _broken(line)]
    formulas = [mathml(line).replace("<math ", '<math displaystyle="true" ', 1) for line in lines]
    formulas[-1] += number
    return "".join(f'<div class="equation"><span>{each}</span></div>' for each in formulas)


def _broken(tex: str, most: int = 42) -> list[str]:
    """A formula in lines of about `most` symbols, broken before signs outside all brackets.

    >>> _broken("y = (a - b) + c + d", most=8)
    ['y = (a - b)', '+ c + d']
    """
    if r"\begin" in tex:
        return [tex]
    parts, depth = [""], 0
    for token in re.findall(r"\\[a-zA-Z]+|\\.|.", tex, re.DOTALL):
        if depth == 0 and token in SIGNS and re.search(r"\w", parts[-1]):
            parts.append("")
        parts[-1] += token
        depth += (token in "([{") - (token in ")]}")
    lines = [parts[0]]
    for part in parts[1:]:
        if _symbols(lines[-1] + part) > most:
            lines.append(part)
        else:
            lines[-1] += part
    return [re.sub(r"(?:\s|\\[,;:!]|\\quad)+$", "", line.strip()) for line in lines]


def _symbols(tex: str) -> int:
    """About how many symbols a formula shows."""
    return len(re.sub(r"\\[a-zA-Z]+", "x", INVISIBLE.sub("", tex)))


def _html(text: str, block: bool = True) -> str:
    """Markdown with formulas as HTML; block=False: without the paragraph around it."""
    formulas: list[str] = []

    def keep(tex: str, display: str) -> str:
        formulas.append(mathml(TAG.sub("", tex), display))
        return f"\x02{len(formulas) - 1}\x03"

    text = DISPLAY.sub(lambda found: keep(found[1], "block"), text)
    text = INLINE.sub(lambda found: keep(found[1], "inline"), text)
    if not block:
        text = re.sub(r"^(\d+)\. ", r"\1\\. ", text)  # a numbered heading is no list
    page = mistune.create_markdown(escape=False, plugins=["table"])(text).strip()
    page = re.sub("\x02(\\d+)\x03", lambda found: formulas[int(found[1])], page)
    return page if block else page.removeprefix("<p>").removesuffix("</p>")


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def deck(title: str, pages: list[Slide], to_print: bool = False) -> str:
    """The whole HTML page of a deck, beside the folder `reveal`.

    to_print: one slide below the other, a page each, ready as soon as the page has loaded.
    """
    page = PAGE.replace("STYLE", "print" if to_print else "reveal")
    page = page.replace("SHOW", "fit();" if to_print else SHOW)
    page = page.replace("TITLE", html.escape(title))
    return page.replace("SECTIONS", "\n".join(map(_section, pages)))


def _section(page: Slide) -> str:
    heading = f"<h{page.level}>{_html(page.title, block=False)}</h{page.level}>"
    notes = f'<aside class="notes">{_html(page.notes)}</aside>' if page.notes.strip() else ""
    shown = f'<div class="page">{heading}<div class="stage">{page.body}</div></div>'
    return f"<section>{shown}{notes}</section>"


SHOW = """for (const moment of ["ready", "slidechanged"]) Reveal.on(moment, fit);
Reveal.initialize({ width: 1000, height: 700, center: false, hash: true, slideNumber: "c/t",
                    transition: "none", plugins: [RevealNotes] });"""
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>TITLE</title>
<link rel="stylesheet" href="reveal/reset.css">
<link rel="stylesheet" href="reveal/STYLE.css">
<link rel="stylesheet" href="reveal/course.css">
</head>
<body>
<div class="reveal"><div class="slides">
SECTIONS
</div></div>
<script src="reveal/reveal.js"></script>
<script src="reveal/notes.js"></script>
<script>
const width = (node) => node.getBoundingClientRect().width;
function fit() {  // long equations shrink to the slide's width, and many to its height
  for (const line of document.querySelectorAll(".equation")) {
    const [content, room] = [width(line.firstElementChild), width(line.parentElement)];
    if (content > room) line.style.fontSize = `${0.98 * room / content}em`;
  }
  for (const stage of document.querySelectorAll(".stage")) {
    for (let size = 0.95; stage.scrollHeight > stage.clientHeight && size > 0.3; size -= 0.05)
      stage.style.fontSize = `${size}em`;
  }
}
SHOW
</script>
</body>
</html>
"""


def make(out: Path, chapters: list[Path], pdf: bool = False) -> list[Path]:
    """Write a deck for each chapter into the folder `out`; the files written.

    OSError where pdf is asked for and no browser is found.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if pdf and not browser:
        raise OSError(f"slides as PDF need a browser, one of {', '.join(BROWSERS)}; found none")
    make_folder(out / "reveal")
    write_files({out / "reveal" / file.name: file.read_bytes() for file in REVEAL.iterdir()})
    written = []
    for path in chapters:
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
        pages = slides(notebook, path.parent / "figures")
        page = out / f"{path.stem}.html"
        write_files({page: deck(title, pages).encode()})
        written.append(page)
        if pdf:
            written.append(page.with_suffix(".pdf"))
            print_pdf(browser, deck(title, pages, to_print=True), written[-1])
    return written


def print_pdf(browser: str, text: str, target: Path) -> None:
    """Print the deck; OSError if the browser didn't print every slide."""
    page = target.with_suffix(".print.html")
    page.write_text(text, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command = [browser, *options, f"--print-to-pdf={target}", page.resolve().as_uri()]
    target.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    finally:
        page.unlink()
    count = text.count("<section>")
    printed = len(PDF_PAGE.findall(target.read_bytes())) if target.is_file() else 0
    if printed != count:
        why = done.stderr.strip()[-200:]
        raise OSError(f"{browser} printed {printed} of {target.name}'s {count} slides: {why}")


def chapters(names: list[str] | None = None) -> list[Path]:
    """The chapters with these numbers ("02", "15a"), all of them if none is given."""
    found = {
        path.stem.partition("_")[0]: path
        for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    }
    for name in names or []:
        if name not in found:
            raise ValueError(f"expected a chapter, one of {', '.join(found)}; got {name!r}")
    return [found[name] for name in names or found]
