"""Trained networks put together: a caption or measurements in, a picture out.

text_to_image      a caption in, a picture out
edit               image to image, inpainting, outpainting, constraints, anagrams
prompt_to_prompt   a caption and its edited version in, two pictures of one layout out
inverse            measurements in, samples of the posterior out
watermark          a ring in the initial noise, found again by inverting DDIM
stable_diffusion/  published checkpoints
"""

from course_lib.pipelines.edit import anagram, constrained, image_to_image, inpaint, outpaint
from course_lib.pipelines.inverse import (
    Operator,
    exact_posterior,
    fourier,
    frequency_mask,
    posterior_network,
    tomography,
    total_variation,
)
from course_lib.pipelines.prompt_to_prompt import prompt_to_prompt
from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    check_size,
    load_published,
    text_to_image,
)

__all__ = [
    "LatentDiffusion",
    "Operator",
    "anagram",
    "check_size",
    "constrained",
    "exact_posterior",
    "fourier",
    "frequency_mask",
    "image_to_image",
    "inpaint",
    "load_published",
    "outpaint",
    "posterior_network",
    "prompt_to_prompt",
    "text_to_image",
    "tomography",
    "total_variation",
]
