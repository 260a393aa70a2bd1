"""What the tests of the commands share."""

import sys
from types import SimpleNamespace

import pytest

from course_lib import cli


@pytest.fixture
def course(monkeypatch, capsys, tmp_path):
    """course("train", "NAME") -> status, out, err; it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return SimpleNamespace(status=ended.value.code or 0, **capsys.readouterr()._asdict())

    return run
