"""Grading: fair verdicts for honest work, one clear line for anything else, and no way out."""

import csv
import io
import json
import os
from pathlib import Path

import nbformat
import pytest
import torch

from course_lib.authoring import attempts, grade, sandbox
from course_lib.authoring import submissions as handed_in
from course_lib.authoring.class_picture import class_picture
from course_lib.authoring.grade import Grader, Row, as_csv, attempt_of
from course_lib.authoring.submissions import Refused, submissions
from course_lib.common.paths import ROOT
from course_lib.teaching.check import EXERCISES, Code
from course_lib.teaching.plain import dumps
from tests.authoring.submissions import NAMES, RIGHT, body, cell, hand_in, notebook

SEED = 7
confined = pytest.mark.skipif(bool(sandbox.faults()), reason="this machine can't confine code")


def reads(path):
    return body(f"return open({str(path)!r}).read()")


def tampered():
    """Its own check, and the package's judges changed from within."""
    lines = [
        "import course_lib.teaching.check as c",
        "import course_lib.teaching.compare as d",
        "c.agree = d.agree = lambda *rest: True",
        "c.Compared.examine = c.Compared.judge = lambda *rest: c.Verdict('right', '.')",
        "check = lambda *rest: print('✓')",
    ]
    return notebook(RIGHT | body("return picture.float()"), "\n".join(lines))


def forged():
    """It writes a right verdict to every file that is open."""
    code = """
    import os
    from dataclasses import asdict
    from course_lib.authoring.attempts import send
    from course_lib.teaching.check import Attempt, Verdict
    fault = asdict(Verdict("right", "."))
    for channel in range(3, 30):
        try:
            send(channel, {"number": "0.1", "attempt": vars(Attempt()) | {"fault": fault}})
        except OSError:
            pass
    return picture"""
    return notebook(RIGHT | body("\n".join(line[4:] for line in code.strip("\n").split("\n"))))


