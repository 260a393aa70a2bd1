"""No code in the repository is unsafe: no pickles, no evaluated strings, no shells, no open ports.

It searches the syntax trees of all code: the package and the notebooks' cells.
"""

import ast
import re

import nbformat
import pytest

from course_lib.authoring.form import ROOT

CODE = sorted((ROOT / "course_lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALLOWED = {  # call -> the files that need it, and why
    # course doctor imports torch in a process of its own; course cost --check trains in two; a
    # browser prints slides; npm packs the playground's runtime and the drawings of emoji; pip
    # downloads the photographs of textures
    "subprocess.run": {
        *("machine.py", "cost_check.py", "slides.py", "packages.py", "emoji.py"),
        "textures.py",
    },
    # mutants of our own references are built from their syntax trees, by maintainers and tests;
    # attempts runs submissions, in the sandbox that sandbox.py starts, becomes, and tries out
    "compile": {"mutants.py", "attempts.py"},
    "exec": {"mutants.py", "attempts.py"},
    "subprocess.Popen": {"sandbox.py"},
    "os.execve": {"sandbox.py"},
    "socket.create_server": {"sandbox.py"},
}
FORBIDDEN = re.compile(
    r"^(eval|exec|compile|__import__|os\.(system|popen|exec\w*|spawn\w*)|subprocess\.\w+|"
    r"pickle\.\w+|marshal\.\w+|shelve\.\w+|torch\.(load|save)|(np|numpy)\.load|socket\.\w+|"
    r"(get_ipython\(\)|ipython)\.(system|run_cell|getoutput)|builtins\.(eval|exec))$"
)


def calls(source: str):
    """The names of all calls, as written: `torch.load`, `eval`, …"""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def sources():
    for path in CODE:
        yield path.name, path.read_text("utf-8")
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        yield path.name, code


@pytest.mark.parametrize(
    ("name", "source"), [*sources()], ids=lambda text: text[:30].split("\n")[0]
)
def test_nothing_dangerous_is_called(name, source):
    found = {call for call in calls(source) if FORBIDDEN.match(call)}
    assert {call for call in found if name not in ALLOWED.get(call, ())} == set()


def test_the_search_finds_what_it_looks_for():
    danger = "eval('1'); torch.load(f); os.system('x'); subprocess.run(c); get_ipython().system(c)"
    assert len([call for call in calls(danger) if FORBIDDEN.match(call)]) == 5
    assert not [c for c in calls("model.eval(); re.compile('x')") if FORBIDDEN.match(c)]


def test_jupyterlab_listens_on_this_machine_only():
    """Neither the command nor the Makefile sets another address or disables the token."""
    for path in (*(ROOT / "course_lib" / "cli").glob("*.py"), ROOT / "Makefile"):
        text = path.read_text("utf-8")
        assert not re.search(r"--ip|ServerApp\.ip|token=|0\.0\.0\.0|password=", text), path
