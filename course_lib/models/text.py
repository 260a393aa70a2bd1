"""TextEncoder (CLIP's transformer), a small ImageEncoder, and CLIP, which ties the two."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from course_lib.common.checks import WHOLE, alike, finite, same_device

from .attention import Attention
from .layers import (
    Down,
    ResBlock,
    check_image,
    check_range,
    conv,
    keeps_kwargs,
    norm,
    tokens,
    unknown,
)
from .tokenizer import Tokenizer


class QuickGELU(nn.Module):
    """x·σ(1.702x), the approximation that CLIP was trained with (Hendrycks & Gimpel 2016)."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class EncoderBlock(nn.Module):
    """Self-attention, then two linear layers, each normalised before and around a skip."""

    def __init__(self, dim, heads, mlp=4, causal=False):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=heads, bias=True, causal=causal)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, round(mlp * dim)), QuickGELU(), nn.Linear(round(mlp * dim), dim)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))  # (B, L, D)
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    """CLIP's text transformer (Radford et al. 2021, §2.4): ids (B, L) -> context (B, L, dim).

    Causal: token n knows of tokens 0..n. The last id, vocab_size - 1, is the end of text.
    """

    @keeps_kwargs
    def __init__(self, vocab_size, length=24, dim=128, layers=2, heads=4, mlp=4):
        super().__init__()
        self.vocab_size, self.length, self.dim = vocab_size, length, dim
        self.token = nn.Embedding(vocab_size, dim)
        self.position = nn.Embedding(length, dim)
        # CLIP starts at 0.02 and 0.01, and needs long to let a word's own vector be heard: a small
        # encoder, soon frozen, would hand the U-Net contexts that have forgotten their words
        nn.init.normal_(self.token.weight, std=1.0)
        nn.init.normal_(self.position.weight, std=0.5)
        blocks = (EncoderBlock(dim, heads, mlp, causal=True) for _ in range(layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids):
        self.check(ids)
        x = self.token(ids) + self.position.weight[: ids.shape[1]]  # (B, L, D)
        return self.norm(self.blocks(x))

    def pool(self, ids, context):
        """The context at each caption's first end of text: (B, L, dim) -> (B, dim)."""
        if context.shape[:2] != ids.shape or ids.dtype not in WHOLE:
            shapes = f"{tuple(ids.shape)} {ids.dtype}, but the context is {tuple(context.shape)}"
            raise ValueError(f"token ids are {shapes}")
        same_device("token ids", ids, "the context", context)
        ends = (ids == self.vocab_size - 1).int().argmax(dim=1)  # (B,)
        return context[torch.arange(len(ids), device=ids.device), ends]

    def check(self, ids):
        built = f"this TextEncoder was built with length={self.length}, vocab_size="
        same_device("token ids", ids, "this TextEncoder", self.token.weight)
        if ids.ndim != 2 or ids.shape[1] > self.length or ids.dtype not in WHOLE:
            shape = f"{tuple(ids.shape)} {ids.dtype}"
            raise ValueError(f"token ids are {shape}, but {built}{self.vocab_size}")
        if unknown(ids) or not len(ids):
            return
        low, high = ids.aminmax()
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"token ids are in {low}..{high}, but {built}{self.vocab_size}")


