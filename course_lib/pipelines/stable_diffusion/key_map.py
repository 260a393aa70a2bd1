"""Our names of the weights and those in other code bases: lists of (our name, their name).

Each entry is a pattern and its replacement. Applied from top to bottom, a list turns all our
parameter names into theirs. Our networks use diffusers' names, so only few differ. CompVis, whose
names are in Stable Diffusion's single file, number all the blocks consecutively.
"""

import re
from collections.abc import Callable, Sequence

Names = Sequence[tuple[str, str | Callable[[re.Match], str]]]


def renamed(name: str, names: Names) -> str:
    """The name after each replacement in turn.

    >>> renamed("mid_block.attentions.0.to_out.bias", DIFFUSERS)
    'mid_block.attentions.0.to_out.0.bias'
    """
    for ours, theirs in names:
        name = re.sub(ours, theirs, name)
    return name


DIFFUSERS = [  # of the U-Net and of the autoencoder
    (r"\bto_out\.", "to_out.0."),
    (r"\bff\.proj_in\.", "ff.net.0.proj."),
    (r"\bff\.proj_out\.", "ff.net.2."),
]
TRANSFORMERS = [  # of the text encoder
    (r"^(token|position)_embedding\.", r"embeddings.\1_embedding."),
    (r"^layers\.", "encoder.layers."),
    (r"\.to_([qkv])\.", r".\1_proj."),
    (r"\.to_out\.", ".out_proj."),
]
COMPVIS_RESNET = [
    (r"(\.resnets\.\d+)\.norm1\.", r"\1.in_layers.0."),
    (r"(\.resnets\.\d+)\.conv1\.", r"\1.in_layers.2."),
    (r"(\.resnets\.\d+)\.time_emb_proj\.", r"\1.emb_layers.1."),
    (r"(\.resnets\.\d+)\.norm2\.", r"\1.out_layers.0."),
    (r"(\.resnets\.\d+)\.conv2\.", r"\1.out_layers.3."),
    (r"(\.resnets\.\d+)\.conv_shortcut\.", r"\1.skip_connection."),
]


def compvis_unet(attention: Sequence[bool], layers: int) -> Names:
    """CompVis number all layers of the way down in one list, and all of the way up in another."""
    row = layers + 1  # of their blocks at one resolution
    attention = attention[::-1]  # on the way up

    def place(side: str, start: int, part: str) -> Callable[[re.Match], str]:
        return lambda found: f"{side}.{start + row * int(found[1]) + int(found[2])}.{part}."

    def upsampler(found: re.Match) -> str:
        block = int(found[1])
        return f"output_blocks.{row * block + layers}.{1 + attention[block]}."

    return [
        *DIFFUSERS,
        *COMPVIS_RESNET,
        (r"^time_embedding\.linear_1\.", "time_embed.0."),
        (r"^time_embedding\.linear_2\.", "time_embed.2."),
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^down_blocks\.(\d+)\.resnets\.(\d+)\.", place("input_blocks", 1, "0")),
        (r"^down_blocks\.(\d+)\.attentions\.(\d+)\.", place("input_blocks", 1, "1")),
        (r"^down_blocks\.(\d+)\.downsamplers\.(0)\.conv\.", place("input_blocks", row, "0.op")),
        (r"^mid_block\.resnets\.0\.", "middle_block.0."),
        (r"^mid_block\.attentions\.0\.", "middle_block.1."),
        (r"^mid_block\.resnets\.1\.", "middle_block.2."),
        (r"^up_blocks\.(\d+)\.resnets\.(\d+)\.", place("output_blocks", 0, "0")),
        (r"^up_blocks\.(\d+)\.attentions\.(\d+)\.", place("output_blocks", 0, "1")),
        (r"^up_blocks\.(\d+)\.upsamplers\.0\.", upsampler),
        (r"^conv_norm_out\.", "out.0."),
        (r"^conv_out\.", "out.2."),
    ]


def compvis_vae(resolutions: int) -> Names:
    """In CompVis' decoder `up.0` is the largest image, which comes last."""
    return [
        (r"\.down_blocks\.(\d+)\.", r".down.\1."),
        (r"\.up_blocks\.(\d+)\.", lambda found: f".up.{resolutions - 1 - int(found[1])}."),
        (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
        (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
        (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
        (r"\.resnets\.", ".block."),
        (r"\.(down|up)samplers\.0\.", r".\1sample."),
        (r"\.conv_norm_out\.", ".norm_out."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
        (r"\.group_norm\.", ".norm."),
        (r"\.to_([qkv])\.", r".\1."),
        (r"\.to_out\.", ".proj_out."),
    ]
