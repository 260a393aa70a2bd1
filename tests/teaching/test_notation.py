"""The notation table: every name of ours and of diffusers' that it lists exists."""

import inspect
import re

import diffusers
import pytest

from course_lib.common.paths import ROOT

PAGE = (ROOT / "notebooks" / "notation.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| meaning")
]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_tables_are_read_whole():
    assert len(ROWS) > 40 and {len(row) for row in ROWS} == {6}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_our_names_stand_in_the_file_named(row):
    (file,) = names(row[4])
    source = (ROOT / "course_lib" / file).read_text("utf-8")
    assert names(row[3])
    for name in names(row[3]):
        quoted = name.startswith('"')
        assert name in source if quoted else re.search(rf"\b{name}\b", source), f"{name} in {file}"


@pytest.mark.parametrize("row", [row for row in ROWS if row[5]], ids=lambda row: row[0][:40])
def test_diffusers_names_stand_in_the_class_named(row):
    """A setting's value, in quotes, occurs in the scheduler named in this row or an earlier one."""
    for name in names(row[5]):
        if name.startswith('"'):
            assert name in inspect.getsource(inspect.getmodule(diffusers.DDPMScheduler)), name
        else:
            cls, _, attribute = name.partition(".")
            assert re.search(rf"\b{attribute}\b", inspect.getsource(getattr(diffusers, cls))), name
