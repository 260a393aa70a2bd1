"""How much guidance is useful: python tests/benchmarks/guidance.py [SCALE ...] [--count 128]

Prints, for each guidance scale, the share of the shipped model's pictures that the prompt oracle
finds right, over held-out captions of each kind, and its standard error. `ScenesLatent.scales` is
based on this table. Each scale takes 30 s on one idle core.
"""

import argparse
import logging

from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.evaluation.prompts import faithful, in_batches
from course_lib.pipelines import text_to_image
from course_lib.recipes import load_pipeline

parser = argparse.ArgumentParser(prog="guidance.py", description=__doc__.split("\n")[0])
parser.add_argument("scales", nargs="*", type=float, default=[1, 1.5, 2.5, 4, 5, 6, 7, 8, 12, 20])
parser.add_argument("--count", type=int, default=128, help="captions of each kind")
told = parser.parse_args()
logging.disable()  # the warnings about unusual scales, which are measured here
model = load_pipeline()


def right(kind: str, scale: float) -> float:
    """The share of pictures for which the whole caption is true."""
    data = Scenes(64, "new combinations", kind, seed=3, unsaid=0)
    captions = [data.caption(index) for index in range(told.count)]
    images = in_batches(
        lambda texts, seeds: text_to_image(model, texts, seeds, scale=scale),
        *(captions, range(told.count)),
    )
    return faithful(images, captions)[0].value


for scale in told.scales:
    shares = [right(kind, scale) for kind in KINDS]
    error = sum(share * (1 - share) / told.count for share in shares) ** 0.5 / len(KINDS)
    each = ", ".join(f"{kind} {share:.1%}" for kind, share in zip(KINDS, shares, strict=True))
    mean = sum(shares) / len(KINDS)
    print(f"guidance {scale:4g}: {mean:.1%} ± {error:.1%} right ({each})", flush=True)
