"""Commands that draw: demo, sample."""

import time
from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli.adapters import steered_by, with_control, with_lora

SHAPES = [
    "a large red circle on a blue background",
    "a small yellow square at the top left on a purple background",
    "a large green ring in the centre on a black background",
    "a large orange triangle at the bottom right on a white background",
    "a small white cross to the left of a large red diamond on a green background",
    "a large blue square above a small yellow ring on a black background",
    "three small red circles on a white background",
    "four small purple diamonds on an orange background",
]
EMOJI = [
    ("penguin", "Fluent"),
    ("red apple", "Noto"),
    ("smiling face with sunglasses", "Twemoji"),
    ("woman firefighter", "Noto"),
]

Device = Annotated[str, typer.Option(help="cpu, cuda or mps; auto picks the best available")]
Steps = Annotated[int | None, typer.Option(help="sampling steps, default: the model's")]
Scale = Annotated[float | None, typer.Option(help="guidance scale (1: none), default: the model's")]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="ancestral, ddim, euler_ancestral, heun, edm, dpm++2m or dpm++2m_sde; "
        "default: the model's"
    ),
]
Seed = Annotated[int, typer.Option(help="the seed of each caption's first picture")]
Out = Annotated[Path, typer.Option(help="the PNG file to write")]


def demo(device: Device = "auto", seed: Seed = 0, out: Out = Path("outputs/demo.png")) -> None:
    """Draw eight captions of shapes and four of emoji; the judges then look at the pictures."""
    import torch

    from course_lib.common.checks import torch_seeds
    from course_lib.datasets.emoji import concepts
    from course_lib.datasets.emoji.captions import write
    from course_lib.evaluation import PromptOracle
    from course_lib.evaluation.emoji import EmojiJudge
    from course_lib.recipes import load_pipeline

    check_out(out)
    torch_seeds(seed)
    concept = {each.name: each for each in concepts()}
    said = [write(concept[name], studio) for name, studio in EMOJI]
    shapes, first = pictures(load_pipeline("scenes-latent", device), SHAPES, [seed] * len(SHAPES))
    emoji, then = pictures(load_pipeline("emoji-latent", device), said, [seed] * len(said))
    write_grid(out, torch.cat([shapes, emoji]), [*SHAPES, *said], columns=4)
    typer.echo(f"{out}: {len(shapes)} shapes and {len(emoji)} emoji in {first + then:.1f} s")
    right = [verdict["all"] for verdict in PromptOracle().judge(shapes, SHAPES)]
    typer.echo(f"The prompt oracle: {sum(right)} of {len(right)} pictures match their captions.")
    seen = EmojiJudge("emoji-judge-all").judge(emoji, *zip(*EMOJI, strict=True))
    named, styled = (sum(verdict[key] for verdict in seen) for key in ("top5", "studio"))
    typer.echo(f"The emoji judge names {named} of {len(seen)}, and {styled} of their studios.")


def sample(
    captions: Annotated[list[str], typer.Argument(help="one or more, each in quotes")],
    steps: Steps = None,
    scale: Scale = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(help="number of pictures for each caption")] = 1,
    model: Annotated[
        str, typer.Option(help="a shipped model, or a folder or file with Stable Diffusion 1")
    ] = "scenes-latent",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="for a single file: the folder with its tokenizer (tokenizer.json or vocab.json)"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="size of Stable Diffusion's pictures in pixels, default: 512")
    ] = None,
    lora: Annotated[
        Path | None,
        typer.Option(help="a LoRA file for the model, from diffusers, kohya's scripts or ours"),
    ] = None,
    lora_scale: Annotated[
        float | None, typer.Option(help="the factor of the LoRA's update, default: 1")
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            help="a ControlNet: scenes-control for scenes-latent, or a folder for the Stable "
            "Diffusion of --model"
        ),
    ] = None,
    control_image: Annotated[
        Path | None,
        typer.Option(
            help="the picture that steers, such as an edge map, or for scenes-control a layout: "
            "white shapes on black; its middle square is resized"
        ),
    ] = None,
    control_scale: Annotated[
        float | None, typer.Option(help="the factor of the ControlNet's residuals, default: 1")
    ] = None,
    device: Device = "auto",
    out: Out = Path("outputs/sample.png"),
) -> None:
    """Draw captions with a text-to-image model, as a PNG grid with the captions below."""
    options = dict(steps=steps, scale=scale, sampler=sampler)
    options |= dict(model=model, tokenizer=tokenizer, size=size, lora=lora, lora_scale=lora_scale)
    options |= dict(control=control, control_image=control_image, control_scale=control_scale)
    draw(captions, out, device=device, seed=seed, count=count, **options)


