"""The map from chapters to modules and tests: names are followed to the file that defines them."""

import re
from pathlib import Path

import pytest

from course_lib.authoring import course_map
from course_lib.authoring.form import ROOT


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("from course_lib.models import UNet", {"models/unet.py"}),  # relative in __init__
        ("from course_lib.diffusion import sample, linear", {"diffusion/samplers.py",
                                                             "diffusion/schedules.py"}),
        ("from course_lib.datasets.scenes import Scenes as S", {"datasets/scenes/dataset.py"}),
        ("from course_lib.datasets import toy, scenes", {"datasets/toy.py",
                                                         "datasets/scenes/__init__.py"}),
        ("from course_lib.recipes import RECIPES", {"recipes/__init__.py"}),
        ("from course_lib.common.checkpoints import read_card", set()),
        ("from course_lib.teaching.plots import show\nimport torch", set()),
        ("%matplotlib inline\ndef f():\n    from course_lib.models.vae import VAE",
         {"models/vae.py"}),
    ],
)  # fmt: skip
def test_names_are_followed_to_the_file_that_defines_them(code, files):
    assert course_map.modules_of(code) == {Path("course_lib") / file for file in files}


def test_tests_come_from_the_exercises_the_equations_and_the_modules():
    tests = course_map.tests_of("01", {Path("course_lib/models/vae.py")})
    expected = {"exercises/test_ch01.py", "diffusion/test_schedules.py", "models/test_vae.py"}
    assert {Path("tests") / name for name in expected} <= tests
    assert course_map.tests_of("77", {Path("course_lib/models/no_such.py")}) == set()
    assert course_map.mirror(Path("course_lib/recipes/__init__.py")) == Path(
        "tests/recipes/test_recipes.py"
    )


def test_each_chapter_has_a_row_whose_links_lead_somewhere():
    rows = course_map.table()[2:]
    assert len(rows) == len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    for row in rows:
        targets = re.findall(r"\]\(([^)]+)\)", row)
        assert len(targets) > 2 and all((ROOT / target).is_file() for target in targets)
    (unet,) = [row for row in rows if "04_unet.ipynb" in row]
    assert "](course_lib/models/unet.py)" in unet and "](tests/models/test_unet.py)" in unet
