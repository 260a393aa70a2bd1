"""`course diagnose`: what it prints for a folder alone and with code, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from course_lib.teaching.broken_runs import SoundRun

CODE = """
from course_lib.teaching.broken_runs import SoundRun
run = SoundRun()
model, batch, loss, samples = run.model, run.batch, run.loss, run.samples
"""


@pytest.fixture
def folder(tmp_path):
    case = SoundRun()
    case.steps = 4
    for _ in case.train(tmp_path / "run"):
        pass
    return tmp_path / "run"


def test_a_folder_alone_shows_the_log_and_the_weights(course, folder):
    done = course("diagnose", folder)
    *findings, counts, advice = done.out.splitlines()
    assert done.status == 0 and counts == "0 wrong, 4 fine, 15 not visible here"
    assert "--code" in advice
    assert any(line.startswith("EMA lag: fine; ") for line in findings)
    assert any(line.startswith("mode: not visible here; ") for line in findings)


def test_code_shows_more_and_a_wrong_line_says_what_to_do(course, folder, tmp_path):
    code = tmp_path / "mine.py"
    wrong = "class Mine(SoundRun):\n    def scaled(self, x):\n        return (x + 1) / 2\n"
    code.write_text(CODE.replace("run = SoundRun()", f"{wrong}run = Mine()"))
    done = course("diagnose", folder, "--code", code)
    (line,) = [line for line in done.out.splitlines() if line.startswith("data range")]
    assert "wrong" in line and "data from 0 to 1" in line and line.endswith("2 * x - 1.")


@pytest.fixture
def few(tmp_path):
    """A folder of 12 pictures of 8 x 8 grey pixels."""
    (tmp_path / "few").mkdir()
    for n in range(12):
        grey = np.random.default_rng(n).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "few" / f"{n}.png")
    return tmp_path / "few"


def test_pictures_are_compared_with_the_data(course, folder, few, tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    done = course("diagnose", folder, "--code", "mine.py", "--pictures", few)
    assert any(line.startswith("copies: fine; 0%") for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], "nothing: expected the folder of a training, got none"),
        (["."], ".: expected a training's log.jsonl, found none"),
        (["run", "--code", "none.py"], "--code: there is no file none.py"),
        (["run", "--code", "short.py"], "--code: short.py lacks batch(…), loss(…)"),
        (["run", "--code", "digits-dpm"], "did you mean 'digits-ddpm'"),
        (["run", "--code", "digits-ddpm"], "run holds the state of another model"),
        (["run", "--pictures", "run"], "--pictures: expected a folder with png or jpg files"),
    ],
    ids=["no folder", "no log", "no file", "half the code", "a typing error", "another", "none"],
)
def test_a_mistake_of_the_reader_is_one_line(course, folder, tmp_path, arguments, line):
    (tmp_path / "short.py").write_text("model = None\n")
    done = course("diagnose", *arguments)
    assert done.status == 2 and line in done.err and len(done.err.splitlines()) == 1
