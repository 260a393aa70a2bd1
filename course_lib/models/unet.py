"""The denoising network: UNet, TextUNet, and UNetBlock, which the course studies in detail."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import check_tensor, require
from course_lib.models.attention import Attention, SpatialTransformer
from course_lib.models.layers import (
    Downsample,
    IntervalEmbedding,
    ResnetBlock,
    TimeEmbedding,
    Upsample,
    check_inputs,
    conv,
    grid,
    keeps_kwargs,
    norm,
    tokens,
    zeroed,
)
from course_lib.models.text import TextEncoder
from course_lib.models.tokenizer import Tokenizer


class NoAttention(nn.Module):
    """The identity, in place of a transformer at a resolution without attention."""

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        return x


def attentions(count: int, channels: int, transformer: dict | None) -> nn.ModuleList:
    """A SpatialTransformer with these keywords, or NoAttention, for each of `count` blocks."""
    return nn.ModuleList(
        SpatialTransformer(channels, **transformer) if transformer else NoAttention()
        for _ in range(count)
    )


class DownBlock(nn.Module):
    """Residual blocks and attention at one resolution, then downsampling.

    resnet, transformer: keywords of ResnetBlock and SpatialTransformer. Each result is appended to
    `skips` for the UpBlocks.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        layers: int,
        downsample: bool,
        resnet: dict,
        transformer: dict | None,
    ):
        super().__init__()
        widths = [in_channels] + [channels] * (layers - 1)
        self.resnets = nn.ModuleList(ResnetBlock(w, channels, **resnet) for w in widths)
        self.attentions = attentions(layers, channels, transformer)
        self.downsamplers = nn.ModuleList([Downsample(channels)] if downsample else [])

    def forward(
        self, x: Tensor, temb: Tensor, context: Tensor | None, skips: list[Tensor]
    ) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, temb), context)
            skips.append(x)
        for downsample in self.downsamplers:  # one, or none
            x = downsample(x)
            skips.append(x)
        return x


class MidBlock(nn.Module):
    """The lowest resolution: residual block, attention, residual block."""

    def __init__(self, channels: int, resnet: dict, transformer: dict | None):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, **resnet) for _ in range(2))
        self.attentions = attentions(1, channels, transformer)

    def forward(self, x: Tensor, temb: Tensor, context: Tensor | None) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, temb), context)
        return self.resnets[1](x, temb)


