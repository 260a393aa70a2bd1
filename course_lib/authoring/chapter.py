"""The rules for a chapter; `faults` lists those that a notebook breaks.

The parts, in order: title with promise, picture and objectives; set-up; sections; an explorable;
exercises; what good looks like; check yourself; summary. Visible code is short; the code of a
figure is tagged `hide-input`, and JupyterLab folds it.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib.authoring.form import canonical, code_digest, hero, pictures
from course_lib.teaching.style import PNG_LIMIT

SIZE_LIMIT = 1_500_000
LINES = {"set-up": 15, "cell": 40, "chapter": 450}  # at most this many lines of visible code
RUNNING = re.compile(r"running [^·\n]*?on \d+ CPU cores?")
EXERCISE = re.compile(
    r"### Exercise (\d+[a-z]?\.\d+) · (write|debug|predict|capstone) · [★☆]{3} · \d+ minutes?\n"
)
PARTS = ("## Exercises", "## What good looks like", "## Check yourself", "## Summary")
FORBIDDEN = re.compile(r"^\s*!|^\s*%(%bash|%sh|pip|conda|system|sx)|\bsys\.path\b", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|work|tmp|Users|mnt|opt|usr)/|[A-Z]:\\\\")


def faults(path: Path) -> list[str]:
    """Everything that is missing or wrong in a chapter, one line each; [] if it is finished."""
    notebook = nbformat.read(path, as_version=4)
    return [
        f"{path.name}: {fault}"
        for check in (
            faults_of_form,
            faults_of_cells,
            faults_of_length,
            faults_of_parts,
            faults_of_exercises,
        )
        for fault in check(notebook, path)
    ]


def faults_of_form(notebook: NotebookNode, path: Path):
    digest = notebook.metadata.get("course", {}).get("code_digest")
    if digest != code_digest(notebook):
        yield "its outputs were not made from its present code; run `make notebooks`"
    if nbformat.writes(canonical(notebook)).strip() != path.read_text("utf-8").strip():
        yield "it is not in the canonical form; run `make notebooks`"
    if path.stat().st_size > SIZE_LIMIT:
        yield f"it has {path.stat().st_size} bytes, limit {SIZE_LIMIT}"
    for number, picture in enumerate(pictures(notebook), 1):
        if len(picture) > PNG_LIMIT:
            yield f"figure {number} has {len(picture)} bytes, limit {PNG_LIMIT}"
    if "widgets" in notebook.metadata:
        yield "it holds widget state"


def faults_of_cells(notebook: NotebookNode, path: Path | None = None):
    ids = [cell.id for cell in notebook.cells]
    if len(set(ids)) != len(ids):
        yield "two cells share an id"
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if found := FORBIDDEN.search(cell.source):
            yield f"cell {cell.id} holds {found.group().strip()!r}: no shell, no pip, no sys.path"
        for output in cell.outputs:
            text = "".join(
                [output.get("text", ""), *map(str, output.get("data", {}).get("text/plain", ""))]
            )
            if output.output_type == "error":
                yield f"cell {cell.id} ends in {output.ename}"
            elif output.get("name") == "stderr":
                yield f"cell {cell.id} writes a warning: {output.text.strip()[:80]!r}"
            if found := MACHINE_PATH.search(text):
                yield f"cell {cell.id} prints a path of one machine: {found.group()!r}"


def faults_of_length(notebook: NotebookNode, path: Path | None = None):
    folded = {"solution", "hide-input"}
    seen = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and not folded & set(cell.metadata.get("tags", []))
    ]
    lines = [len(cell.source.splitlines()) for cell in seen]
    for i, (cell, count) in enumerate(zip(seen, lines, strict=True)):
        if count > (limit := LINES["cell" if i else "set-up"]):
            yield f"cell {cell.id} shows {count} lines of code, limit {limit}"
    if sum(lines) > LINES["chapter"]:
        yield f"it shows {sum(lines)} lines of code, limit {LINES['chapter']}"


def faults_of_parts(notebook: NotebookNode, path: Path):
    header, prose = (
        notebook.cells[0],
        "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"),
    )
    if not re.match(r"# \d+[a-z]? · ", header.source):
        yield "it does not start with its title, `# 09 · ...`"
    if not re.search(rf"!\[[^\]]+\]\(figures/{path.stem}\.png\)", header.source):
        yield f"its first cell does not show figures/{path.stem}.png with a description"
    figure = path.parent / "figures" / f"{path.stem}.png"
    if not hero(notebook) or not figure.exists() or figure.read_bytes() != hero(notebook):
        yield "no cell tagged `hero` makes the figure in its first cell"
    if not RUNNING.search(header.source):
        yield "its first cell does not say how long the notebook runs"
    if "](notation.md)" not in header.source:
        yield "its first cell does not link [notation](notation.md)"
    if not 3 <= len(re.findall(r"^- ", header.source, re.MULTILINE)) <= 5:
        yield "its first cell must list 3 to 5 objectives"
    places = [prose.find(f"\n{part}") for part in PARTS]
    if -1 in places or places != sorted(places):
        yield f"its last parts must be, in this order: {', '.join(PARTS)}"
    if prose[places[2] : places[3]].count("<details>") < 3:
        yield "`Check yourself` must hold three questions with folded answers"
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if not any("explorable(" in source for source in code):
        yield "it has no explorable"
    number = path.stem.partition("_")[0].removeprefix("0")
    last = f"progress({number})" if number.isdigit() else f'progress("{number}")'
    if code[-1:] != [last]:
        yield f"its last code cell is not `{last}`"


def faults_of_exercises(notebook: NotebookNode, path: Path):
    cells, kinds, count = notebook.cells, set(), 0
    for i, cell in enumerate(cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        count += 1
        asked = EXERCISE.match(cells[i - 1].source)
        if not asked:
            yield f"cell {cell.id}: no `### Exercise 9.1 · write · ★☆☆ · 5 minutes` above it"
            continue
        number, kind = asked.groups()
        kinds.add(kind)
        if "<details>" not in cells[i - 1].source:
            yield f"exercise {number} has no folded hint"
        solution = cells[i + 1] if i + 1 < len(cells) else cell
        if "solution" not in solution.metadata.get("tags", []):
            yield f"exercise {number} is not followed by its solution"
        if not solution.source.startswith("# Solution"):
            yield f"cell {solution.id} needs a first line `# Solution`: folded cells show that line"
        for each, verdict in ((cell, "not attempted"), (solution, "right")):
            if f'check("{number}"' not in each.source.split("\n")[-1]:
                yield f'cell {each.id} does not end in check("{number}", ...)'
            if verdict not in "".join(output.get("text", "") for output in each.outputs):
                yield f"cell {each.id}, exercise {number}, does not print {verdict!r}"
        if (kind == "capstone") != ("capstone" in cell.metadata.tags):
            yield f"exercise {number}: a capstone has that word in its heading and as a tag"
    if not 3 <= count <= 7:
        yield f"it has {count} exercises; 3 to 7 are asked for"
    if missing := {"write", "debug", "predict"} - kinds:
        yield f"no exercise of the kind: {', '.join(sorted(missing))}"
