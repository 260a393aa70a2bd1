"""ControlNet (Zhang et al. 2023): an image, such as an edge map or a layout, steers a U-Net.

controlnet = ControlNet.from_unet(unet)           # a trainable copy of the U-Net's way down
network = Controlled(unet.requires_grad_(False), controlnet, images)
prediction = network(x, timestep, context)        # as unet itself is called
drawing = replace(pipeline, unet=network)         # every pipeline, with control
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import FLOATS, check_tensor, require
from course_lib.models.layers import check_inputs, conv, keeps_kwargs, zeroed
from course_lib.models.lora import LoRA
from course_lib.models.unet import UNet


class ConditioningEmbedding(nn.Module):
    """The control image in the size of a latent: convolutions, of which every other one halves it.

    Images (B, in_channels, H, W) -> (B, out_channels, H/f, W/f), where f is 2 to the power of
    len(channels) - 1. The last convolution starts at zero.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], out_channels: int):
        super().__init__()
        self.conv_in = conv(in_channels, channels[0])
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(channels):
            halving = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
            self.blocks.extend([conv(narrow, narrow), halving])
        self.conv_out = zeroed(conv(channels[-1], out_channels))

    def forward(self, images: Tensor) -> Tensor:
        h = F.silu(self.conv_in(images))
        for block in self.blocks:
            h = F.silu(block(h))
        return self.conv_out(h)


class ControlNet(UNet):
    """A copy of a U-Net's way down that also sees an image (Zhang et al. 2023, §3.2, figure 3).

    `residuals = controlnet(x, timestep, context, images)`: one for each skip of the U-Net, and
    one for its middle. Each leaves the copy through a zero convolution: a 1 × 1 convolution whose
    weight and bias start at 0. So at first all residuals are 0 and the U-Net is unchanged. The zero
    convolutions still learn, since the gradient of W·h + b with respect to W is h, not 0; and once
    W has left 0, so does everything before it (§3.1).

    unet: keywords of UNet. conditioning_channels: of the images, whose values are in [0, 1];
    embedding_channels: widths of the convolutions that bring them to the size of x, each half of
    the previous size. There may be fewer images than x: they are repeated in turn. Its parts are
    named as in diffusers' ControlNetModel.

    >>> unet = dict(in_channels=4, channels=8, multipliers=(1, 2), attention=(False, False))
    >>> controlnet = ControlNet(unet, embedding_channels=(4, 8))
    >>> residuals = controlnet(torch.zeros(2, 4, 8, 8), torch.tensor(500.0), None,
    ...                        torch.zeros(1, 3, 16, 16))
    >>> len(residuals), residuals[-1].shape
    (7, torch.Size([2, 16, 4, 4]))
    """

    @keeps_kwargs
    def __init__(
        self,
        unet: dict,
        conditioning_channels: int = 3,
        embedding_channels: Sequence[int] = (16, 32, 96, 256),
    ):
        super().__init__(**unet)
        self.copied = self.kwargs  # those of the U-Net, with its defaults
        del self.up_blocks, self.conv_norm_out, self.conv_out  # the way up is not copied
        width = self.conv_in.out_channels
        self.controlnet_cond_embedding = ConditioningEmbedding(
            conditioning_channels, embedding_channels, width
        )
        widths = [width]  # of the skips
        for block in self.down_blocks:
            channels = block.resnets[0].conv1.out_channels
            widths += [channels] * (len(block.resnets) + len(block.downsamplers))
        self.controlnet_down_blocks = nn.ModuleList(zero_convolution(w) for w in widths)
        self.controlnet_mid_block = zero_convolution(channels)
        self.factor = 2 ** (len(embedding_channels) - 1)
        self.images_shape = "B", conditioning_channels, "H", "W"

    @classmethod
    def from_unet(cls, unet: UNet, **keywords) -> "ControlNet":
        """A ControlNet whose copied weights are those of the U-Net; keywords: of ControlNet.

        >>> unet = UNet(4, channels=8, multipliers=(1,), attention=(False,))
        >>> controlnet = ControlNet.from_unet(unet)
        >>> torch.equal(controlnet.conv_in.weight, unet.conv_in.weight)
        True
        """
        controlnet = cls(unet.kwargs, **keywords).to(unet.conv_in.weight)
        own = controlnet.state_dict()
        copied = {name: weight for name, weight in unet.state_dict().items() if name in own}
        controlnet.load_state_dict(own | copied)
        return controlnet.train(unet.training)

    def forward(
        self, x: Tensor, timestep: Tensor, context: Tensor | None, images: Tensor
    ) -> list[Tensor]:
        check_inputs(self, x, timestep, context)
        check_tensor("images", images, self.images_shape, self.conv_in.weight)
        temb = self.embed(timestep.expand(x.shape[0]), context)  # (B, time_dim)
        h, hint = self.conv_in(x), self.controlnet_cond_embedding(images)  # (B, channels, H, W)
        hint = hint.repeat(len(x) // len(hint), 1, 1, 1)
        require(hint.shape == h.shape, "images", f"1 or B, {self.factor} times x's size", images)
        h, skips = self.encode(h + hint, temb, context)  # (B, C, h, w)
        residuals = [zero(s) for zero, s in zip(self.controlnet_down_blocks, skips, strict=True)]
        return [*residuals, self.controlnet_mid_block(h)]


class Controlled(nn.Module):
    """A U-Net, or a LoRA of one, that a ControlNet steers with these images.

    It is called like the U-Net: `prediction = network(x, timestep, context)`.
    images: (1, C, H, W) for all samples or (B, C, H, W) for each, in [0, 1]; with guidance, whose
    batch holds every sample twice, each image serves both. scale: the factor of the residuals.
    ValueError for images with values outside [0, 1]; when called, also for images of another size,
    and for the ControlNet of another U-Net.

    >>> unet = UNet(4, channels=8, multipliers=(1,), attention=(False,))
    >>> network = Controlled(unet, ControlNet.from_unet(unet), torch.zeros(1, 3, 64, 64))
    >>> network(torch.zeros(2, 4, 8, 8), torch.tensor(500.0), None).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self, network: UNet | LoRA, controlnet: ControlNet, images: Tensor, scale: float = 1.0
    ):
        super().__init__()
        check_tensor("images", images, controlnet.images_shape, images, FLOATS, values=(0, 1))
        require(-torch.inf < scale < torch.inf, "scale of control", "a finite number", scale)
        self.network, self.controlnet, self.scale = network, controlnet, scale
        self.register_buffer("images", images, persistent=False)

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        residuals = self.controlnet(x, timestep, context, self.images)
        return self.network(x, timestep, context, *(self.scale * r for r in residuals))


def zero_convolution(channels: int) -> nn.Conv2d:
    """A 1 × 1 convolution that starts at zero (Zhang et al. 2023, §3.1)."""
    return zeroed(nn.Conv2d(channels, channels, 1))
