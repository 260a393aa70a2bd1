"""What two code bases call the weights that are ours: lists of (our name, their name).

Each entry is a pattern and what takes its place; applied from top to bottom, a list turns every
parameter's name of ours into theirs. diffusers writes a folder, CompVis wrote one file.
"""

import re
from collections.abc import Callable, Sequence

Names = Sequence[tuple[str, str | Callable[[re.Match], str]]]


def renamed(name: str, names: Names) -> str:
    for ours, theirs in names:
        name = re.sub(ours, theirs, name)
    return name


TRANSFORMER = [
    (r"\.transformer\.enter\.", ".transformer.proj_in."),
    (r"\.transformer\.leave\.", ".transformer.proj_out."),
    (r"\.transformer\.blocks\.", ".transformer.transformer_blocks."),
    (r"\.attention\.to_", ".attn1.to_"),
    (r"\.cross\.to_", ".attn2.to_"),
    (r"\.to_out\.", ".to_out.0."),
    (r"\.feed_forward\.expand\.", ".ff.net.0.proj."),
    (r"\.feed_forward\.shrink\.", ".ff.net.2."),
]
DIFFUSERS_UNET = [
    *TRANSFORMER,
    (r"^time\.linear(\d)", r"time_embedding.linear_\1"),
    (r"^label\.", "class_embedding."),
    (r"^enter\.", "conv_in."),
    (r"^leave\.0\.", "conv_norm_out."),
    (r"^leave\.2\.", "conv_out."),
    (r"^(down|up)\.(\d+)\.\1\.", r"\1_blocks.\2.\1samplers.0."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.residual\.", r"\1_blocks.\2.resnets.\3."),
    (r"^(down|up)\.(\d+)\.blocks\.(\d+)\.transformer\.", r"\1_blocks.\2.attentions.\3."),
    (r"^middle\.first\.residual\.", "mid_block.resnets.0."),
    (r"^middle\.first\.transformer\.", "mid_block.attentions.0."),
    (r"^middle\.second\.", "mid_block.resnets.1."),
    (r"\.time\.", ".time_emb_proj."),
    (r"\.skip\.", ".conv_shortcut."),
]
DIFFUSERS_TEXT = [
    (r"^(token|position)\.", r"embeddings.\1_embedding."),
    (r"^norm\.", "final_layer_norm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.attention\.to_([qkv])\.", r".self_attn.\1_proj."),
    (r"\.attention\.to_out\.", ".self_attn.out_proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
]


def diffusers_vae(levels: int, blocks: int) -> Names:
    """Our positions in the two sequences of an autoencoder, named as in diffusers."""
    middle = [f"mid_block.{part}." for part in ("resnets.0", "attentions.0", "resnets.1")]
    down, up = [], []
    for level in range(levels):
        down += [f"down_blocks.{level}.resnets.{j}." for j in range(blocks)]
        down += [f"down_blocks.{level}.downsamplers.0."] * (level < levels - 1)
        up += [f"up_blocks.{level}.resnets.{j}." for j in range(blocks + 1)]
        up += [f"up_blocks.{level}.upsamplers.0."] * (level < levels - 1)
    ends = ["conv_norm_out.", "silu.", "conv_out."]
    return [
        *in_sequence("encoder", ["conv_in.", *down, *middle, *ends]),
        *in_sequence("decoder", ["conv_in.", *middle, *up, *ends]),
        (r"^to_moments\.", "quant_conv."),
        (r"^from_latent\.", "post_quant_conv."),
        (r"\.0\.norm\.", ".0.group_norm."),
        (r"\.attention\.", "."),
        (r"\.to_out\.", ".to_out.0."),
        (r"\.skip\.", ".conv_shortcut."),
    ]


def compvis_unet(attention: Sequence[bool], blocks: int) -> Names:
    """CompVis counts all blocks of the way down in one list, and all of the way up in another."""
    a_stage, names = blocks + 1, list(TRANSFORMER)
    for i, attends in enumerate(reversed(attention)):
        down, up = rf"^down\.{i}\.", rf"^up\.{i}\."
        for j in range(blocks):
            place = f"input_blocks.{1 + i * a_stage + j}"
            names += [(rf"{down}blocks\.{j}\.residual\.", f"{place}.0.")]
            names += [(rf"{down}blocks\.{j}\.transformer\.", f"{place}.1.")]
        names += [(rf"{down}down\.conv\.", f"input_blocks.{(i + 1) * a_stage}.0.op.")]
        for j in range(a_stage):
            place = f"output_blocks.{i * a_stage + j}"
            names += [(rf"{up}blocks\.{j}\.residual\.", f"{place}.0.")]
            names += [(rf"{up}blocks\.{j}\.transformer\.", f"{place}.1.")]
        names += [(rf"{up}up\.", f"output_blocks.{i * a_stage + blocks}.{1 + attends}.")]
    residual = r"^(input_blocks\.\d+\.0|output_blocks\.\d+\.0|middle_block\.[02])\."
    return [
        *names,
        (r"^time\.linear1\.", "time_embed.0."),
        (r"^time\.linear2\.", "time_embed.2."),
        (r"^enter\.", "input_blocks.0.0."),
        (r"^leave\.", "out."),
        (r"^middle\.first\.residual\.", "middle_block.0."),
        (r"^middle\.first\.transformer\.", "middle_block.1."),
        (r"^middle\.second\.", "middle_block.2."),
        (rf"{residual}norm1\.", r"\1.in_layers.0."),
        (rf"{residual}conv1\.", r"\1.in_layers.2."),
        (rf"{residual}time\.", r"\1.emb_layers.1."),
        (rf"{residual}norm2\.", r"\1.out_layers.0."),
        (rf"{residual}conv2\.", r"\1.out_layers.3."),
        (rf"{residual}skip\.", r"\1.skip_connection."),
    ]


def compvis_vae(levels: int, blocks: int) -> Names:
    """The same positions, named as in CompVis' code, where `up.0` is the largest picture."""
    middle = ["mid.block_1.", "mid.attn_1.", "mid.block_2."]
    down, up = [], []
    for level in range(levels):
        down += [f"down.{level}.block.{j}." for j in range(blocks)]
        down += [f"down.{level}.downsample."] * (level < levels - 1)
        up += [f"up.{levels - 1 - level}.block.{j}." for j in range(blocks + 1)]
        up += [f"up.{levels - 1 - level}.upsample."] * (level < levels - 1)
    ends = ["norm_out.", "silu.", "conv_out."]
    return [
        *in_sequence("encoder", ["conv_in.", *down, *middle, *ends]),
        *in_sequence("decoder", ["conv_in.", *middle, *up, *ends]),
        (r"^to_moments\.", "quant_conv."),
        (r"^from_latent\.", "post_quant_conv."),
        (r"\.attention\.to_([qkv])\.", r".\1."),
        (r"\.attention\.to_out\.", ".proj_out."),
        (r"\.skip\.", ".nin_shortcut."),
    ]


def in_sequence(half: str, names: Sequence[str]) -> Names:
    return [(rf"^{half}\.{i}\.", f"{half}.{name}") for i, name in enumerate(names)]