def classroom(secret: Path, outside: Path, port: int) -> dict[str, str]:
    """Each student's notebook."""
    connect = f"import socket\nreturn socket.create_connection(('127.0.0.1', {port}), timeout=3)"
    renamed = notebook(RIGHT).replace("to_signed", "my_own_name")
    half_renamed = notebook(RIGHT).replace("def to_signed", "def my_own_name")
    return {
        "blank": notebook({}),
        "right": notebook(RIGHT),
        "mistaken": notebook(body("return picture.float() / 255") | {"0.3": 'my_answer = "c"'}),
        "renamed": renamed,
        "half-renamed": half_renamed,
        "no-checks": notebook(RIGHT, checks=False),
        "tampered": tampered(),
        "forged": forged(),
        "loop-and-exit": notebook(
            RIGHT
            | body("while True: pass")
            | {"0.2": "def add_noise(x0, eps, t):\n    import os\n    os._exit(0)"}
        ),
        "fork-bomb": notebook(RIGHT | body("import os\nwhile True:\n    os.fork()")),
        "key": notebook(RIGHT | reads(ROOT / "course_lib" / "exercises" / "ch00.py")),
        "key-by-import": notebook(
            RIGHT
            | body("from course_lib.exercises.ch00 import to_signed\nreturn to_signed(picture)")
        ),
        "home": notebook(
            RIGHT | reads(secret) | {"0.3": f"my_answer = open({str(secret)!r}).read()"}
        ),
        "outside": notebook(RIGHT | body(f"open({str(outside)!r}, 'w').write('x')\nreturn 1")),
        "package": notebook(RIGHT | body("open('/course/course_lib/x.py', 'w')\nreturn 1")),
        "network": notebook(RIGHT | body(connect)),
        "kills": notebook(RIGHT | body("import os\nos.kill(-1, 9)\nos.kill(os.getppid(), 9)")),
        "prints": notebook(RIGHT | body("print('x' * 200_000_000)\nreturn picture / 127.5 - 1")),
        "memory": notebook(RIGHT | body("return torch.ones(2_000_000_000)")),
        "large": notebook(RIGHT | body("return torch.ones(20_000_000)")),
        "not-json": '{"cells": [',
        "not-a-notebook": "[1, 2]",
        "=formula": notebook({}),
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """All of them graded together: (student, exercise) -> row."""
    import socket

    folder = tmp_path_factory.mktemp("class")
    (folder / "secret").write_text("the lecturer's own")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        students = classroom(folder / "secret", folder / "outside", port)
        for student, text in students.items():
            hand_in(folder / "submissions", student, text)
        found = grade.grade(folder / "submissions", SEED, folder / "cache.json", seconds=8)
        table = {(row.student, row.exercise): row for each in found for row in each}
    assert {student for student, _ in table} == set(students)
    assert not (folder / "outside").exists()
    return table


def verdicts(rows, student):
    return [rows[student, number].verdict for number in NAMES]


@confined
def test_honest_work_gets_its_verdicts(rows):
    assert verdicts(rows, "right") == ["right"] * 3
    assert verdicts(rows, "blank") == ["not attempted"] * 3
    assert verdicts(rows, "mistaken") == ["wrong", "not attempted", "wrong"]
    assert rows["mistaken", "0.1"].misconception == "zero_to_one"
    assert rows["mistaken", "0.3"].misconception == "c"
    assert verdicts(rows, "prints") == ["right"] * 3, "what it prints is nobody's business"


@confined
def test_names_may_be_changed_and_checks_be_lost(rows):
    assert verdicts(rows, "renamed") == ["right"] * 3
    assert verdicts(rows, "no-checks") == ["right"] * 3
    assert "NameError: name 'to_signed'" in rows["half-renamed", "0.1"].message


@confined
def test_what_a_submission_says_of_itself_counts_for_nothing(rows):
    assert rows["tampered", "0.1"].verdict == "wrong"
    assert rows["forged", "0.1"].verdict != "right"


@confined
@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("key", "FileNotFoundError"),
        ("key-by-import", "cannot import name 'to_signed'"),
        ("home", "FileNotFoundError"),
        ("outside", "FileNotFoundError"),
        ("package", "OSError: [Errno 30] Read-only file system"),
        ("network", "raised OSError: [Errno 101] Network is unreachable"),
        ("memory", "can't allocate memory"),
        ("large", "larger than 64 MB"),
        ("loop-and-exit", "longer than 8 s"),
        ("kills", ""),
        ("fork-bomb", ""),
    ],
)
def test_there_is_no_way_out(rows, student, told):
    """One line says what happened, and the other exercises are graded."""
    row = rows[student, "0.1"]
    assert row.verdict in ("wrong", "stopped") and told in row.message, row
    assert "\n" not in row.message and len(row.message) <= 300
    assert rows[student, "0.3"].verdict == ("wrong" if student == "home" else "right")


@confined
def test_a_process_that_ends_early_costs_its_own_exercise_alone(rows):
    assert rows["loop-and-exit", "0.2"].message == "its process ended early"
    assert rows["loop-and-exit", "0.3"].verdict == "right"


@confined
def test_what_is_no_notebook_is_said_so(rows):
    for student in ("not-json", "not-a-notebook"):
        row = rows[student, ""]
        assert (row.verdict, row.message) == ("unreadable", "00_start_here.ipynb is not a notebook")


@confined
def test_every_solution_is_right_when_graded(tmp_path, request):
    """All chapters, capstones included, with inputs that no reader has seen."""
    if not request.config.getoption("--editions"):
        pytest.skip("make test-editions grades the solutions of all chapters")
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        solutions = [c for c in notebook.cells if "solution" in c.metadata.get("tags", [])]
        for solution in solutions:  # they become the answers
            exercise = notebook.cells[notebook.cells.index(solution) - 1]
            exercise.source = solution.source.removeprefix("# Solution\n")
        (tmp_path / "solver").mkdir(exist_ok=True)
        nbformat.write(notebook, tmp_path / "solver" / path.name)
    found = list(grade.grade(tmp_path, SEED, tmp_path / "cache.json", seconds=400))
    assert [row for rows in found for row in rows if row.verdict != "right"] == []
    assert {row.exercise for rows in found for row in rows} == set(EXERCISES)


