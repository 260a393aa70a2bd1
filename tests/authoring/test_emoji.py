"""What the maintainer's command makes of names, code points and pictures; it refuses other data."""

import io
import json
import subprocess
import tarfile

import numpy as np
import pytest
from PIL import Image

from course_lib.authoring import emoji
from course_lib.authoring.emoji import (
    NAMES,
    fetch,
    keywords,
    near_duplicates,
    plain,
    sheet,
    stem_and_gender,
    with_article,
)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("man: red hair", "man with red hair"),
        ("woman: bald", "bald woman"),
        ("person walking: facing right", "person walking facing right"),
        ("piñata", "pinata"),
        ("woman’s hat", "woman's hat"),
        ("Mrs. Claus", "mrs claus"),
    ],
)
def test_plain_names(label, name):
    assert plain(label) == name


PHRASES = """an egg, a unicorn, an x-ray, cherries, a bus, bread, people hugging, a bowl with spoon,
    a person lifting weights, no smoking, a face with open mouth"""


@pytest.mark.parametrize("phrase", [" ".join(phrase.split()) for phrase in PHRASES.split(",")])
def test_articles(phrase):
    first, _, rest = phrase.partition(" ")
    assert with_article(rest if first in ("a", "an") else phrase) == phrase


def test_keywords_are_single_words_that_the_name_does_not_hold():
    tags = ["apple", "Fruit", "red", "health food", "24", "lol"]
    assert keywords(tags, "red apple") == ("fruit",)


@pytest.mark.parametrize(
    ("points", "stem", "gender"),
    [
        ("1f469-200d-1f692", "1f9d1-200d-1f692", "woman"),  # woman firefighter
        ("1f9d1-200d-1f692", "1f9d1-200d-1f692", None),
        ("1f6b6-200d-2642-200d-27a1", "1f6b6", "man"),  # man walking facing right
        ("1f478", "1fac5", "woman"),  # princess
        ("1f427", "1f427", None),  # penguin
    ],
)
def test_stems_and_genders(points, stem, gender):
    assert stem_and_gender(points) == (stem, gender)


def test_near_is_measured_by_what_is_drawn():
    """Two small different drawings on white are far apart, a large one and its copy are near."""
    white = np.full((64, 64, 3), 255, np.uint8)
    large, small, other = white.copy(), white.copy(), white.copy()
    large[8:56, 8:56] = 30
    copy = large.copy()
    copy[8:12, 8:12] = 255  # 16 of 2,304 drawn pixels
    small[10:14, 10:14], other[40:44, 40:44] = 30, 30
    drawn = {5: large, 7: small, 8: other, 9: copy}
    assert list(near_duplicates(drawn)) == [(5, 9)]
    assert list(near_duplicates(drawn, limit=0.05)) == []


def test_a_sheet_keeps_every_pixel():
    rng = np.random.default_rng(0)
    drawn = {n: rng.integers(0, 256, (64, 64, 3), np.uint8) for n in (0, 41)}
    image = np.array(Image.open(io.BytesIO(sheet(drawn, 42))))
    assert image.shape == (128, 40 * 64, 3)
    assert (image[:64, :64] == drawn[0]).all() and (image[64:, 64:128] == drawn[41]).all()
    assert (image[:64, 64:] == 255).all()


def test_an_archive_other_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    content = json.dumps({}).encode()
    with tarfile.open(tmp_path / "names.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("package/en/data.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    told = []

    def npm(command, **options):
        told.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="names.tgz\n")

    monkeypatch.setattr(emoji.subprocess, "run", npm)
    with pytest.raises(ValueError, match=r"data@17\.0\.0 is not the archive"):
        fetch(NAMES, tmp_path)
    assert told == [["npm", "pack", "--silent", "emojibase-data@17.0.0"]]
