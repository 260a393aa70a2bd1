"""Published Stable Diffusion 1 checkpoints, read into the course's own modules.

parts = load_stable_diffusion("stable-diffusion-v1-5")                  # diffusers' folder
parts = load_stable_diffusion("v1-5-pruned-emaonly.safetensors", "tokenizer")   # one file
"""

from course_lib.pipelines.stable_diffusion.checkpoint import (
    StableDiffusion,
    load_stable_diffusion,
    times,
)

__all__ = ["StableDiffusion", "load_stable_diffusion", "times"]