def test_trusted_code_is_graded_without_a_sandbox(tmp_path, request):
    if not request.config.getoption("--editions"):
        pytest.skip("make test-editions grades without a sandbox, too")
    hand_in(tmp_path / "in", "anna", notebook(RIGHT))
    rows = grade.grade(tmp_path / "in", SEED, tmp_path / "cache.json", confined=False)
    assert [row.verdict for row in next(rows)] == ["right"] * 3


# ---- without a process -------------------------------------------------------------------------


def test_unchanged_submissions_are_not_run_again(tmp_path, monkeypatch):
    hand_in(tmp_path / "in", "anna", notebook(RIGHT))
    row = Row("anna", "00", "0.1", "right", "", "")
    ran = []

    def graded(self, student, path):
        ran.append(student)
        return [row]

    monkeypatch.setattr(Grader, "grade", graded)
    for seed in (1, 1, 2):
        assert list(grade.grade(tmp_path / "in", seed, tmp_path / "cache.json")) == [[row]]
    assert ran == ["anna", "anna"], "once for each seed"
    hand_in(tmp_path / "in", "berta", notebook(RIGHT))
    assert [
        rows[0].student for rows in grade.grade(tmp_path / "in", 1, tmp_path / "cache.json")
    ] == [
        "anna",
        "berta",
    ], "a copy has the same verdicts"
    assert ran == ["anna", "anna"]


@pytest.mark.parametrize("number", [n for n, each in EXERCISES.items() if isinstance(each, Code)])
def test_a_table_of_the_students_cases_is_refused(number):
    """Each grading draws inputs that no reader has seen."""
    exercise = EXERCISES[number]
    seen = {dumps(case, objects=True) for case in exercise.inputs()}
    assert any(dumps(case, objects=True) not in seen for case in exercise.inputs(SEED))


@pytest.mark.parametrize("number", [n for n, each in EXERCISES.items() if isinstance(each, Code)])
def test_references_are_right_and_misconceptions_wrong_with_fresh_cases(number):
    exercise = EXERCISES[number]
    with torch.random.fork_rng(devices=[]):
        inputs = exercise.inputs(SEED)
        for answer in (exercise.reference, *exercise.misconceptions):
            verdict = exercise.judge(exercise.attempt(answer, inputs), inputs)
            assert verdict.status == ("right" if answer is exercise.reference else "wrong")


def test_a_process_cannot_call_itself_right():
    frame = {"outcome": 1, "body": None, "mistake": None}
    fault = {"status": "right", "message": "", "misconception": None}
    assert attempt_of(frame | {"fault": fault}).fault.status == "wrong"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (" yet: a `...` is still waiting to be replaced.", "a `...` is still waiting"),
        (", not (a). That would be so", "not (a). That would be so"),
        (": with x = 2,\nyours is 3", "with x = 2, yours is 3"),
        ("its process ended early", "its process ended early"),
    ],
)
def test_a_message_in_the_table_starts_with_a_word(message, line):
    assert grade.one_line(message).startswith(line)


@pytest.mark.parametrize(
    "frame",
    [
        {"attempt": {"outcome": 7, "body": None, "mistake": None, "fault": None}},
        {"attempt": {"outcome": [[[]]] * 2, "body": 3, "mistake": [], "fault": None}},
        {"attempt": {"outcome": {}}},
        {"answer": {"a": 1}},
        {"strange": 1},
    ],
)
def test_strange_results_are_wrong_in_one_line(frame):
    status, _, message = Grader(SEED).judge("0.1", frame)
    assert status == "wrong" and message and "\n" not in message


@pytest.mark.parametrize(
    ("name", "cells", "chapter"),
    [
        ("02_ddpm_loss.ipynb", [], "02"),
        ("anna_02_ddpm_loss (3).ipynb", [], "02"),
        ("anna.ipynb", ["check('13.2', f)"], "13"),
        ("anna.ipynb", ["x = 1"], None),
    ],
)
def test_chapters_are_known_by_their_name_or_their_exercises(name, cells, chapter):
    if chapter is None:
        with pytest.raises(Refused, match="no chapter"):
            handed_in.chapter_of(Path(name), cells)
    else:
        assert handed_in.chapter_of(Path(name), cells) == chapter


