"""The one form of a notebook: what is stripped, what stays, and that the guard sees tampering."""

import base64
import io
import re

import nbformat
import pytest
from nbconvert import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from course_lib.authoring import chapter, notebooks
from course_lib.authoring.form import ROOT, canonical, code_digest, hero, pictures


def png(size=4, **metadata):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(buffer, "png", **metadata)
    return base64.b64encode(buffer.getvalue()).decode()


def a_notebook():
    outputs = [
        new_output("stream", name="stdout", text="10 %\r50 %\r100 %\n"),
        new_output("stream", name="stdout", text=f"saved in {ROOT}/data <f at 0x7f00deadbeef>\n"),
        new_output(
            "display_data",
            data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"},
        ),
        new_output("display_data", data={"image/png": png(), "text/plain": "<Image>"}),
        new_output("execute_result", data={"text/plain": "3"}, execution_count=7),
    ]
    cell = new_code_cell("1 + 2  \n", execution_count=7, outputs=outputs)
    cell.metadata = nbformat.from_dict(
        {"tags": ["hero"], "execution": {"iopub.status.busy": "2030"}, "collapsed": True}
    )
    solution = new_code_cell("answer", metadata={"tags": ["solution"]})
    book = new_notebook(cells=[new_markdown_cell("# Title"), cell, solution])
    book.metadata = nbformat.from_dict(
        {"widgets": {"state": 1}, "language_info": {"name": "python", "version": "3.11.4"}}
    )
    return book


def test_a_run_leaves_no_trace():
    book = canonical(a_notebook())
    code, solution = book.cells[1:]
    stdout, picture, result = code.outputs
    assert stdout.text == "100 %\nsaved in ./data <f>\n"
    assert picture.data["text/plain"] == "<Image>" and result.execution_count is None
    assert code.execution_count == 1 and code.metadata == {"tags": ["hero"]}
    assert code.source == "1 + 2"
    folded = {"source_hidden": True, "outputs_hidden": True}  # a prediction's answer is its output
    assert solution.metadata == {"tags": ["solution"], "jupyter": folded}
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert "version" not in book.metadata.language_info


def test_a_notebook_exports_as_the_language_that_it_is_in():
    """nbconvert takes the file's suffix and its own exporter from the notebook."""
    script, resources = ScriptExporter().from_notebook_node(canonical(a_notebook()))
    assert resources["output_extension"] == ".py"
    assert compile(script, "script", "exec")


def test_applying_the_form_twice_changes_nothing():
    once = canonical(a_notebook())
    assert nbformat.writes(canonical(once)) == nbformat.writes(once)


def test_the_digest_sees_code_and_not_prose():
    book = a_notebook()
    before = code_digest(book)
    book.cells[0].source = "# Another title"
    assert code_digest(book) == before
    book.cells[1].source = "1 + 3"
    assert code_digest(book) != before


def test_the_hero_is_the_tagged_cells_figure():
    book = canonical(a_notebook())
    assert hero(book) == pictures(book)[-1]
    book.cells[1].metadata.tags = []
    assert hero(book) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (44, "40 s"), (61, "1 min"), (107, "1 min 50 s")]
)
def test_durations_are_said_in_tens(seconds, words):
    assert notebooks.duration(seconds) == words


BAD = {
    "!ls": "no shell",
    "%pip install x": "no pip",
    "%%bash\nls": "no shell",
    "import sys; sys.path.append('..')": "no sys.path",
}


@pytest.mark.parametrize("source", BAD)
def test_shell_cells_and_path_tricks_are_seen(source):
    book = new_notebook(cells=[new_code_cell(source)])
    assert any(BAD[source] in fault for fault in chapter.faults_of_cells(book))
    assert not list(chapter.faults_of_cells(new_notebook(cells=[new_code_cell("a != b")])))


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (new_output("error", ename="KeyError", evalue="", traceback=[]), "ends in KeyError"),
        (new_output("stream", name="stderr", text="UserWarning: x"), "writes a warning"),
        (new_output("stream", name="stdout", text="in /home/ann/course"), "path of one machine"),
        (new_output("display_data", data={"text/plain": "'/tmp/x'"}), "path of one machine"),
    ],
)
def test_errors_warnings_and_machine_paths_are_seen(output, told):
    book = new_notebook(cells=[new_code_cell("f()", outputs=[output])])
    assert any(told in fault for fault in chapter.faults_of_cells(book))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([15, 40, 40], []),
        ([16], ["cell last shows 16 lines of code, limit 15"]),
        ([1, 41], ["cell last shows 41 lines of code, limit 40"]),
        ([11] + 11 * [40], ["it shows 451 lines of code, limit 450"]),
    ],
)
def test_code_that_the_reader_sees_is_counted(lines, told):
    cells = [new_code_cell("\n".join(count * ["f()"])) for count in lines]
    folded = [
        new_code_cell("\n".join(99 * ["f()"]), metadata={"tags": [tag]})
        for tag in ("solution", "hide-input")
    ]
    found = list(chapter.faults_of_length(new_notebook(cells=cells + folded)))
    assert [fault.replace(cells[-1].id, "last") for fault in found] == told


def test_solutions_fold_with_their_output_and_figures_without():
    tagged = [
        new_code_cell("f()", metadata={"tags": tags}) for tags in (["solution"], ["hide-input"], [])
    ]
    hidden = [
        cell.metadata.get("jupyter", {}) for cell in canonical(new_notebook(cells=tagged)).cells
    ]
    assert hidden == [{"source_hidden": True, "outputs_hidden": True}, {"source_hidden": True}, {}]


def test_a_notebook_runs_fresh_and_is_written_in_the_form(tmp_path):
    path = tmp_path / "01_small.ipynb"
    cells = [
        new_markdown_cell("# 01 · Small\nreading 1 min · running ? on 2 CPU cores"),
        new_code_cell("from course_lib.exercises import check\ncheck('x', 1)"),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    notebooks.make(path)
    made = nbformat.read(path, as_version=4)
    assert re.search(r"running \d+ s on \d+ CPU", made.cells[0].source)
    assert "no chapter has an exercise" in made.cells[1].outputs[0].text
    faults = list(chapter.faults_of_form(made, path))
    assert faults == []
    made.cells[1].source = "check('x', 2)"
    nbformat.write(made, path)
    assert "its outputs were not made from its present code" in chapter.faults(path)[0]


def test_a_cell_prints_one_output_however_often_it_is_flushed():
    """The kernel sends what is printed after a pause apart, now and then in mid-line."""
    source = "import time\nprint('exercise', flush=True)\ntime.sleep(0.5)\nprint('not attempted')"
    book = new_notebook(cells=[new_code_cell(source)])
    notebooks.execute(book)
    assert [each.text for each in book.cells[0].outputs] == ["exercise\nnot attempted\n"]
