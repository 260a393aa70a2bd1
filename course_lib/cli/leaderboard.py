"""The command that measures a reader's own model by the course's own rules: leaderboard."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli.draw import Device

COLUMNS = "model", "parameters", "1 step", "2 steps", "4 steps", "4 steps - teacher", "CPU minutes"


def leaderboard(
    board: Annotated[str, typer.Argument(help="few-steps, the only one so far")],
    checkpoint: Annotated[
        Path | None, typer.Argument(help="your model's weights, NAME.safetensors, beside its card")
    ] = None,
    count: Annotated[
        int, typer.Option(help="prompts of each of the 6 kinds; the board's rows have 334")
    ] = 334,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="flow_map, consistency or ddim; default: flow_map for a U-Net with "
            "interval=True, otherwise ddim"
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Compare models that draw in few steps: the recorded ones and, if you name it, your own.

    few-steps: the share of held-out captions that a picture gets right after 1, 2 and 4
    evaluations of the network, without guidance. Your model is a TextUNet for the latents of
    scenes-vae, as course train scenes-fast makes it. "- teacher" is the difference from
    scenes-latent at 20 guided steps, over the same prompts and seeds, with its 95 % interval.
    """
    from course_lib.common.registry import choose

    rows = choose("leaderboard", board, {"few-steps": few_steps_rows})
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
    mine = few_steps_row(checkpoint, count, sampler, device) if checkpoint else None
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *rows(), *([mine] if mine else [])]
    for row in table:
        typer.echo(f"| {' | '.join(row)} |")


def few_steps_rows() -> list[tuple[str, ...]]:
    """The recorded rows, best at 4 steps first."""
    from course_lib.common.paths import RECORDED
    from course_lib.teaching.results import load_results

    runs = load_results("few_steps") if (RECORDED / "few_steps").is_dir() else []
    runs = [run for run in runs if run.variant != "teacher"]
    runs.sort(key=lambda run: -run.metrics["right at 4"])
    return [row(run.variant, run.settings.get("parameters"), run.metrics) for run in runs]


def few_steps_row(
    checkpoint: Path, count: int, sampler: str | None, device: str
) -> tuple[str, ...]:
    """The reader's own row, measured now."""
    from course_lib.common.checkpoints import load_checkpoint
    from course_lib.common.registry import choose
    from course_lib.diffusion import SAMPLERS
    from course_lib.diffusion.few_steps import consistency, flow_map
    from course_lib.evaluation.prompts import right
    from course_lib.experiments.few_steps import compared, teachers_verdicts
    from course_lib.models import TextUNet
    from course_lib.pipelines import text_to_image
    from course_lib.recipes import RECIPES

    samplers = {"flow_map": flow_map, "consistency": consistency, "ddim": SAMPLERS["ddim"]}
    model = load_checkpoint(TextUNet, checkpoint, device)
    interval = model.unet.interval
    name = sampler or ("flow_map" if interval else "ddim")
    run = choose("sampler", name, samplers)
    if not interval and name != "ddim":
        raise ValueError(
            f"--sampler {name} needs a U-Net that receives where a step ends (interval=True), and "
            f"{checkpoint} has none: use --sampler ddim"
        )
    pipeline = RECIPES["scenes-fast"]().pipeline(model)
    reference, metrics = teachers_verdicts(count), {"cpu_minutes": model.card.get("cpu_minutes")}
    for steps in (1, 2, 4):
        draw = functools.partial(text_to_image, pipeline, sampler=run, steps=steps)
        if reference is None:
            metrics[f"right at {steps}"] = right(draw, count).double().mean().item()
        else:
            metrics |= compared(draw, steps, reference)
    return row(checkpoint.stem, model.card["parameters"], metrics)


def row(name: str, parameters: int | None, metrics: dict) -> tuple[str, ...]:
    """One line of the table: shares in per cent, the difference in points."""
    shares = [f"{metrics[f'right at {steps}']:.1%}" for steps in (1, 2, 4)]
    difference = "not recorded"
    if "difference at 4" in metrics:
        value, low, high = (100 * metrics[f"{name} at 4"] for name in ("difference", "low", "high"))
        difference = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    minutes = metrics.get("cpu_minutes")
    size = "" if parameters is None else f"{parameters:,}"
    return name, size, *shares, difference, "" if minutes is None else f"{minutes:.0f}"
