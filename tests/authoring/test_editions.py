"""The editions: a student's has no key and judges as the full course does."""

import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import course_lib.exercises as exercises
from course_lib.authoring import editions, experiments, keyless, lecturer
from course_lib.common.paths import ROOT
from course_lib.teaching.answers import source_of_body
from course_lib.teaching.check import EXERCISES, Choice, Code, Number, Target
from course_lib.teaching.recorded_cases import cell, record
from course_lib.teaching.sealed import opened, seal

COMPARE = Path(__file__).with_name("compare_editions.py")
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def box(tmp_path_factory):
    """A student edition."""
    folder = tmp_path_factory.mktemp("student") / "course"
    editions.student(folder)
    return folder


def inside(box, *command, **environment):
    """Run Python inside an edition; its output, if it ends well."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=box / "notebooks",
        env=os.environ | {"PYTHONPATH": str(box)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_student_edition_judges_as_the_full_one(box):
    """References, misconceptions, given code and stubs: the same verdicts, word for word."""
    lines = inside(box, COMPARE, Path(exercises.__file__).parent).splitlines()
    assert len(lines) == 1, "\n".join(lines[:40])
    assert int(lines[0]) > 500


def test_it_has_all_the_data_that_the_course_ships(box):
    """Whatever .gitignore doesn't keep out of `data`."""
    shipped = re.findall(r"^!/(data/.+?)/?$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
    assert len(shipped) > 5
    for name in shipped:
        ours = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*") if path.is_file()}
        assert (box / name).exists() and all((box / path).exists() for path in ours), name


def test_it_is_the_edition_s_own_package_that_judges(box):
    asked = "import course_lib.exercises as e; print(e.__file__)"
    assert inside(box, "-c", asked).strip() == str(box / "course_lib/exercises/__init__.py")


# ---- the key -----------------------------------------------------------------------------------


def texts(folder):
    """Everything in a folder that can be read as text, and the structure of recorded data."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".py", ".ipynb", ".md", ".json", ".toml", ".js"}:
            yield path.read_text("utf-8")
        elif path.parent.name == "recorded" and path.suffix == ".safetensors":
            yield path.read_bytes().decode("latin-1")


def trees(folder):
    """All the code of a folder: modules, and the cells of notebooks."""
    for path in folder.rglob("*.py"):
        yield ast.parse(path.read_text("utf-8"))
    for path in folder.rglob("*.ipynb"):
        for each in nbformat.read(path, as_version=4).cells:
            if each.cell_type == "code" and not each.source.lstrip().startswith(("%", "!")):
                yield ast.parse(each.source)


def found_in(folder):
    """What of the key a search finds: pairs of an exercise and what gives it away."""
    everything, bodies, calls, found = "\n".join(texts(folder)), set(), {}, set()
    for tree in trees(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[ast.get_docstring(node) is not None :]
                bodies.add("\n".join(map(ast.unparse, body)))
            if isinstance(node, ast.ClassDef):
                bodies.add(ast.unparse(node))
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                calls |= {k.value: ast.unparse(v) for k, v in pairs if isinstance(k, ast.Constant)}
    for number, exercise in EXERCISES.items():
        match exercise:
            case Code() | Target():
                clues = {"reference": source_of_body(exercise.reference) in bodies}
            case Choice(right, why):
                clues = {"letter": calls.get(number, "").startswith(f"Choice('{right}'")}
                clues["reasons"] = any(text[:40] in everything for text in why.values())
            case Number():
                clues = {"number": calls.get(number, "").startswith("Number(")}
        if isinstance(exercise, Code | Number):
            clues["praise"] = exercise.well_done[:40] in everything
        found |= {(number, clue) for clue, holds in clues.items() if holds}
    return found


def test_the_key_is_in_the_full_course_and_not_in_the_students(box):
    key = found_in(ROOT / "course_lib")
    for number, exercise in EXERCISES.items():
        clue = {Choice: "letter", Number: "number"}.get(type(exercise), "reference")
        assert (number, clue) in key, "the search would miss this"
    assert found_in(box) == set()


def test_predictions_cannot_be_read_off():
    """Recorded twice, nothing but the salted hashes and the grids is there, and no hash repeats."""
    for exercise in EXERCISES.values():
        if isinstance(exercise, Choice | Number):
            first, second = record(exercise), record(exercise)
            assert set(first) == {"letters", "sealed"}
            hashes = [sealed for _, sealed in (*first["sealed"], *second["sealed"])]
            assert len(set(hashes)) == len(hashes)
            for grid, _ in first["sealed"]:
                assert grid == "" or 0 <= grid[0] < grid[1] < 0.5


def test_a_grid_says_nothing_of_which_cell_is_right():
    """Numbers a whole cell apart have the same grid."""
    width = math.log(1.05 / 0.95)
    grids = [record(Number(3.0 * math.exp(n * width), ""))["sealed"][0][0] for n in (0, 7, -20)]
    for grid in grids:
        assert grid == pytest.approx(grids[0], abs=1e-9)


def test_a_text_opens_with_its_key_alone():
    sealed = seal("Größer als 0.", "b")
    assert opened(sealed, "b") == "Größer als 0." and opened(sealed, "a") is None
    assert sealed != seal("Größer als 0.", "b")


@pytest.mark.parametrize("number", [3.0, -3.0, 1e-7, 6.02e23])
def test_a_cell_holds_what_is_near_enough(number):
    (start, width), _ = record(Number(number, "", within=0.01))["sealed"][0]
    same = [cell(number * f, start, width) for f in (0.9901, 1, 1.0099)]
    others = [cell(number * f, start, width) for f in (0.9899, 1.0101, -1)]
    assert len(set(same)) == 1 and not set(same) & set(others)


def test_a_judge_that_needs_the_reference_is_refused(monkeypatch):
    """Capstone 3.6, if it were measured with its own reference."""
    source = keyless.Source("capstones", keyless.exercises_of("capstones"))
    node = source.defined["exact_flow"]
    node.body.append(ast.parse("ddim(network, noise, ALPHA_BARS, 1000)").body[0])
    with pytest.raises(ValueError, match="needs the reference ddim"):
        source.kept()


# ---- the chapters ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_keep_all_but_solutions(box, name):
    full, ours = (
        nbformat.read(folder / "notebooks" / name, as_version=4).cells for folder in (ROOT, box)
    )
    kept = [each for each in full if "solution" not in editions.tags(each)]
    experiments.hide(kept)
    for each in kept:
        if "exercise" in editions.tags(each):
            each.outputs, each.execution_count = [], None
    code = [each for each in kept if each.cell_type == "code"]
    assert [each for each in ours if each.cell_type == "code"] == code
    assert [each.id for each in ours] == [each.id for each in kept]
    assert not any("The solution is" in each.source for each in ours)


@pytest.mark.parametrize("name", CHAPTERS)
def test_nothing_between_the_exercises_shows_what_they_ask(box, name):
    """No outputs from an exercise to the end of its section; elsewhere the outputs are kept."""
    full, ours = (
        {each.id: each for each in nbformat.read(folder / "notebooks" / name, as_version=4).cells}
        for folder in (ROOT, box)
    )
    places = [i for i, each in full.items() if "exercise" in editions.tags(each)]
    order = list(full)
    asked = set()
    for place in places:
        section = order[order.index(place) :]
        end = next(i for i in section if re.search(r"^## ", full[i].source, re.MULTILINE))
        asked |= {*section[: section.index(end)]}
    code = [each for i, each in ours.items() if i in asked and each.cell_type == "code"]
    assert not any(each.outputs for each in code)
    others = [i for i, each in full.items() if i not in asked and each.cell_type == "code"]
    assert all(ours[i].outputs == full[i].outputs for i in others)


def test_an_experiment_waits_for_the_prediction():
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    shown = [nbformat.v4.new_output("stream", text="7")]
    cells = [
        code("1", outputs=shown),
        text("Before.\n\n## Exercises\n\nHow."),
        text("### Exercise 1.1 · predict"),
        code("...", outputs=shown, metadata={"tags": ["exercise"]}),
        text("Now with 7 of them:"),
        code("print(7)", outputs=shown),
        text("It is 7."),
        text("### Exercise 1.2 · write"),
        text("Why 7? Below."),
        text("## What good looks like"),
        code("2", outputs=shown),
        text("Fine."),
    ]
    experiments.hide(cells)
    assert [bool(each.outputs) for each in cells if each.cell_type == "code"] == [1, 1, 0, 1]
    folded = [each.source for each in cells if each.source.startswith("<details>")]
    assert len(folded) == 1 and "\n\nIt is 7.\n\n</details>" in folded[0]
    assert [each.metadata.get("jupyter") for each in cells].count({"source_hidden": True}) == 1


RUN = """
import nbformat, sys
from course_lib.authoring.notebooks import execute
notebook = nbformat.read(sys.argv[1], as_version=4)
execute(notebook)
texts = [o.get("text", "") for c in notebook.cells for o in c.get("outputs", [])
         if "exercise" in c.metadata.get("tags", [])]
print(*(text.split()[2:4] == ["not", "attempted"] for text in texts))
"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_run_from_top_to_bottom(box, name, request):
    """In a kernel that has the edition's package alone; exercises say "not attempted"."""
    if name[:2] not in ("01", "13") and not request.config.getoption("--editions"):
        pytest.skip("make test-editions runs this chapter")
    said = inside(box, "-c", RUN, box / "notebooks" / name).split()
    assert said and set(said) == {"True"}


def test_capstones_are_reached_in_the_student_edition(box, request):
    if not request.config.getoption("--editions"):
        pytest.skip("make test-editions trains the capstones' references")
    lines = inside(box, COMPARE, Path(exercises.__file__).parent, "--capstones").splitlines()
    assert len(lines) == 1, "\n".join(lines[:40])


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        editions.student(tmp_path)


def test_an_edition_cannot_be_made_from_a_student_edition(box):
    asked = "from course_lib.authoring import editions; from pathlib import Path\n"
    asked += "try: editions.student(Path('again'))\nexcept ValueError as error: print(error)"
    assert "without the key" in inside(box, "-c", asked)


# ---- for lecturers, and for Colab --------------------------------------------------------------


def chapter(name="00_start_here"):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_a_lecturer_sees_times_and_common_errors(tmp_path):
    cells = lecturer.with_notes(chapter()).cells
    assert "| 0.1 | write |" in cells[1].source and "Questions for the class" in cells[1].source
    notes = {cell.id: cell.source for cell in cells if cell.id.startswith("lecturer-errors")}
    assert list(notes) == ["lecturer-errors-0-1", "lecturer-errors-0-2", "lecturer-errors-0-3"]
    assert "**zero to one**: Now black is 0 and white is 1" in notes["lecturer-errors-0-1"]
    assert "**(c)**: Chance enters only" in notes["lecturer-errors-0-3"]
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_exercise_has_its_answer_in_the_pdf(name):
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    lines = list(lecturer.answers(notebook))
    asked = [line for line in lines if line.startswith("Exercise ")]
    assert len(asked) == sum("exercise" in editions.tags(cell) for cell in notebook.cells)
    assert sum("# Solution" in line for line in lines) == len(asked)


def test_the_answers_are_a_pdf(tmp_path):
    nbformat.write(chapter(), tmp_path / "00_start_here.ipynb")
    lecturer.write_answers(tmp_path, tmp_path / "answers.pdf")
    assert (tmp_path / "answers.pdf").read_bytes()[:5] == b"%PDF-"


def test_colab_chapters_fetch_the_course_first(tmp_path):
    editions.colab(tmp_path / "colab", "https://example.org/course.git")
    for name in CHAPTERS:
        cells = nbformat.read(tmp_path / "colab" / "notebooks" / name, as_version=4).cells
        first = next(cell for cell in cells if cell.cell_type == "code")
        assert "git clone --quiet --depth 1 https://example.org/course.git" in first.source
        assert sum("git clone" in cell.source for cell in cells) == 1


def test_a_students_pages_link_only_to_what_is_there(box):
    assert not (box / "notebooks" / "lecturers.md").exists()  # the concept test has its key there
    page = (box / "README.md").read_text("utf-8")
    assert "](notebooks/00_start_here.ipynb)" in page and "](tests/" not in page
