"""Does a picture of a scene follow a layout, a drawing of where the shapes should be?

    overlap(images, layouts)    # how well the drawn area and the layout's coincide, 0 to 1
    placed(images, centres)     # whether the oracle finds every shape where it should be

Neither looks at colours, so a picture can follow its layout and contradict its caption.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from course_lib.common.checks import require
from course_lib.evaluation.oracle import PromptOracle
from course_lib.evaluation.segmentation import SEEN, background_colour

NEAR = 0.05  # between a shape's centre and where it should be, in picture widths: 3 of 64 pixels


def drawn(images: Tensor) -> Tensor:
    """The pixels that stand out from the background: images (B, 3, H, W) -> bools (B, H, W)."""
    return (images - background_colour(images)[:, :, None, None]).norm(dim=1) > SEEN


def overlap(images: Tensor, layouts: Tensor) -> Tensor:
    """Intersection over union of the drawn area and the layout's: (B,), from 0 to 1.

    images (B, 3, H, W) in [-1, 1]; layouts (B, 1, H, W) in [0, 1]. ValueError for other shapes, and
    for an empty layout.

    >>> from course_lib.datasets.scenes import Scenes
    >>> images, _ = Scenes().batch([0])
    >>> overlap(images, Scenes().layouts([0])).item() > 0.9
    True
    """
    wanted = layouts[:, 0] > 0.5  # (B, H, W)
    shape = (len(images), 1, *images.shape[2:])
    require(layouts.shape == shape, "layouts", f"{shape}, as the images", tuple(layouts.shape))
    require(wanted.flatten(1).any(1).all(), "layouts", "at least one shape in each", "an empty one")
    seen = drawn(images.float().cpu())
    both, either = (seen & wanted).flatten(1).sum(1), (seen | wanted).flatten(1).sum(1)
    return both / either


def placed(images: Tensor, centres: Sequence[np.ndarray]) -> list[bool]:
    """For each picture, whether it has a shape within NEAR of each centre, and no others.

    images (B, 3, 64, 64) in [-1, 1]; centres: for each picture (N, 2) as (x, y), in picture widths.

    >>> from course_lib.datasets.scenes import Scenes
    >>> images, _ = Scenes().batch([0])
    >>> _, (centres, _) = Scenes().scene(0)
    >>> placed(images, [centres])
    [True]
    """
    verdicts = []
    for sight, wanted in zip(PromptOracle().detect(images), centres, strict=True):
        found = np.array([each.centre for each in sight.detections]).reshape(-1, 2)
        distance = np.linalg.norm(found[:, None] - wanted, axis=2)  # (found, wanted)
        rows, columns = linear_sum_assignment(distance)
        same = len(found) == len(wanted)
        verdicts.append(same and bool((distance[rows, columns] < NEAR).all()))
    return verdicts
