"""Reads published Stable Diffusion 1 checkpoints into the course's own modules, and writes them.

parts = load_stable_diffusion("stable-diffusion-v1-5")                  # diffusers' folder
parts = load_stable_diffusion("v1-5-pruned-emaonly.safetensors", "tokenizer")   # one file
save_stable_diffusion(parts, "outputs/small")                           # diffusers' folder
loras = load_lora("style.safetensors", parts)                           # diffusers' or kohya's
controlnet = load_controlnet("sd-controlnet-canny", parts)              # diffusers' folder
clip = load_textual_inversion("toy.safetensors", parts, "<toy>")        # a new word
"""

from course_lib.pipelines.stable_diffusion.checkpoint import (
    StableDiffusion,
    load_stable_diffusion,
    times,
)
from course_lib.pipelines.stable_diffusion.controlnet import load_controlnet, save_controlnet
from course_lib.pipelines.stable_diffusion.lora import load_lora, save_lora
from course_lib.pipelines.stable_diffusion.save import save_stable_diffusion
from course_lib.pipelines.stable_diffusion.textual_inversion import (
    load_textual_inversion,
    save_textual_inversion,
)

__all__ = [
    "StableDiffusion",
    "load_controlnet",
    "load_lora",
    "load_stable_diffusion",
    "load_textual_inversion",
    "save_controlnet",
    "save_lora",
    "save_stable_diffusion",
    "save_textual_inversion",
    "times",
]
