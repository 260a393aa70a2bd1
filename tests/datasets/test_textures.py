"""The photographs of surfaces: their size and range, what is refused, and where they come from."""

import pytest

from course_lib.datasets import textures
from course_lib.datasets.textures import TEXTURES, texture
from course_lib.teaching.credits import works_of


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_a_grey_photograph(name):
    image = texture(name)
    assert image.shape == (1, 1, 128, 128)
    assert -1 <= image.min() < image.max() <= 1
    assert image.std() > 0.1


def test_an_unknown_texture_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="gravel"):
        texture("gravels")


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(textures, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"brick\.png: bring data/textures back"):
        texture("brick")


def test_their_licence_is_listed():
    listed = {name: work for work in works_of("textures") for name in work.names}
    assert set(listed) == {f"{name}.png" for name in TEXTURES}
    assert {work.licence for work in listed.values()} == {"CC0 1.0"}
