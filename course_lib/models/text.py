"""TextEncoder (CLIP's transformer), a small ImageEncoder, and CLIP, which joins the two."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import FLOATS, WHOLE, check_tensor, finite, require
from course_lib.models.attention import Attention
from course_lib.models.layers import Downsample, ResnetBlock, conv, keeps_kwargs, norm, tokens
from course_lib.models.tokenizer import Tokenizer


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702x), the approximation that CLIP was trained with (Hendrycks & Gimpel 2016)."""
    return x * torch.sigmoid(1.702 * x)


class MLP(nn.Module):
    """Two linear layers with CLIP's activation between them."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    """Self-attention, then an MLP; each is residual, with a norm first."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4, causal: bool = False):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, heads=heads, bias=True, causal=causal)
        self.layer_norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, round(mlp_ratio * dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))  # (B, L, D)
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    """CLIP's text transformer (Radford et al. 2021, §2.4): ids (B, L) -> context (B, L, dim).

    Causal: the vector of token n depends on tokens 0..n only. The last id, vocab_size - 1, is the
    end of text. Its parts are named as in transformers' CLIPTextModel.

    >>> TextEncoder(vocab_size=10, length=6, dim=8)(torch.tensor([[8, 1, 2, 9]])).shape
    torch.Size([1, 4, 8])
    """

    @keeps_kwargs
    def __init__(
        self,
        vocab_size: int,
        length: int = 24,
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        mlp_ratio: float = 4,
    ):
        super().__init__()
        self.vocab_size, self.length, self.dim = vocab_size, length, dim
        self.token_embedding = nn.Embedding(vocab_size, dim)
        self.position_embedding = nn.Embedding(length, dim)
        # CLIP starts at 0.02 and 0.01, and then it takes long until a word's own vector has an
        # effect: after a short training, a small encoder's context would hardly show the words
        nn.init.normal_(self.token_embedding.weight, std=1.0)
        nn.init.normal_(self.position_embedding.weight, std=0.5)
        self.layers = nn.Sequential(
            *(EncoderLayer(dim, heads, mlp_ratio, causal=True) for _ in range(layers))
        )
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, ids: Tensor) -> Tensor:
        self.check(ids)
        positions = self.position_embedding.weight[: ids.shape[1]]  # (L, D)
        x = self.token_embedding(ids) + positions  # (B, L, D)
        return self.final_layer_norm(self.layers(x))

    def pool(self, ids: Tensor, context: Tensor) -> Tensor:
        """The context at each caption's first end-of-text token: (B, L, dim) -> (B, dim)."""
        check_tensor("token ids", ids, context.shape[:2], context, WHOLE)
        ends = (ids == self.vocab_size - 1).int().argmax(dim=1)  # (B,)
        return context[torch.arange(len(ids), device=ids.device), ends]

    def check(self, ids: Tensor) -> None:
        weight = self.token_embedding.weight  # with the new words of a TextualInversion
        check_tensor("token ids", ids, ("B", "L"), weight, WHOLE, (0, len(weight) - 1))
        require(ids.shape[1] <= self.length, "token ids", f"at most {self.length} in a row", ids)


class ImageEncoder(nn.Module):
    """A small vision transformer on a convolutional stem (Xiao et al. 2021).

    Images (B, in_channels, size, size) -> features (B, dim). The stem folds patches into channels
    and halves the size once, so the transformer has (size / patch_size / 2)² tokens.

    >>> ImageEncoder(size=16, channels=8, dim=8)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 8])
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels: int = 3,
        size: int = 64,
        patch_size: int = 4,
        channels: int = 64,
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        mlp_ratio: float = 4,
    ):
        super().__init__()
        self.in_channels, self.size, self.dim = in_channels, size, dim
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            conv(in_channels * patch_size**2, channels),
            ResnetBlock(channels, channels),
            Downsample(channels),
            ResnetBlock(channels, channels),
            norm(channels),
            nn.Conv2d(channels, dim, 1),
        )
        count = (size // patch_size // 2) ** 2  # of tokens
        self.position_embedding = nn.Parameter(0.5 * torch.randn(count, dim))
        self.layers = nn.Sequential(*(EncoderLayer(dim, heads, mlp_ratio) for _ in range(layers)))
        self.final_layer_norm = nn.LayerNorm(dim)

    def patches(self, images: Tensor) -> Tensor:
        """One feature for each token's square: (B, (size / patch_size / 2)², dim), row by row."""
        shape = "B", self.in_channels, self.size, self.size
        check_tensor("images", images, shape, self.position_embedding, values=(-1, 1))
        x = tokens(self.stem(images)) + self.position_embedding  # (B, N, dim)
        return self.final_layer_norm(self.layers(x))

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images).mean(dim=1)


