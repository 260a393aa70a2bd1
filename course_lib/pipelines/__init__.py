"""Trained networks put together: text in, picture out."""

from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    image_to_image,
    inpaint,
    load_published,
    text_to_image,
)

__all__ = [
    "LatentDiffusion",
    "image_to_image",
    "inpaint",
    "load_published",
    "text_to_image",
]
