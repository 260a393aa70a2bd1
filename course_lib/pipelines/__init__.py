"""Trained networks put together: text in, picture out."""

from course_lib.pipelines.edit import image_to_image, inpaint
from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    check_size,
    load_published,
    text_to_image,
)

__all__ = [
    "LatentDiffusion",
    "check_size",
    "image_to_image",
    "inpaint",
    "load_published",
    "text_to_image",
]
