"""The networks of the course. They don't depend on any noise schedule or dataset.

Parts that diffusers' or transformers' models have, too, have the same names there.
"""

from course_lib.models.attention import attention_maps, edited_attention, heat_map
from course_lib.models.classifier import Classifier, ContentAndStyle
from course_lib.models.controlnet import Controlled, ControlNet
from course_lib.models.dit import DiT
from course_lib.models.gan import GAN, Discriminator, Generator
from course_lib.models.layers import capture
from course_lib.models.lora import LoRA
from course_lib.models.sequence import SequenceTransformer
from course_lib.models.text import (
    CLIP,
    SD15_TEXT,
    ImageEncoder,
    PromptEncoder,
    TextEncoder,
    clip_loss,
    retrieval,
)
from course_lib.models.textual_inversion import TextualInversion
from course_lib.models.tokenizer import Tokenizer
from course_lib.models.unet import SD15_UNET, TextUNet, UNet, UNetBlock
from course_lib.models.vae import SD15_VAE, VAE, AutoencoderKL, Pixels

__all__ = [
    "CLIP",
    "GAN",
    "SD15_TEXT",
    "SD15_UNET",
    "SD15_VAE",
    "VAE",
    "AutoencoderKL",
    "Classifier",
    "ContentAndStyle",
    "ControlNet",
    "Controlled",
    "DiT",
    "Discriminator",
    "Generator",
    "ImageEncoder",
    "LoRA",
    "Pixels",
    "PromptEncoder",
    "SequenceTransformer",
    "TextEncoder",
    "TextUNet",
    "TextualInversion",
    "Tokenizer",
    "UNet",
    "UNetBlock",
    "attention_maps",
    "capture",
    "clip_loss",
    "edited_attention",
    "heat_map",
    "retrieval",
]
