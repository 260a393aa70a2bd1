"""Progress: the reader's own right answers are saved, solutions aren't, errors are one line."""

import json
import os

import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from course_lib.authoring import notebooks
from course_lib.teaching import check, progress, solved

CHECK = 'from course_lib.exercises import check\ncheck("0.3", "a")'


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """The file for progress, in a folder that doesn't exist yet."""
    monkeypatch.setattr(solved, "PROGRESS", tmp_path / "data" / "progress.json")
    return solved.PROGRESS


@pytest.fixture
def cell(kept):
    """Runs a cell as a notebook does, without history, as nbval does."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield lambda source: shell.run_cell(source, store_history=False).raise_error()
    InteractiveShell.clear_instance()


def test_the_readers_own_right_answer_is_kept_once(cell, kept, capsys):
    cell(CHECK)
    cell(CHECK)
    assert json.loads(kept.read_text()) == {"solved": ["0.3"]}
    assert "not kept" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "source", ["# Solution\n" + CHECK, CHECK.replace('"a"', '"b"'), CHECK.replace('"a"', "...")]
)
def test_a_solution_a_wrong_answer_and_a_stub_are_not(cell, kept, source):
    cell(source)
    assert solved.solved() == set() and not kept.exists()


def test_a_script_keeps_nothing(kept):
    exec(CHECK)
    assert not kept.exists()


def test_a_later_wrong_answer_takes_nothing_away(cell):
    cell(CHECK)
    cell(CHECK.replace('"a"', '"b"'))
    assert solved.solved() == {"0.3"}


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"solved": 3}', '{"solved": [1]}', '{"solved": ["x"]}', "\x00\x01"],
)
def test_a_damaged_file_costs_one_line_and_is_left_alone(cell, kept, capsys, damage):
    kept.parent.mkdir()
    kept.write_text(damage)
    cell(CHECK)
    verdict, trouble = capsys.readouterr().out.splitlines()
    assert verdict.startswith("✓ 0.3 right") and "progress.json is damaged" in trouble
    assert "--reset" in trouble and kept.read_text() == damage
    progress.progress(0)
    assert capsys.readouterr().out.count("\n") == 1
    solved.reset_progress()
    assert solved.record("0.3") == "" and solved.solved() == {"0.3"}


def test_an_unwritable_place_costs_one_line(cell, kept, capsys):
    kept.parent.write_text("a file where the folder should be")
    cell(CHECK)
    verdict, trouble = capsys.readouterr().out.splitlines()
    assert verdict.startswith("✓ 0.3 right") and trouble.startswith("Your progress is not saved: ")
    progress.progress(0)
    assert capsys.readouterr().out.count("\n") == 1


def test_numbers_are_kept_in_the_order_of_the_course(kept):
    for number in ("15b.1", "10.1", "15a.10", "15a.2", "9.2", "1.10", "1.9"):
        assert solved.record(number) == ""
    ordered = ["1.9", "1.10", "9.2", "10.1", "15a.2", "15a.10", "15b.1"]
    assert json.loads(kept.read_text())["solved"] == ordered


def test_the_table_of_a_chapter(kept, capsys):
    solved.record("0.2")
    progress.progress(0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "00 · Start here"
    assert lines[1].startswith("○ 0.1  write") and lines[1].endswith("not yet")
    assert lines[2].startswith("✓ 0.2  debug") and lines[2].endswith("solved")
    assert lines[-1].startswith("1 of 3 solved")


def test_a_chapter_that_is_not_there_is_told_in_one_line(kept, capsys):
    progress.progress(77)
    assert capsys.readouterr().out.startswith("✗ no chapter has an exercise '77.1'")


def test_without_the_notebooks_the_exercises_are_still_known(kept, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "NOTEBOOKS", tmp_path)
    progress.progress(0)
    out = capsys.readouterr().out
    assert "0.1" in out and "0 of 3 solved" in out


def test_a_run_of_a_whole_notebook_solves_nothing(kept, monkeypatch, tmp_path):
    """In a real kernel, even if the person who runs the notebooks has solved everything."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "progress.json").write_text('{"solved": ["0.1", "0.2", "0.3"]}')
    monkeypatch.setenv("COURSE_PROGRESS", "")
    table = "from course_lib.teaching.progress import progress\nprogress(0)"
    cells = [new_code_cell(source) for source in ("# Solution\n" + CHECK, table)]
    notebook = new_notebook(cells=cells)
    notebooks.execute(notebook, tmp_path)
    texts = ["".join(output.text for output in each.outputs) for each in notebook.cells]
    assert texts[0].startswith("✓ 0.3 right") and "0 of 3 solved" in texts[1]
    assert os.environ["COURSE_PROGRESS"] == ""  # what runs later has its own


def test_chapters_may_have_a_letter(monkeypatch, kept, capsys):
    monkeypatch.setitem(check.EXERCISES, "15a.1", check.EXERCISES["0.3"])
    solved.write({"15a.1"})
    progress.progress("15a")
    assert "✓ 15a.1" in capsys.readouterr().out and solved.solved() == {"15a.1"}
