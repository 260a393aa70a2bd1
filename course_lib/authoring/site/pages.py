"""What becomes a page of the site: a folder of sources for Sphinx, made from the repository.

It keeps the repository's own layout, so that links between chapters hold as they are.
"""

import re
import shutil
from importlib import metadata
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib.authoring import course_map, readme
from course_lib.authoring.editions import tags, without_solutions
from course_lib.authoring.form import code_digest
from course_lib.authoring.site import reference
from course_lib.common.paths import ROOT
from course_lib.teaching.credits import credits_table

NOTEBOOKS = ROOT / "notebooks"
ANSWERS = ("course_lib/exercises/", "tests/exercises/")  # code that is not shown
LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)*((?:course_lib|tests)/[^)\s]+\.py)\)")


def write(folder: Path, play: bool) -> None:
    """All sources, and in `folder/extra` what is copied into the site as it is."""
    (folder / "extra" / "downloads").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        nbformat.write(shown(notebook, path.stem), folder / "notebooks" / path.name)
        nbformat.write(handed_out(notebook), folder / "extra" / "downloads" / path.name)
    for name in ("notebooks/figures", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=not_pictures)
    texts = {"index.md": front(play), "install.md": install(), "map.md": the_map()}
    texts |= {"licences.md": licences(), "measured.md": list_of_measured()}
    texts |= reference.pages()
    texts |= {str(path.relative_to(ROOT)): page_of(path) for path in [*other_pages(), *measured()]}
    texts |= source_pages(folder, texts)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def chapters() -> list[Path]:
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def other_pages() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.md"))


def measured() -> list[Path]:
    return sorted([*(ROOT / "tests").glob("*.md"), *(ROOT / "tests/benchmarks").glob("*.md")])


def not_pictures(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not name.endswith(".png")}


# ---- chapters ----------------------------------------------------------------------------------

PROMPTS = {  # for tags that fold a cell, its button; myst-nb's tag does the folding
    "solution": ("hide-cell", "Show the solution", "Hide the solution"),
    "hide-input": ("hide-input", "Show the code of this figure", "Hide the code"),
}


def shown(notebook: NotebookNode, name: str) -> NotebookNode:
    """The chapter as a page: solutions and the code of figures are folded."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        for tag in tags(cell):
            if tag in PROMPTS:
                fold, show, hide = PROMPTS[tag]
                cell.metadata["tags"] = sorted({*tags(cell), fold})
                cell.metadata["mystnb"] = {"code_prompt_show": show, "code_prompt_hide": hide}
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, "../")
    note = nbformat.v4.new_markdown_cell(DOWNLOAD.format(name=name), id="download")
    notebook.cells.insert(1, note)
    return notebook


DOWNLOAD = (
    '<p class="download"><a href="../downloads/{name}.ipynb" download>Download this chapter</a>, '
    'without its solutions. It runs where the course is <a href="../install.html">installed</a>, '
    "in the folder <code>notebooks</code>.</p>"
)


def handed_out(notebook: NotebookNode) -> NotebookNode:
    """The chapter of the student edition."""
    notebook = without_solutions(nbformat.from_dict(notebook))
    notebook.metadata["course"] = {"code_digest": code_digest(notebook)}
    return notebook


def promise(path: Path) -> str:
    """The first sentence of a chapter, in bold there."""
    return re.search(r"\*\*(.+?)\*\*", nbformat.read(path, as_version=4).cells[0].source)[1]


# ---- pages made from the README ----------------------------------------------------------------


def sections() -> dict[str, str]:
    """The README's sections by heading, "" for what stands above the first."""
    text = re.sub(r"<!--.*?-->\n?", "", (ROOT / "README.md").read_text("utf-8"))
    text = text.replace("](data/emoji/README.md)", "](licences.md)")  # who drew the pictures
    opening, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    return {"": opening} | dict(part.split("\n", 1) for part in rest)


def front(play: bool) -> str:
    readme_parts = sections()
    listed = "\n".join(
        f"- [{title(path)}](notebooks/{path.name}): {promise(path)}" for path in chapters()
    )
    about = re.sub(r"\n\|.*", "", readme_parts["Chapters"]).strip()
    opening = readme_parts[""].strip().replace("](#", "](install.html#")
    return FRONT.format(
        opening=with_anchors(opening),
        play=PLAY if play else "",
        about=about,
        listed=listed,
        chapters="\n".join(f"notebooks/{path.stem}" for path in chapters()),
        others="\n".join(
            f"notebooks/{path.stem}" for path in other_pages() if path.stem != "lecturers"
        ),
    )


def title(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].source.split("\n")[0].removeprefix("# ")


PLAY = """
## Draw a picture here

<p><a class="play" href="play/index.html">Open the playground</a>: the trained model runs in your
browser. Nothing is installed, and nothing that you type leaves your computer.</p>
"""

