"""Published ControlNets for Stable Diffusion 1, in diffusers' layout, read and written.

controlnet = load_controlnet("sd-controlnet-canny", model)
network = Controlled(model.unet, controlnet, image)       # image (1, 3, 512, 512) in [0, 1]
save_controlnet(controlnet, "outputs/mine")               # diffusers reads it

A folder contains config.json and the weights. Every setting must be known and every name must fit.
"""

from contextlib import ExitStack
from math import prod
from pathlib import Path

from safetensors.torch import save

from course_lib.common.checks import finite, require
from course_lib.common.files import make_folder, write_files
from course_lib.models import ControlNet, UNet
from course_lib.pipelines.stable_diffusion.checkpoint import (
    StableDiffusion,
    block_types,
    find_weights,
    open_weights,
    read_json,
    unet_keywords,
    with_weights,
)
from course_lib.pipelines.stable_diffusion.configs import CONTROLNET, read_settings, same
from course_lib.pipelines.stable_diffusion.key_map import DIFFUSERS, renamed
from course_lib.pipelines.stable_diffusion.save import widths, write_json

OTHERS = {1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}  # by cross_attention_dim
SHAPES = "in_channels", "channels", "multipliers", "layers_per_block", "context_dim"
USUAL = dict(classes=None, transformer_layers=1, mlp_ratio=4, size=None, film=False)


def load_controlnet(folder: str | Path, model: StableDiffusion) -> ControlNet:
    """The ControlNet in a folder, for a model's U-Net, in its dtype and on its device.

    model: a StableDiffusion, or a pipeline from `load_published`.
    Raises FileNotFoundError if there is no such folder or file; ValueError for a ControlNet of
    another model, for unknown settings, and for damaged files or other weights.
    """
    folder, weight = Path(folder), model.unet.conv_in.weight
    keywords = check_controlnet(folder)
    check_pair(folder, keywords["unet"], model.unet)
    with ExitStack() as files:
        weights = open_weights(find_weights(folder), files)
        controlnet = with_weights(ControlNet, keywords, weights, DIFFUSERS, weight.dtype)
    return controlnet.to(weight.device).requires_grad_(False)


def check_controlnet(folder: Path) -> dict:
    """Keywords of ControlNet from the folder's config.json; checks that its weights can be opened.

    The weights themselves are not read, so this is quick, before a model is loaded.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no ControlNet folder {folder}")
    config = read_json(folder / "config.json")
    same(str(folder), config, dict(_class_name=CONTROLNET.fixed["_class_name"]))
    if other := OTHERS.get(config.get("cross_attention_dim")):
        raise ValueError(
            f"{folder} is a ControlNet for {other}: the course only opens those for "
            "Stable Diffusion 1"
        )
    settings = read_settings(config, str(folder), CONTROLNET)
    unet = unet_keywords(settings)
    same(str(folder), settings, dict(down_block_types=block_types(unet["attention"])))
    count_controlnet(folder)
    return dict(
        unet=unet,
        conditioning_channels=settings["conditioning_channels"],
        embedding_channels=settings["conditioning_embedding_out_channels"],
    )


def check_pair(folder: Path, copied: dict, unet: UNet) -> None:
    """ValueError unless a U-Net with the keywords `copied` has this U-Net's inputs and skips."""
    for key in SHAPES:
        wanted, got = unet.kwargs[key], copied[key]
        if isinstance(wanted, list):  # as they come from a checkpoint's card
            wanted = tuple(wanted)
        require(got == wanted, f"{folder}", f"a ControlNet for a U-Net with {key} {wanted}", got)


def count_controlnet(folder: str | Path) -> int:
    """The number of weights; reads only the files' headers."""
    with ExitStack() as files:
        weights = open_weights(find_weights(Path(folder)), files)
        return sum(prod(weight.get_shape()) for weight in weights.values())


def save_controlnet(controlnet: ControlNet, folder: str | Path) -> None:
    """Write the folder that diffusers' `ControlNetModel.from_pretrained` reads.

    `load_controlnet` reads it as well. ValueError for weights that are not finite, and for the
    copy of a U-Net that diffusers doesn't have.
    """
    unet = controlnet.copied
    others = {key: unet[key] for key, value in USUAL.items() if unet[key] != value}
    require(not others, "save_controlnet", f"the copy of a U-Net with {USUAL}", others)
    weights = {
        renamed(name, DIFFUSERS): weight.detach().cpu().contiguous()
        for name, weight in controlnet.named_parameters()
    }
    for name, weight in weights.items():
        finite(name, weight)
    config = dict(
        _class_name=CONTROLNET.fixed["_class_name"],
        in_channels=unet["in_channels"],
        block_out_channels=widths(unet),
        layers_per_block=unet["layers_per_block"],
        attention_head_dim=unet["heads"],  # diffusers' name for the number of heads
        cross_attention_dim=unet["context_dim"],
        use_linear_projection=True,  # `proj_in` and `proj_out` of a transformer
        down_block_types=block_types(unet["attention"]),
        conditioning_channels=controlnet.kwargs["conditioning_channels"],
        conditioning_embedding_out_channels=list(controlnet.kwargs["embedding_channels"]),
    )
    folder = make_folder(folder)
    write_json(folder / "config.json", config)
    write_files({folder / "diffusion_pytorch_model.safetensors": save(weights, {"format": "pt"})})
