"""Credits: whatever ships has an author and a licence; a new folder without them is refused."""

import subprocess

import pytest

from course_lib.common.paths import ROOT
from course_lib.teaching.credits import credits, works, works_of

DATA = ROOT / "data"
TABLE = "| what | what it is | who made it | licence |\n|---|---|---|---|\n"


def shipped() -> set[str]:
    """The folders and files of data/ that git ships."""
    listed = ["git", "-C", str(ROOT), "ls-files", "data"]
    files = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    return {file.split("/")[1] for file in files} - {"README.md"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy without its history")
def test_whatever_ships_is_credited():
    credited = {work.folder for work in works()} | {n for work in works() for n in work.names}
    assert len(shipped()) >= 4 and shipped() <= credited


def test_every_licence_that_lies_in_data_is_somebodys():
    files = {path for path in DATA.rglob("licences/*")}
    assert len(files) >= 4 and files <= {text for work in works() for text in work.texts}


def test_the_statement_names_all_authors_licences_and_who_learned():
    statement = credits()
    for work in works():
        assert work.who in statement and work.licence in statement
    for name in ("Twitter", "Google", "Microsoft", "Miles Johnson", "Unicode", "Alpaydin"):
        assert name in statement
    (digits,) = (line for line in statement.splitlines() if line.startswith("| `digits` "))
    assert digits.endswith("| `digits-classes`, `digits-ddpm`, `digits-vae` |")
    assert "- data/emoji/licences/Apache-2.0.txt" in statement and "](" not in statement


def test_works_of_a_data_set():
    assert {work.licence for work in works_of("emoji")} >= {"CC BY 4.0", "Apache 2.0", "MIT"}
    assert [work.licence for work in works_of("scenes")] == ["MIT"]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "LICENCE").touch()
    (tmp_path / "new").mkdir()
    (tmp_path / "README.md").write_text(f"{TABLE}| `old` | a thing | Ada | [MIT](LICENCE) |\n")
    return tmp_path


def test_a_new_folder_without_a_licence_is_refused(data):
    assert len(works(data)) == 1  # a download has no README
    (data / "new" / "README.md").write_text("Pictures from somewhere.")
    with pytest.raises(ValueError, match=r"new/README\.md: expected a table with the columns"):
        works(data)
    row = "| `a.png` | a picture | Bob | [CC BY 4.0](../LICENCE) |\n"
    (data / "new" / "README.md").write_text(TABLE + row)
    assert [work.who for work in works(data)] == ["Ada", "Bob"]
    assert "| `a.png` | a picture | Bob | CC BY 4.0 | none |" in credits(data)


@pytest.mark.parametrize(
    "row",
    [
        "| `a.png` | a picture | | [MIT](../LICENCE) |",
        "| `a.png` | a picture | Bob | |",
        "| `a.png` | a picture | Bob | MIT |",
        "| `a.png` | a picture | Bob | [MIT](../nowhere.txt) |",
    ],
)
def test_a_row_without_an_author_or_the_licences_text_is_refused(data, row):
    (data / "new" / "README.md").write_text(TABLE + row + "\n")
    with pytest.raises(ValueError, match="expected who made it and a licence with a link"):
        works(data)