def draw(
    captions,
    out,
    *,
    model="scenes-latent",
    tokenizer=None,
    size=None,
    lora=None,
    lora_scale=None,
    control=None,
    control_image=None,
    control_scale=None,
    device="auto",
    seed=0,
    count=1,
    **options,
):
    """Draw `count` pictures for each caption, write them as one grid to `out`, and return them."""
    from course_lib.common.checks import torch_seeds
    from course_lib.recipes import RECIPES, load_pipeline

    check_out(out)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    torch_seeds(seed, seed + count - 1)
    add_lora = with_lora(lora, lora_scale)
    published = is_published(model)
    base = steered_by(control)
    if base not in (None, model):
        raise ValueError(f"--control {control} steers {base}, not {model}")
    folder = control if base is None else None
    if not published and any(x is not None for x in (tokenizer, size, folder)):
        only = "--tokenizer, --size and a folder for --control are only for Stable Diffusion"
        own = ", ".join(name for name, each in RECIPES.items() if each.steers == model)
        raise ValueError(f"{only}, not for {model}" + f"; its ControlNet is {own}" * bool(own))
    size = (64 if base else 512) if size is None else size
    add_control = with_control(control, control_image, control_scale, size)
    if published:
        pipeline = open_published(model, tokenizer, size, device, control)
    else:
        pipeline = load_pipeline(model, device)
    pipeline = add_control(add_lora(pipeline))
    texts, seeds = zip(*((c, seed + i) for c in captions for i in range(count)), strict=True)
    images, seconds = pictures(pipeline, texts, seeds, 1 if published else 64, **options)
    columns = min(count, 8) if count > 1 else min(len(captions), 4)
    write_grid(out, images, texts, columns)
    each = f"{seconds:.1f} s on {pipeline.device}"
    typer.echo(f"{out}: {len(images)} picture{'s' * (len(images) > 1)}, {each}")
    return images


def pictures(pipeline, captions, seeds, batch: int = 64, **options):
    """One picture for each caption and seed, (N, 3, H, H), and how many seconds they took."""
    import torch

    from course_lib.pipelines import text_to_image

    start, parts = time.perf_counter(), []
    for first in range(0, len(captions), batch):
        some = slice(first, first + batch)
        parts.append(text_to_image(pipeline, captions[some], seeds[some], **options).cpu())
    return torch.cat(parts), time.perf_counter() - start


def is_published(model: str) -> bool:
    """Whether this is a path to Stable Diffusion, not the name of one of our models."""
    from course_lib.recipes import RECIPES

    path = Path(model)
    named = path.suffix in (".safetensors", ".ckpt") or len(path.parts) > 1 or path.is_dir()
    return named and model not in RECIPES


def open_published(model, tokenizer, size, device, control=None):
    """Load Stable Diffusion, after printing an estimate of the memory and checking that it fits."""
    from course_lib.common.devices import pick_device
    from course_lib.pipelines import check_size, load_published
    from course_lib.pipelines.stable_diffusion.memory import check_memory

    check_size(size)
    device = pick_device(device)
    typer.echo(check_memory(model, size, device, control))
    return load_published(model, tokenizer, size, device)


def check_out(out: Path) -> None:
    """Raise an error now, before the work, if `out` can't be written to."""
    from course_lib.common.files import make_folder

    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"--out names a PNG file, such as outputs/sample.png; got {out}")
    make_folder(out.parent)


def write_grid(out: Path, images, captions: list[str], columns: int) -> None:
    """Write a labelled grid of pictures as a PNG file, in one step."""
    import io

    from course_lib.common.files import write_files
    from course_lib.teaching.plots import grid_figure
    from course_lib.teaching.style import DPI

    buffer = io.BytesIO()
    grid_figure(images, captions, columns=columns).savefig(buffer, format="png", dpi=DPI)
    write_files({out: buffer.getvalue()})
