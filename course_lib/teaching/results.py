"""Results of recorded studies: trainings that take too long for a chapter, run in advance.

A study trains several variants, each with several seeds. Each of these runs is one file,
`recorded/STUDY/VARIANT-SEED.json`, written by `python -m course_lib.experiments.STUDY`. If a run
draws samples, they are in a PNG file beside it. Chapters read the files with `load_results`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_lib.common import paths
from course_lib.common.registry import choose


@dataclass(frozen=True)
class Result:
    """One run of a study: one variant, trained with one seed.

    command: the command that repeats the run. hardware: where it ran; None if not recorded.
    settings: the training settings, including "steps".
    metrics: measured at the end. curve: measured during the run, as columns of equal length, for
    example {"step": [1, 2], "loss": [1.0, 0.9]}.
    captions: for each row of the samples, one text per image; empty if there are no samples.
    """

    study: str
    variant: str
    seed: int
    command: str
    hardware: str | None
    settings: dict[str, float]
    metrics: dict[str, float]
    curve: dict[str, list[float]]
    captions: list[list[str]]

    def samples(self) -> Tensor:
        """The images that the run drew: (rows, columns, 3, H, W) in [-1, 1].

        ValueError if it drew none.
        """
        if not self.captions:
            raise ValueError(f"{self.study}, {self.variant!r}: this study records no samples")
        path = result_path(self.study, self.variant, self.seed).with_suffix(".png")
        return read_samples(path, len(self.captions), len(self.captions[0]))


def read_samples(path: Path, rows: int, columns: int) -> Tensor:
    """The images of a PNG without gaps between them: (rows, columns, 3, H, W) in [-1, 1]."""
    with Image.open(path) as image:
        rgb = torch.from_numpy(np.array(image.convert("RGB")))  # (rows·H, columns·W, 3)
    height, width = rgb.shape[0] // rows, rgb.shape[1] // columns
    tiles = rgb.view(rows, height, columns, width, 3).permute(0, 2, 4, 1, 3)
    return tiles / 127.5 - 1


def result_path(study: str, variant: str, seed: int) -> Path:
    """The path of that run's result.

    >>> result_path("unet_ablation", "no time", 1).name
    'no-time-1.json'
    """
    slug = "-".join(variant.replace(",", "").split())
    return paths.RECORDED / study / f"{slug}-{seed}.json"


def load_results(study: str, variant: str | None = None) -> list[Result]:
    """All recorded runs of a study, or of one variant of it, in order of variant and seed.

    ValueError for an unknown study or variant, and for a damaged file.

    >>> [run.seed for run in load_results("unet_ablation", "no time")]
    [1, 2]
    """
    folders = {path.name: path for path in sorted(paths.RECORDED.iterdir()) if path.is_dir()}
    files = choose("study", study, folders).glob("*.json")
    runs = sorted(map(read, files), key=lambda run: (run.variant, run.seed))
    return runs if variant is None else choose("variant", variant, by_variant(runs))


def by_variant(runs: list[Result]) -> dict[str, list[Result]]:
    """The runs of each variant: its name -> one result per seed.

    >>> sorted(by_variant(load_results("pixel_vs_latent")))
    ['latent', 'pixel']
    """
    grouped: dict[str, list[Result]] = {}
    for run in runs:
        grouped.setdefault(run.variant, []).append(run)
    return grouped


def read(path: Path) -> Result:
    """The result in that file; ValueError in one line if it is damaged."""
    try:
        return Result(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name} is not a recorded result: {error}") from error
