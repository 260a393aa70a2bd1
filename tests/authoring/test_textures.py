"""What the maintainer's command makes of photographs, and which it refuses."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from course_lib.authoring import textures
from course_lib.authoring.textures import photograph, smaller


def wheel_with(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"skimage/data/{name}.png", content)
    return zipfile.ZipFile(buffer)


def test_a_photograph_other_than_the_pinned_one_is_refused(monkeypatch):
    wheel = wheel_with("grass", b"a lawn")
    with pytest.raises(ValueError, match=r"grass\.png is not the file that was pinned"):
        photograph(wheel, "grass")
    pinned = {"grass": (256, hashlib.sha256(b"a lawn").hexdigest())}
    monkeypatch.setattr(textures, "PHOTOGRAPHS", pinned)
    assert photograph(wheel, "grass") == b"a lawn"


def test_smaller_takes_means_of_the_upper_left_part():
    pixels = np.zeros((512, 512), np.uint8)
    pixels[0, 0], pixels[1, 1], pixels[0, 2], pixels[300, 300] = 200, 100, 40, 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    made = np.array(Image.open(io.BytesIO(smaller(buffer.getvalue(), 256))))
    assert made.shape == (128, 128)
    assert made[0, 0] == 75 and made[0, 1] == 10  # means of 2 × 2
    assert made.sum() == 85  # the rest lies outside