class ImageEncoder(nn.Module):
    """A small vision transformer on a convolutional stem (Xiao et al. 2021).

    Images (B, in_channels, size, size) -> features (B, dim). The stem folds patches into channels
    and halves the size once, so the transformer sees (size / patch / 2)² tokens.
    """

    @keeps_kwargs
    def __init__(
        self, in_channels=3, size=64, patch=4, channels=64, dim=128, layers=2, heads=4, mlp=4
    ):
        super().__init__()
        self.in_channels, self.size, self.dim = in_channels, size, dim
        self.multiple = 2 * patch
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch),
            conv(in_channels * patch**2, channels),
            ResBlock(channels, channels),
            Down(channels),
            ResBlock(channels, channels),
            norm(channels),
            nn.Conv2d(channels, dim, 1),
        )
        self.position = nn.Parameter(0.5 * torch.randn((size // self.multiple) ** 2, dim))
        self.blocks = nn.Sequential(*(EncoderBlock(dim, heads, mlp) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)

    def patches(self, images):
        """One feature for each square of the picture: (B, (size / multiple)², dim), row by row."""
        check_image(images, self.in_channels, self.multiple, self)
        check_range(images)
        if images.shape[2:] != (self.size, self.size):
            size = f"{images.shape[2]}×{images.shape[3]}"
            raise ValueError(f"images are {size}, but this ImageEncoder was built for {self.size}")
        x = tokens(self.stem(images)) + self.position  # (B, N, dim)
        return self.norm(self.blocks(x))

    def forward(self, images):
        return self.patches(images).mean(dim=1)


class PromptEncoder(nn.Module):
    """The text half of CLIP, all that a text-to-image model keeps of it: captions to contexts."""

    def __init__(self, tokenizer: Tokenizer, text: TextEncoder):
        super().__init__()
        self.tokenizer, self.text = tokenizer, text

    def ids(self, captions: Sequence[str]) -> torch.Tensor:
        return self.tokenizer(captions).to(self.text.norm.weight.device)  # (B, L)

    def context(self, captions: Sequence[str]) -> torch.Tensor:
        """What the U-Net's cross-attention reads: (B, L, dim)."""
        return self.text(self.ids(captions))


class CLIP(PromptEncoder):
    """Contrastive language-image pre-training (Radford et al. 2021), small.

    tokenizer, text, image: keywords of Tokenizer, TextEncoder (its vocabulary and length come from
    the tokenizer) and ImageEncoder; dim is the width of the space in which the two meet.
    """

    @keeps_kwargs
    def __init__(self, tokenizer, text, image, dim=128):
        words = Tokenizer(**tokenizer)
        super().__init__(words, TextEncoder(len(words), words.length, **text))
        self.image = ImageEncoder(**image)
        self.text_projection = nn.Linear(self.text.dim, dim, bias=False)
        self.image_projection = nn.Linear(self.image.dim, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, captions):
        """Captions as unit vectors (B, dim)."""
        ids = self.ids(captions)
        return F.normalize(self.text_projection(self.text.pool(ids, self.text(ids))), dim=1)

    def embed_image(self, images):
        """Images as unit vectors (B, dim)."""
        return F.normalize(self.image_projection(self.image(images)), dim=1)

    def loss(self, images, captions, wrong=None):
        """clip_loss of a batch of pairs; `wrong`: captions that are true of none of the images."""
        negatives = self.embed_text(wrong) if wrong else None
        features = self.embed_image(images), self.embed_text(captions)
        return clip_loss(*features, self.logit_scale, negatives)


def clip_loss(image_features, text_features, logit_scale, negatives=None):
    """Symmetric cross-entropy of a batch of pairs (Radford et al. 2021, figure 3).

    Unit vectors (B, D) each; logit_scale: log of the inverse temperature, which is capped at 100.
    negatives (M, D): captions with swapped objects or relations, true of no image in the batch;
    without them the text encoder need not learn word order (Yuksekgonul et al. 2023).
    """
    check_pairs(image_features, text_features)
    same_device("logit_scale", logit_scale, "the features", image_features)
    if negatives is not None:
        alike("a negative", negatives[:1], "a caption", text_features[:1])
    captions = text_features if negatives is None else torch.cat([text_features, negatives])
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * image_features @ captions.T  # (B, B + M)
    pairs = torch.arange(len(logits), device=logits.device)
    to_text = F.cross_entropy(logits, pairs)
    to_image = F.cross_entropy(logits[:, : len(logits)].T, pairs)
    return (to_text + to_image) / 2


def retrieval(image_features, text_features):
    """Share of images that find their own caption first, and of captions their image."""
    check_pairs(image_features, text_features)
    finite("image features", image_features)
    finite("text features", text_features)
    similarity = image_features @ text_features.T  # (B, B)
    pairs = torch.arange(len(similarity), device=similarity.device)
    found = [similarity.argmax(dim) == pairs for dim in (1, 0)]
    return tuple(hits.float().mean().item() for hits in found)


def check_pairs(image_features, text_features):
    """ValueError unless they are the features of one or more pairs, (B, D) each."""
    alike("text_features", text_features, "image_features", image_features)
    if image_features.ndim != 2 or not len(image_features):
        raise ValueError(f"features are {tuple(image_features.shape)}, expected (B, D), B from 1")


# Stable Diffusion 1.5's text encoder, that of CLIP ViT-L/14: 123,060,480 parameters
SD15_TEXT = dict(vocab_size=49408, length=77, dim=768, layers=12, heads=12)