class UpBlock(nn.Module):
    """Residual blocks and attention at one resolution, then upsampling.

    Each residual block's input is joined with one of the `skips`, the last of which has
    `skip_channels`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        skip_channels: int,
        layers: int,
        upsample: bool,
        resnet: dict,
        transformer: dict | None,
    ):
        super().__init__()
        below = [in_channels] + [channels] * (layers - 1)
        skips = [channels] * (layers - 1) + [skip_channels]
        widths = [a + b for a, b in zip(below, skips, strict=True)]
        self.resnets = nn.ModuleList(ResnetBlock(w, channels, **resnet) for w in widths)
        self.attentions = attentions(layers, channels, transformer)
        self.upsamplers = nn.ModuleList([Upsample(channels)] if upsample else [])

    def forward(
        self, x: Tensor, temb: Tensor, context: Tensor | None, skips: list[Tensor]
    ) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = torch.cat([x, skips.pop()], dim=1)
            x = attention(resnet(x, temb), context)
        for upsample in self.upsamplers:  # one, or none
            x = upsample(x)
        return x


class UNet(nn.Module):
    """The U-Net of diffusion models (Ho et al. 2020, app. B; Rombach et al. 2022, §3.3).

    `prediction = unet(x, timestep, context)`: x and prediction (B, in/out_channels, H, W),
    timestep (B,). The context depends on how the network was built:
    - with `context_dim`: (B, L, context_dim), read by cross-attention;
    - with `classes`: integers 0..classes (B,), whose embedding is added to the time embedding;
      `classes` itself stands for "no class";
    - otherwise None.
    `multipliers` and `attention` have one entry for each resolution, from the highest down, each
    half of the previous one. `layers_per_block` is the number of residual blocks at each, plus one
    on the way up. H and W must be multiples of 2**(resolutions - 1); ValueError for inputs that do
    not fit. Its parts are named as in diffusers' UNet2DConditionModel.
    `residuals`, if there are any, are added to the skips and to the middle's output, one to each:
    this is how a ControlNet steers the network.

    >>> unet = UNet(4, channels=8, multipliers=(1, 2), attention=(False, True), context_dim=6)
    >>> unet(torch.zeros(1, 4, 8, 8), torch.tensor([500.0]), torch.zeros(1, 5, 6)).shape
    torch.Size([1, 4, 8, 8])
    """

    @keeps_kwargs
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int | None = None,
        channels: int = 64,
        multipliers: Sequence[float] = (1, 2, 4),
        layers_per_block: int = 2,
        attention: Sequence[bool] = (False, True, True),
        heads: int = 4,
        context_dim: int | None = None,
        classes: int | None = None,
        transformer_layers: int = 1,  # transformer blocks in each SpatialTransformer
        mlp_ratio: float = 4,  # inner width of their feed-forward networks, in multiples
        size: int | None = None,  # of x, if the network learns an embedding of each position
        film: bool = False,  # whether the time embedding multiplies as well as adds
        interval: bool = False,  # whether the timestep is (B, 2): a step's start and its end
    ):
        super().__init__()
        count = len(multipliers)
        require(len(attention) == count, "attention", f"{count} resolutions", attention)
        require(not (context_dim and classes), "context_dim", "None beside classes", context_dim)
        require(any(attention) or not context_dim, "attention", "True to read context", attention)
        self.in_channels, self.context_dim, self.classes = in_channels, context_dim, classes
        self.interval = interval
        multiple = 2 ** (count - 1)
        self.input_shape = in_channels, size or f"{multiple}h", size or f"{multiple}w"
        time_dim = 4 * channels
        resnet = dict(time_dim=time_dim, film=film)
        widths = [round(channels * m) for m in multipliers]
        above = [channels, *widths[:-1]]  # the input width of each block on the way down
        below = [*widths[1:], widths[-1]]  # and on the way up
        transformer = dict(heads=heads, context_dim=context_dim, layers=transformer_layers)
        transformer |= dict(mlp_ratio=mlp_ratio)
        transformers = [transformer if attend else None for attend in attention]

        embedding = IntervalEmbedding if interval else TimeEmbedding
        self.time_embedding = embedding(channels, time_dim)
        self.class_embedding = nn.Embedding(classes + 1, time_dim) if classes else None
        self.conv_in = conv(in_channels, channels)
        self.pos_embed = nn.Parameter(torch.zeros(channels, size, size)) if size else None
        self.down_blocks = nn.ModuleList(
            DownBlock(above[i], widths[i], layers_per_block, i < count - 1, resnet, transformers[i])
            for i in range(count)
        )
        self.mid_block = MidBlock(widths[-1], resnet, transformer if any(attention) else None)
        self.up_blocks = nn.ModuleList(
            UpBlock(
                *(below[i], widths[i], above[i], layers_per_block + 1),
                *(i > 0, resnet, transformers[i]),
            )
            for i in reversed(range(count))
        )
        self.conv_norm_out = norm(widths[0])
        self.conv_out = zeroed(conv(widths[0], out_channels or in_channels))

    def forward(
        self, x: Tensor, timestep: Tensor, context: Tensor | None = None, *residuals: Tensor
    ) -> Tensor:
        check_inputs(self, x, timestep, context)
        timestep = timestep.expand(x.shape[0], *timestep.shape[1:])
        temb = self.embed(timestep, context)  # (B, time_dim)
        h, skips = self.encode(self.conv_in(x), temb, context)  # (B, C, h, w)
        if residuals:
            wanted, got = ([tuple(r.shape) for r in each] for each in ([*skips, h], residuals))
            require(got == wanted, "residuals", f"those of the skips and the middle, {wanted}", got)
            *skips, h = (a + b for a, b in zip([*skips, h], residuals, strict=True))
        for block in self.up_blocks:
            h = block(h, temb, context, skips)
        return self.conv_out(F.silu(self.conv_norm_out(h)))  # (B, out_channels, H, W)

    def embed(self, timestep: Tensor, context: Tensor | None) -> Tensor:
        """What every residual block adds: the embedding of the time, and that of a class."""
        temb = self.time_embedding(timestep)  # (B, time_dim)
        return temb if self.class_embedding is None else temb + self.class_embedding(context)

    def encode(
        self, h: Tensor, temb: Tensor, context: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The way down and the middle: from conv_in's output to the middle's, and the skips."""
        if self.pos_embed is not None:
            h = h + self.pos_embed
        skips = [h]
        for block in self.down_blocks:
            h = block(h, temb, context, skips)
        return self.mid_block(h, temb, context), skips