class PromptEncoder(nn.Module):
    """The text half of CLIP, all that a text-to-image model needs: captions to contexts.

    >>> tokenizer = Tokenizer.train(["a red circle"], length=8)
    >>> encoder = PromptEncoder(tokenizer, TextEncoder(len(tokenizer), length=8, dim=8))
    >>> encoder.context(["a circle"]).shape
    torch.Size([1, 8, 8])
    """

    def __init__(self, tokenizer: Tokenizer, text_encoder: TextEncoder):
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    def ids(self, captions: str | Sequence[str]) -> Tensor:
        device = self.text_encoder.token_embedding.weight.device
        return self.tokenizer(captions).to(device)  # (B, L)

    def context(self, captions: str | Sequence[str]) -> Tensor:
        """What the U-Net's cross-attention reads: (B, L, dim)."""
        return self.text_encoder(self.ids(captions))


class CLIP(PromptEncoder):
    """Contrastive language-image pre-training (Radford et al. 2021), small.

    tokenizer, text, image: keywords of Tokenizer, TextEncoder (its vocabulary and length come from
    the tokenizer) and ImageEncoder; dim: the dimension of the embedding space that they share.

    >>> words = Tokenizer.train(["a red circle"], length=8).kwargs
    >>> clip = CLIP(words, text=dict(dim=8), image=dict(size=16, channels=8, dim=8), dim=6)
    >>> clip.embed_text(["a circle"]).shape, clip.embed_image(torch.zeros(1, 3, 16, 16)).shape
    (torch.Size([1, 6]), torch.Size([1, 6]))
    """

    @keeps_kwargs
    def __init__(self, tokenizer: dict, text: dict, image: dict, dim: int = 128):
        words = Tokenizer(**tokenizer)
        super().__init__(words, TextEncoder(len(words), words.length, **text))
        self.image_encoder = ImageEncoder(**image)
        self.text_projection = nn.Linear(self.text_encoder.dim, dim, bias=False)
        self.visual_projection = nn.Linear(self.image_encoder.dim, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, captions: str | Sequence[str]) -> Tensor:
        """Captions as unit vectors (B, dim)."""
        ids = self.ids(captions)
        pooled = self.text_encoder.pool(ids, self.text_encoder(ids))
        return F.normalize(self.text_projection(pooled), dim=1)

    def embed_image(self, images: Tensor) -> Tensor:
        """Images as unit vectors (B, dim)."""
        return F.normalize(self.visual_projection(self.image_encoder(images)), dim=1)

    def loss(
        self, images: Tensor, captions: Sequence[str], negatives: Sequence[str] | None = None
    ) -> Tensor:
        """clip_loss of a batch of pairs; negatives: captions that describe no image in it."""
        negatives = self.embed_text(negatives) if negatives else None
        features = self.embed_image(images), self.embed_text(captions)
        return clip_loss(*features, self.logit_scale, negatives)


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    negatives: Tensor | None = None,
) -> Tensor:
    """Symmetric cross-entropy of a batch of pairs (Radford et al. 2021, figure 3).

    Unit vectors (B, D) each; logit_scale: log of the inverse temperature, which is capped at 100.
    negatives (M, D): hard negatives, captions with swapped objects or relations that don't describe
    any image in the batch. Without them, the text encoder doesn't need to learn the order of words
    (Yuksekgonul et al. 2023).

    >>> features = torch.eye(4)
    >>> clip_loss(features, features, torch.tensor(0.0))
    tensor(0.7437)
    """
    check_pairs(image_features, text_features)
    device = image_features.device
    require(logit_scale.device == device, "logit_scale", f"a number on {device}", logit_scale)
    if negatives is not None:
        check_tensor("negatives", negatives, ("M", text_features.shape[1]), text_features)
    captions = text_features if negatives is None else torch.cat([text_features, negatives])
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * image_features @ captions.T  # (B, B + M)
    pairs = torch.arange(len(logits), device=logits.device)  # (B,)
    to_text = F.cross_entropy(logits, pairs)
    to_image = F.cross_entropy(logits[:, : len(logits)].T, pairs)
    return (to_text + to_image) / 2


def retrieval(image_features: Tensor, text_features: Tensor) -> tuple[float, float]:
    """Recall at 1: the share of images whose nearest caption is their own, and vice versa.

    >>> retrieval(torch.eye(4), torch.eye(4)[[1, 0, 2, 3]])
    (0.5, 0.5)
    """
    check_pairs(image_features, text_features)
    similarity = image_features @ text_features.T  # (B, B)
    finite("similarity of features", similarity)
    pairs = torch.arange(len(similarity), device=similarity.device)  # (B,)
    found = [similarity.argmax(dim) == pairs for dim in (1, 0)]
    return tuple(hits.float().mean().item() for hits in found)


def check_pairs(image_features: Tensor, text_features: Tensor) -> None:
    """ValueError unless these are features of one or more pairs, (B, D) each."""
    check_tensor("image_features", image_features, ("B", "D"), image_features, FLOATS)
    check_tensor("text_features", text_features, image_features.shape, image_features)


# Stable Diffusion 1.5's text encoder, that of CLIP ViT-L/14: 123,060,480 parameters
SD15_TEXT = dict(vocab_size=49408, length=77, dim=768, layers=12, heads=12)
