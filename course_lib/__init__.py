"""From DDPM to Stable Diffusion: the companion package of the course.

common        input checks, files, checkpoints, devices, choice by name
diffusion     the mathematics: schedules, process, samplers, guidance
models        the networks: UNet, DiT, AutoencoderKL, CLIP
datasets      toy points, digits, captioned scenes, your own pictures
training      the loop, EMA, optimizers; scale/ for several processes and large networks
evaluation    the prompt oracle, metrics, distances
pipelines     text_to_image, image_to_image, inpaint, Stable Diffusion's files
recipes       named trainings, such as "scenes-latent"
teaching      what the chapters call; exercises: their answers; experiments: recorded studies
authoring     tools for maintainers;  cli: the command `course`

Importing the package, before torch is imported, makes torch's threads wait briefly for each other.
Between two operations an OpenMP thread keeps its core busy while it waits for the others: that
makes a training step many times slower beside a busy program (see tests/benchmarks/busy.py).
"""

import os
import sys

__version__ = "1.0.0"

SHORT_WAITS = {
    "GOMP_SPINCOUNT": "1000",  # looks at a variable, some µs: GNU's runtime, torch for Linux
    "KMP_BLOCKTIME": "1",  # ms: LLVM's and Intel's runtimes, torch for macOS, Windows and conda
}
TORCH_FIRST = "COURSE_TORCH_FIRST"  # for `course doctor`, also where a notebook starts it


def set_short_waits() -> None:
    """Set what the user did not; or note that torch, which reads it only once, is here already."""
    if {"OMP_WAIT_POLICY", *SHORT_WAITS} & os.environ.keys():
        return
    os.environ.update({TORCH_FIRST: "1"} if "torch" in sys.modules else SHORT_WAITS)


set_short_waits()
