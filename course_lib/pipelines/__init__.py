"""Trained networks put together: text in, picture out."""

from course_lib.pipelines.text_to_image import (
    LatentDiffusion,
    as_pipeline,
    image_to_image,
    inpaint,
    load_pipeline,
    load_published,
    text_to_image,
)

__all__ = [
    "LatentDiffusion",
    "as_pipeline",
    "image_to_image",
    "inpaint",
    "load_pipeline",
    "load_published",
    "text_to_image",
]