FRONT = """\
{opening}
{play}
## Chapters

{about}

{listed}

```{{toctree}}
:hidden:
:caption: Chapters

{chapters}
```

```{{toctree}}
:hidden:
:caption: Beside the chapters

install
{others}
api/index
map
```

```{{toctree}}
:hidden:
:caption: About the course

notebooks/lecturers
measured
licences
```
"""


def install() -> str:
    left_out = ("", "Chapters", "Licence")
    parts = [f"## {name}\n{text}" for name, text in sections().items() if name not in left_out]
    text = "# Install and use\n\n" + "\n".join(parts)
    text = MAP_TABLE.sub(MAP_LINK, text)
    return with_anchors(linked(text, ""))


MAP_TABLE = re.compile(r"<details><summary><b>Each chapter's modules.*?</details>", re.DOTALL)
MAP_LINK = "[The map](map.md) lists each chapter's modules, and the tests that check them."


def with_anchors(text: str) -> str:
    """Links to an anchor as HTML, which MyST would look for among the headings."""
    return re.sub(r"\[([^\]]+)\]\(((?:\w+\.html)?#[^)]+)\)", r'<a href="\2">\1</a>', text)


# ---- the map, and code that it leads to --------------------------------------------------------


def the_map() -> str:
    table = "\n".join(course_map.table())
    return linked(f"{MAP}\n{table}\n", "")


MAP = """\
# Map: chapters, modules, tests

For each chapter, the modules that it imports and the tests that check it: those of its numbered
equations, and those that mirror the modules. The tests of the exercises are named but not shown,
because they hold the answers.
"""


def linked(text: str, up: str) -> str:
    """Links to Python files lead to the reference, or to a page that shows the file.

    up: the way from the page to the site's top.
    """

    def link(found: re.Match) -> str:
        label, path = found.groups()
        if path.startswith(ANSWERS) or not (ROOT / path).is_file():
            return label
        if place := reference.places().get(Path(path)):
            return f'<a href="{up}{place}">{label}</a>'
        return f"[{label}]({up}source/{path}.md)"

    return LINK.sub(link, text)


def source_pages(folder: Path, texts: dict[str, str]) -> dict[str, str]:
    """A page for each Python file that some page links to."""
    every = [*texts.values(), *(path.read_text("utf-8") for path in folder.rglob("*.ipynb"))]
    paths = {path for text in every for path in re.findall(r"source/([\w/]+\.py)\.md\)", text)}
    return {f"source/{path}.md": source_page(path) for path in sorted(paths)}


def source_page(path: str) -> str:
    code = (ROOT / path).read_text("utf-8")
    return f"---\norphan: true\nnosearch: true\n---\n# {path}\n\n````python\n{code}\n````\n"


# ---- other pages -------------------------------------------------------------------------------


def page_of(path: Path) -> str:
    """A Markdown page of the repository."""
    text = path.read_text("utf-8")
    up = "../" * (len(path.relative_to(ROOT).parts) - 1)
    if path.name == "lecturers.md":
        text = re.sub(r"^\*\*Key\*\*.*$", NO_KEY, text, flags=re.MULTILINE)
    return linked(text, up)


NO_KEY = "The key is not on the site. It stands in the repository's `notebooks/lecturers.md`."


def licences() -> str:
    ours = (ROOT / "LICENSE").read_text("utf-8")
    files = sorted((ROOT / "course_lib").rglob("*LICENSE*"))
    vendored = [f"### {path.relative_to(ROOT)}\n\n{literal(path)}" for path in files]
    models = "\n".join(readme.models())
    tools = "\n".join(f"- {name} {metadata.version(name)}: {of}" for name, of in TOOLS.items())
    data = "\n".join(credits_table())
    parts = dict(models=models, data=data, tools=tools, vendored="\n\n".join(vendored))
    return LICENCES.format(ours=ours, **parts)


def literal(path: Path) -> str:
    return f"```text\n{path.read_text('utf-8').strip()}\n```"


TOOLS = {  # whose style sheets and scripts are part of the pages
    "furo": "the pages' look, MIT",
    "Sphinx": "search and the pages' structure, BSD-2-Clause",
    "Pygments": "the colours of code, BSD-2-Clause",
}

LICENCES = """\
# Licences

## The course

```text
{ours}
```

## Trained models

All of them were trained by the course's own commands, and are CC BY 4.0.

{models}

## Data

{data}

MNIST, FashionMNIST and CIFAR-10 are downloaded from their publishers when you ask for them, and are
not part of the course.

## What these pages contain of others

{tools}

{vendored}
"""


def list_of_measured() -> str:
    listed = "\n".join(str(path.relative_to(ROOT).with_suffix("")) for path in measured())
    return MEASURED.format(listed=listed)


MEASURED = """\
# What was measured

Tables that commands of the repository write, and the log of what was tried.

```{{toctree}}
:maxdepth: 1

{listed}
```
"""
