"""The networks of the course. They know no noise schedule and no dataset."""

from .attention import attention_maps, heat
from .dit import DiT
from .layers import watch
from .text import (
    CLIP,
    SD15_TEXT,
    ImageEncoder,
    PromptEncoder,
    TextEncoder,
    clip_loss,
    retrieval,
)
from .tokenizer import Tokenizer
from .unet import SD15_UNET, TextUNet, UNet, UNetBlock
from .vae import SD15_VAE, VAE, AutoencoderKL, Pixels

__all__ = [
    "CLIP",
    "SD15_TEXT",
    "SD15_UNET",
    "SD15_VAE",
    "VAE",
    "AutoencoderKL",
    "DiT",
    "ImageEncoder",
    "Pixels",
    "PromptEncoder",
    "TextEncoder",
    "TextUNet",
    "Tokenizer",
    "UNet",
    "UNetBlock",
    "attention_maps",
    "clip_loss",
    "heat",
    "retrieval",
    "watch",
]
