"""notebooks/lecturers.md speaks of chapters, sections and exercises that exist."""

import re

import nbformat

import course_lib.exercises  # noqa: F401  they register themselves
from course_lib.authoring.form import ROOT
from course_lib.teaching.check import EXERCISES

PAGE = (ROOT / "notebooks" / "lecturers.md").read_text("utf-8")
CHAPTERS = {
    path.stem.partition("_")[0]: nbformat.read(path, as_version=4)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
}


def part(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in part(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_chapter_has_its_core_path():
    assert [row[0].split()[0] for row in rows("What to teach and what to skip")] == list(CHAPTERS)


def test_sections_of_the_core_path_exist():
    for name, core, rest, _ in rows("What to teach and what to skip"):
        prose = "\n".join(cell.source for cell in CHAPTERS[name.split()[0]].cells)
        sections = {int(n) for n in re.findall(r"^## (\d+)\. ", prose, re.MULTILINE)}
        chosen = f"{core}, {rest}".replace("equation 2.5", "").replace("chapter 07", "")
        ranges = [(int(a), int(b)) for a, b in re.findall(r"(\d+) to (\d+)", chosen)]
        named = {n for a, b in ranges for n in range(a, b + 1)}
        named |= {int(n) for n in re.findall(r"(?<![.\d])\d+(?![.\d])", chosen)}
        assert named <= sections, name
        if core != "all":
            assert named == sections, f"{name}: each section is core or can be left"


def test_exercises_exist():
    numbers = re.findall(r"(?<![(\d.])\d{1,2}[a-z]?\.\d(?![\d])", PAGE.replace("equation 2.5", ""))
    assert len(numbers) > 60
    assert set(numbers) <= set(EXERCISES)


def test_experiments_that_the_plans_name_are_described():
    described = set(re.findall(r"\*\*(E\d)\.\*\*", PAGE))
    assert described == set(re.findall(r"\bE\d\b", part("Six weeks of lab, two hours each")))


def test_the_concept_test_has_twenty_questions_with_four_options_and_a_spread_key():
    questions = re.findall(
        r"^(\d+)\. .*\*\*a\*\*.*\*\*b\*\*.*\*\*c\*\*.*\*\*d\*\*", PAGE, re.MULTILINE
    )
    key = re.findall(r"[:·] (\d+) ([abcd])\b", part("Concept test"))
    assert [int(n) for n in questions] == [int(n) for n, _ in key] == list(range(1, 21))
    letters = [letter for _, letter in key]
    assert all(3 <= letters.count(letter) <= 7 for letter in "abcd")  # guessing one letter: ≤ 35 %


def test_ten_projects():
    assert [row[0].split(".")[0] for row in rows("Ten projects")] == [f"P{i}" for i in range(1, 11)]
