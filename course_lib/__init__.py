"""From DDPM to Stable Diffusion: the companion package of the course.

Where things are, from the lowest layer to the highest; a folder imports only from lower layers
(the contracts are in pyproject.toml, and tests/test_layers.py checks them):

common       input checks, choice by name, paths, devices, safe files, checkpoints, CUDA graphs
diffusion    the mathematics: schedules, process, samplers, guidance, DDPM, likelihood
models       the networks: UNet, DiT, VAE, AutoencoderKL, TextEncoder, CLIP
datasets     toy points, digits, scenes, phantoms, torchvision's sets, your own pictures, shards
training     the loop, EMA, optimizers; scale/: processes, sharding, recomputation, cost model
evaluation   the prompt oracle, metrics, distances, nearest neighbours
pipelines    text_to_image, image_to_image, inpaint; stable_diffusion/: published checkpoints
recipes      named trainings such as "scenes-latent", one file per family
teaching     what a chapter calls: check, plots, schematics, explorables, results
exercises    reference answers and known misconceptions, one file per chapter
experiments  recorded studies
authoring    tools for maintainers
cli          the command `course`

Import the package before torch. It then sets how long torch's threads wait for each other: between
two operations an OpenMP thread keeps its core busy while it waits, which makes a training step many
times slower on a busy machine (tests/benchmarks/busy.py measures it).
"""

import os
import sys

__version__ = "1.0.0"

SHORT_WAITS = {
    "GOMP_SPINCOUNT": "2000",  # polls, some µs in all: GNU's runtime, torch for Linux
    "KMP_BLOCKTIME": "1",  # ms: LLVM's and Intel's runtimes, torch for macOS, Windows and conda
}
TORCH_FIRST = "COURSE_TORCH_FIRST"  # tells `course doctor`, even one that a notebook starts


def set_short_waits() -> None:
    """Set the waits, unless the user did; if torch, which reads them once, is loaded, note that."""
    if {"OMP_WAIT_POLICY", *SHORT_WAITS} & os.environ.keys():
        return
    os.environ.update({TORCH_FIRST: "1"} if "torch" in sys.modules else SHORT_WAITS)


set_short_waits()
