"""Three photographs of surfaces, small and grey: brick, grass and gravel.

    texture("gravel")     # (1, 1, 128, 128) in [-1, 1]

`data/textures/README.md` says who took them, and how they were made smaller.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_lib.common.paths import ROOT
from course_lib.common.registry import choose

FOLDER = ROOT / "data" / "textures"
TEXTURES = ("brick", "grass", "gravel")
SIZE = 128


def texture(name: str) -> Tensor:
    """That photograph: (1, 1, 128, 128) in [-1, 1].

    Raises ValueError for an unknown name, and FileNotFoundError if the file is missing.

    >>> texture("brick").shape
    torch.Size([1, 1, 128, 128])
    """
    path = FOLDER / f"{choose('texture', name, {each: each for each in TEXTURES})}.png"
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file {path}: bring data/textures back from the course's repository"
        )
    with Image.open(path) as image:
        grey = torch.from_numpy(np.array(image.convert("L")))  # (128, 128)
    return grey[None, None] / 127.5 - 1
