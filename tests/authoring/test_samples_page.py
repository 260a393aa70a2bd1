"""notebooks/my_samples_are_bad.md: its links, sections and commands exist, and its tests run."""

import re

import nbformat
import pytest
import torch
import typer

from course_lib.authoring.form import ROOT
from course_lib.cli.app import app
from course_lib.datasets.digits import digits
from course_lib.diffusion import Diffusion
from course_lib.models import UNet
from course_lib.recipes import RECIPES

PAGE = (ROOT / "notebooks" / "my_samples_are_bad.md").read_text("utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ")][1:]
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_symptom_has_causes_tests_and_a_chapter():
    assert len(ROWS) >= 10
    for symptom, causes, tests, chapters in ROWS:
        assert symptom.strip() and causes.strip(), symptom
        assert "#test-" in tests or "`course" in tests, symptom
        assert ".ipynb)" in chapters, symptom


def test_links_lead_to_headings_and_chapters_that_exist():
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    for link in links:
        known = link[1:] in anchors if link.startswith("#") else None
        assert known or (ROOT / "notebooks" / link).is_file(), link
    tests = {f"#{anchor}" for anchor in anchors if anchor.startswith("test-")}
    assert {link for link in links if link.startswith("#test")} == tests  # each is asked for


def test_sections_exist_in_the_chapters_that_they_are_named_with():
    named = re.findall(r"\[\w+\]\(([\w.]+\.ipynb)\), sections? (\d+)(?: and (\d+))?", PAGE)
    assert len(named) >= 15
    for name, *numbers in named:
        notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        prose = "\n".join(cell.source for cell in notebook.cells)
        found = set(re.findall(r"^## (\d+)\. ", prose, re.MULTILINE))
        assert set(filter(None, numbers)) <= found, (name, numbers)


def test_commands_exist_with_these_options():
    commands = typer.main.get_command(app).commands
    lines = re.findall(r"^course (.+)$", PAGE, re.MULTILINE) + re.findall(r"`course ([^`]+)`", PAGE)
    assert {line.split()[0] for line in lines} == {"diagnose", "doctor", "train", "evaluate"}
    for line in lines:
        name, *words = line.split()
        options = {option for each in commands[name].params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
        recipes = {word for word in words if word.startswith("digits")}
        assert recipes <= set(RECIPES), line


def things() -> dict:
    """What the page's tests may use: a small untrained network on a few digits."""
    torch.manual_seed(0)
    images, labels = digits(8, "train")
    model = UNet(1, channels=8, multipliers=(1,), attention=(False,), classes=10).eval()
    made = dict(x0=images[:32], labels=labels[:32], model=model, samples=images[:5])
    return made | dict(
        process=Diffusion("linear", "eps"), steps=300, decay=0.9999, training=images[:100]
    )


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What each block of code prints, run in order, as a reader would."""
    names, texts = things(), []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for block in BLOCKS:
            said: list[str] = []
            names["print"] = lambda *values, said=said: said.append(" ".join(map(str, values)))
            exec(block, names)
            texts.append("\n".join(said))
    return texts


def test_all_tests_of_the_page_run(printed):
    assert len(BLOCKS) == 11 and all(printed[1:])


def test_they_print_what_is_true_of_an_untrained_network(printed):
    """Its prediction is 0, so its loss is the constant's, and its captions are worth nothing."""
    by_name = dict(zip(["imports", *range(1, 11)], printed, strict=True))
    loss, floor = map(float, re.findall(r"\d\.\d+", by_name[1]))
    assert floor == 1 and abs(loss - 1) < 0.1
    assert by_name[2].startswith("-1.00 to 1.00")
    assert by_name[3] == "0.006 of the data is left"
    assert by_name[4].count("torch.float32") == 2 and "999.0" in by_name[4]
    assert by_name[6] == "97.0% of the average are initial weights"
    assert by_name[7] == "largest number in the result: 0.00000"
    assert by_name[8] == "False"
    assert abs(float(by_name[9].split()[-1])) < 0.05
    assert by_name[10] == "tensor(0.)"  # its samples are training digits
