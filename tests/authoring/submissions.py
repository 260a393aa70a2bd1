"""Submissions for the tests of grading: chapter 00 with the given answers."""

import json
from pathlib import Path

SETUP = "import torch\n\nfrom course_lib.exercises import check"
STUBS = {
    "0.1": "def to_signed(picture): ...",
    "0.2": "def add_noise(x0, eps, t):\n    return t * x0 + (1 - t) * eps",
    "0.3": "my_answer = ...",
}
NAMES = {"0.1": "to_signed", "0.2": "add_noise", "0.3": "my_answer"}
RIGHT = {
    "0.1": "def to_signed(picture):\n    return picture / 127.5 - 1",
    "0.2": "def add_noise(x0, eps, t):\n    return x0 + t * (eps - x0)",
    "0.3": 'my_answer = "a"',
}


def cell(source: str, *tags: str) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}, "outputs": []}


def notebook(answers: dict[str, str], *further: str, checks: bool = True) -> str:
    """A chapter as a student hands it in; answers: the code for some of the exercises."""
    cells = [cell(SETUP), *map(cell, further)]
    for number, source in (STUBS | answers).items():
        asked = f'\n\n\ncheck("{number}", {NAMES[number]})' if checks else ""
        cells.append(cell(source + asked, "exercise"))
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def hand_in(folder: Path, student: str, text: str) -> None:
    (folder / student).mkdir(parents=True)
    (folder / student / "00_start_here.ipynb").write_text(text, "utf-8")


def body(code: str, name: str = "to_signed", argument: str = "picture") -> dict[str, str]:
    """An answer to 0.1 with this code in it."""
    lines = "\n".join(f"    {line}" for line in code.split("\n"))
    return {"0.1": f"def {name}({argument}):\n{lines}"}
