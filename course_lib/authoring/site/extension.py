"""What the site adds to Sphinx: formulas as MathML, figures' alt texts, our plain docstrings."""

import base64
import hashlib
import html
import inspect
from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx

from course_lib.authoring.site import reference
from course_lib.authoring.site.docstrings import as_rst
from course_lib.authoring.slides import TAG, mathml


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    app.connect("builder-inited", colours, priority=100)  # before furo looks
    app.connect("html-page-context", headings, priority=900)  # after furo has made its menu
    app.connect("doctree-read", describe)
    app.connect("autodoc-process-docstring", translate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def colours(app: Sphinx) -> None:
    """Colours of code with enough contrast, in the dark too."""
    app.config.pygments_dark_style = "a11y-high-contrast-dark"


def headings(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """The menu's headings with the level that screen readers need, which Sphinx leaves out."""
    menu = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = menu.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def inline(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block(translator, node: nodes.math_block) -> None:
    """A line of its own, with its number on the right.

    In a chapter the equation can be linked as `#equation-1.3`; in the reference it links there.
    """
    tex, anchor, number = node.astext(), "", ""
    if tag := TAG.search(tex):
        name = html.escape(tag[1])
        number = f'<span class="eqno">({name})</span>'
        if translator.builder.current_docname.startswith("notebooks/"):
            anchor = f' id="equation-{name}"'
        else:
            _, chapter = reference.numbered_equations()[tag[1]]
            place = f"../notebooks/{chapter}.html#equation-{name}"
            number = f'<a class="eqno" href="{place}">({name})</a>'
    formula = mathml(TAG.sub("", tex).strip(), "block")
    translator.body.append(
        f'<div class="equation"{anchor}><div class="formula">{formula}</div>{number}</div>\n'
    )
    raise nodes.SkipNode


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure of a notebook the alt text that stands beside its output."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        alts = alt_texts(nbformat.read(path, as_version=4))
        for image in doctree.findall(nodes.image):
            image.setdefault("alt", alts.get(Path(image["uri"]).stem, ""))


def alt_texts(notebook: NotebookNode) -> dict[str, str]:
    """From a picture's SHA-256, which myst-nb makes its file name, to its description."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return {
        hashlib.sha256(base64.b64decode(output.data["image/png"])).hexdigest(): output.metadata.get(
            "image/png", {}
        ).get("alt", "")
        for output in outputs
        if "image/png" in output.get("data", {})
    }


def translate(app: Sphinx, what: str, name: str, thing, options, lines: list[str]) -> None:
    try:
        parameters = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # a module, a constant
        parameters = []
    lines[:] = as_rst(lines, parameters)