class TextUNet(nn.Module):
    """A U-Net and the text encoder that is trained with it (Rombach et al. 2022, eq. 3).

    `prediction = network(x, timestep, ids)`, with token ids (B, L) instead of a context.
    unet, text: keywords of UNet and TextEncoder; tokenizer: of the Tokenizer that makes the ids,
    where no CLIP brings one.

    >>> unet = dict(in_channels=4, channels=8, multipliers=(1,), attention=(True,), context_dim=8)
    >>> network = TextUNet(unet, text=dict(vocab_size=10, length=6, dim=8))
    >>> network(torch.zeros(1, 4, 8, 8), torch.tensor([500.0]), torch.tensor([[8, 1, 9]])).shape
    torch.Size([1, 4, 8, 8])
    """

    @keeps_kwargs
    def __init__(self, unet: dict, text: dict, tokenizer: dict | None = None):
        super().__init__()
        self.unet, self.text_encoder = UNet(**unet), TextEncoder(**text)
        self.tokenizer = Tokenizer(**tokenizer) if tokenizer else None

    def forward(self, x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        return self.unet(x, timestep, self.text_encoder(ids))


class UNetBlock(nn.Module):
    """One block of a text-to-image U-Net, small enough to study.

    A residual block: convolution, time embedding, cross-attention from every pixel to every text
    token, convolution. x (B, in_c, H, W), time (B, time_emb_dim), text (B, L, text_emb_dim) ->
    (B, out_c, H, W); with `return_maps=True` also the attention maps (B, heads, H*W, L).

    >>> block = UNetBlock(3, 8, time_emb_dim=6, text_emb_dim=5)
    >>> block(torch.zeros(1, 3, 4, 4), torch.zeros(1, 6), torch.zeros(1, 7, 5)).shape
    torch.Size([1, 8, 4, 4])
    """

    @keeps_kwargs
    def __init__(self, in_c: int, out_c: int, time_emb_dim: int, text_emb_dim: int, heads: int = 4):
        super().__init__()
        self.norm1, self.conv1 = norm(in_c), conv(in_c, out_c)
        self.time_emb_proj = nn.Linear(time_emb_dim, out_c)
        self.norm2, self.attention = norm(out_c), Attention(out_c, text_emb_dim, heads)
        self.norm3, self.conv2 = norm(out_c), zeroed(conv(out_c, out_c))
        self.conv_shortcut = nn.Identity() if in_c == out_c else nn.Conv2d(in_c, out_c, 1)

    def forward(
        self, x: Tensor, time: Tensor, text: Tensor, return_maps: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        self.check(x, time, text)
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out_c, H, W)
        h = h + self.time_emb_proj(F.silu(time))[..., None, None]
        pixels = tokens(self.norm2(h))  # (B, H*W, out_c)
        h = h + grid(self.attention(pixels, text), like=h)
        h = self.conv_shortcut(x) + self.conv2(F.silu(self.norm3(h)))
        return (h, self.attention.maps(pixels, text)) if return_maps else h

    def check(self, x: Tensor, time: Tensor, text: Tensor) -> None:
        weight = self.conv1.weight
        check_tensor("x", x, ("B", weight.shape[1], "H", "W"), weight)
        check_tensor("time", time, (len(x), self.time_emb_proj.in_features), weight)
        check_tensor("text", text, (len(x), "L", self.attention.to_k.in_features), weight)


# Stable Diffusion 1.5's U-Net: 859,520,964 parameters
SD15_UNET = dict(
    in_channels=4,
    channels=320,
    multipliers=(1, 2, 4, 4),
    attention=(True, True, True, False),
    heads=8,
    context_dim=768,
)
