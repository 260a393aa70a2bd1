"""The README: its tables are up to date, its links work, and its commands exist."""

import re
from pathlib import Path

import pytest

from course_lib.authoring import readme
from course_lib.cli import app
from course_lib.evaluation.metrics import Metric, to_card

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_its_tables_are_the_measured_ones():
    assert readme.filled(TEXT) == TEXT, "run python -m course_lib.authoring.readme"
    names = re.findall(r"<!-- (\w+) -->", TEXT)
    assert names == [name for table in readme.TABLES for name in (table, "end")]


def test_a_table_is_made_anew_whether_it_was_empty_or_not(monkeypatch):
    monkeypatch.setitem(readme.TABLES, "models", lambda: ["| a |", "|---|", "| 1 |"])
    empty = "before\n<!-- models -->\n<!-- end -->\nafter"
    once = readme.filled(empty)
    assert once == "before\n<!-- models -->\n| a |\n|---|\n| 1 |\n<!-- end -->\nafter"
    assert readme.filled(once) == once


def test_badges_follow_one_setting():
    assert readme.badges("") == []
    colab, binder = readme.badges("https://github.com/ada/course.git")
    first = "notebooks/00_start_here.ipynb"
    assert f"/github/ada/course/blob/colab/{first})" in colab
    assert f"/v2/gh/ada/course/main?labpath={first})" in binder
    with pytest.raises(ValueError, match=r"https://github\.com/OWNER/NAME, got 'ada/course'"):
        readme.badges("ada/course")


def test_a_figure_stands_in_its_row_and_column(monkeypatch):
    single, pair = dict(kind="single"), dict(kind="pair")
    pairs, combinations = dict(split="new pairs"), dict(split="new combinations")
    metrics = [
        Metric("test_loss", 0.9, 500),
        Metric("right", 0.975, 500, (0.95, 0.99), **single, **pairs),
        Metric("shape", 0.99, 500, (0.98, 1.0), **single, **combinations),
        Metric("psnr", 34.37, 500, (34.0, 35.0), **pair, **combinations),
        Metric("right", 0.96, 500, (0.94, 0.98), **single, **combinations),
    ]
    monkeypatch.setattr(readme, "published", lambda: ["digits-ddpm", "scenes-latent"])
    monkeypatch.setattr(readme, "read_card", lambda name: {"metrics": to_card(metrics)})
    assert readme.figures()[2:] == [
        "| `scenes-latent` single: right | 96.0 % (94.0 to 98.0) | 97.5 % (95.0 to 99.0) |",
        "| `scenes-latent` single: shape | 99.0 % (98.0 to 100.0) |  |",
        "| `scenes-latent` pair: psnr | 34.4 dB |  |",
    ]


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+?)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for anchor in re.findall(r"\]\(#([\w-]+)\)", TEXT):
        assert f'id="{anchor}"' in TEXT


def test_the_commands_it_shows_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*re.findall(r"(?:^|`)make ([a-z][\w-]*)", TEXT, re.MULTILINE)} <= {*targets}
    commands = {c.callback.__name__.replace("_", "-") for c in app.app.registered_commands}
    commands |= {group.name for group in app.app.registered_groups}
    assert {*re.findall(r"(?:^|`|/)course ([a-z][\w-]*)", TEXT, re.MULTILINE)} <= commands


def test_the_files_it_lays_out_exist():
    layout = TEXT.split("## How the code is laid out")[1].split("```")[1]
    for name in re.findall(r"[\w]+(?:\.py|/)", layout):
        inside = [*(ROOT / "course_lib").rglob(name), *(ROOT / "tests").glob(name)]
        assert inside + list(ROOT.glob(name)), name