def test_submissions_are_folders_or_notebooks(tmp_path):
    hand_in(tmp_path, "anna", "{}")
    (tmp_path / "berta.ipynb").write_text("{}")
    (tmp_path / "notes.txt").touch()
    assert [student for student, _ in submissions(tmp_path)] == ["anna", "berta"]
    with pytest.raises(ValueError, match="holds no notebooks"):
        submissions(ROOT / "tests" / "authoring")


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret.ipynb").write_text(notebook({}))
    os.symlink(tmp_path / "secret.ipynb", tmp_path / "00_start_here.ipynb")
    with pytest.raises(Refused, match="is no file"):
        handed_in.read_cells(tmp_path / "00_start_here.ipynb")


def test_only_the_cells_that_an_answer_needs_run():
    cells = [
        "import torch",
        "x = undefined_name",
        "%matplotlib inline\nscale = 2",
        "def f(y):\n    return torch.ones(3) * scale * y",
        "def (",
        "f(1)",
    ]
    assert attempts.needed(cells, 5) == [0, 2, 3, 5]
    assert attempts.used("def g(x):\n    z = x\n    return z + w") == {"w"}


def test_a_spreadsheet_takes_no_text_for_a_formula():
    text = as_csv([Row("=1+1", "00", "0.1", "wrong", "", "yours is 'a, b'")])
    names, row = csv.reader(io.StringIO(text))
    assert names == ["student", "chapter", "exercise", "verdict", "misconception", "message"]
    assert row == ["'=1+1", "00", "0.1", "wrong", "", "yours is 'a, b'"]


def test_the_class_picture_counts():
    rows = [
        Row("a", "00", "0.1", "wrong", "zero_to_one", ""),
        Row("b", "00", "0.1", "wrong", "zero_to_one", ""),
        Row("b", "00", "0.2", "right", "", ""),
        Row("b", "00", "0.3", "wrong", "c", ""),
        Row("c", "00_start_here", "", "unreadable", "", ""),
    ]
    left, right = class_picture(rows).axes
    labels = [t.get_text() for t in right.get_yticklabels()]
    assert labels == ["0.3  answer (c)", "0.1  zero to one"]
    assert [bar.get_width() for bar in right.patches] == [1, 2]
    assert [bar.get_width() for bar in left.patches] == [0, 1, 0, 1, 0, 2, 0, 0, 0]


def test_a_class_without_misconceptions_has_a_picture():
    _, right = class_picture([Row("a", "00", "0.1", "right", "", "")]).axes
    assert not right.axison and "No known misconception" in right.get_title()


def test_a_machine_that_cannot_confine_refuses(tmp_path, monkeypatch):
    from course_lib.cli import editions

    hand_in(tmp_path / "in", "anna", notebook({}))
    monkeypatch.setattr(sandbox, "faults", lambda: ["it doesn't refuse using the network"])
    with pytest.raises(RuntimeError, match=r"can't confine.*using the network.*--trusted"):
        editions.grade(tmp_path / "in", seed=1, csv=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"cells": {"a": 1}}',
        '{"cells": [{"cell_type": "code", "source": 7}]}',
        '{"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 3}}]}',
        '{"cells": [{"cell_type": "code", "source": "", "metadata": null}]}',
    ],
    ids=range(7),
)
def test_what_only_looks_like_a_notebook_is_refused(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text)
    with pytest.raises(Refused, match="is not a notebook"):
        handed_in.read_cells(tmp_path / "a.ipynb")


def test_a_name_cannot_command_the_terminal(tmp_path):
    hand_in(tmp_path, "an\x1b[2Jna", notebook({}))
    assert [student for student, _ in submissions(tmp_path)] == ["an [2Jna"]


def test_cells_are_read_without_solutions(tmp_path):
    cells = [cell("x = 1"), cell("y = 2", "solution"), {"cell_type": "markdown", "source": "z"}]
    path = tmp_path / "00_start_here.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert handed_in.read_cells(path) == ["x = 1"]
