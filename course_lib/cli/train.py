"""Commands that train and measure: check-data, train, evaluate, cost."""

from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli.draw import Device, check_out, write_grid

Name = Annotated[str, typer.Argument(help="a recipe, such as digits-ddpm or scenes-latent")]


def check_data(
    folder: Annotated[Path, typer.Argument(help="your own pictures, with metadata.jsonl")],
    all_names: Annotated[
        bool, typer.Option("--all", help="name every file, not only five")
    ] = False,
) -> None:
    """Look at a folder of your own pictures before a training: files, captions, copies, split."""
    from tqdm import tqdm

    from course_lib.datasets.folder_check import check_folder, ready
    from course_lib.recipes.emoji import EmojiLatent

    def watch(entries):
        return tqdm(entries, unit="picture", mininterval=1, leave=False, disable=None)

    findings = check_folder(folder, EmojiLatent.size, EmojiLatent.tokenizer, watch=watch)
    for finding in findings:
        typer.echo(finding.line(None if all_names else 5))
    if not ready(findings):
        typer.echo("not ready: first do what the lines with fix: say")
        raise typer.Exit(1)
    typer.echo("ready")


def train(
    name: Name,
    steps: Annotated[int | None, typer.Option(help="default: the recipe's")] = None,
    folder: Annotated[Path | None, typer.Option(help="default: outputs/NAME")] = None,
    device: Device = "auto",
    data: Annotated[
        Path | None, typer.Option(help="your own pictures, for the recipes of scenes and emoji")
    ] = None,
    until: Annotated[
        float | None, typer.Option(help="stop when this share is right, for example 0.95")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over instead of resuming")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="put the model into data/checkpoints")
    ] = False,
) -> None:
    """Train a recipe. If you stop it, run the same command again to resume.

    Two processes share the batches of scenes-vae and scenes-latent: torchrun --standalone
    --nproc-per-node=2 -m course_lib.cli train NAME
    """
    from tqdm import tqdm

    from course_lib.common.checkpoints import CHECKPOINTS, check_place, locate
    from course_lib.common.files import make_folder
    from course_lib.recipes import make_recipe

    folder = folder or Path("outputs") / name
    path = locate(name if publish else folder / f"{name}.safetensors")
    check_place(path, data is not None)
    recipe = make_recipe(name, data)
    if until is not None and not (0 < until <= 1 and data is None):
        raise ValueError(f"--until takes a share in (0, 1], and no --data; got {until}")
    if publish:
        make_folder(CHECKPOINTS)  # if this fails, fail before the training
    changes = {} if steps is None else {"steps": steps}
    run = recipe.begin(folder=folder, device=device, resume=not fresh, **changes)
    counts = dict(desc=name, total=run.steps, initial=run.done, unit="step", mininterval=1)
    bar = tqdm(run, **counts, disable=not run.is_main)
    try:
        for step in bar:
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            if step.index % recipe.sample_every == 0 or step.index == run.steps:
                right = write_samples(recipe, run, folder, bool(until)) if run.is_main else 0.0
                if until and run.engine.sum(right) >= until:  # the main process's score, for all
                    break
    except KeyboardInterrupt:
        bar.close()
        if run.is_main:
            again = "the same command" + " without --fresh" * fresh
            typer.echo(f"Stopped at step {run.done}; {again} resumes from the last saved step.")
        raise typer.Exit(130) from None
    run.close()
    if not run.is_main:
        return
    typer.echo(f"Measuring {name} ...")
    told = {"--data": data, "--steps": steps, "--until": until}
    told = [f"{option} {value}" for option, value in told.items() if value is not None]
    command = " ".join([f"course train {name}", *told])
    recipe.publish(run, path, command=command)
    typer.echo(f"{path}: {run.done} steps in {run.seconds / 60:.1f} minutes")


def write_samples(recipe, run, folder: Path, judge: bool) -> float:
    """Write the averaged model's current samples; returns the share that is right if `judge`."""
    from tqdm import tqdm

    images, titles = recipe.samples(run.ema)
    write_grid(folder / f"step_{run.done:06d}.png", images, titles, columns=8)
    right = recipe.score(run.ema) if judge else 0.0
    if judge:
        tqdm.write(f"step {run.done}: {right:.1%} right after {run.seconds / 60:.1f} minutes")
    return right


def evaluate(
    name: Name,
    count: Annotated[int, typer.Option(help="number of samples of each kind")] = 500,
    weights: Annotated[Path | None, typer.Option(help="a checkpoint other than NAME's")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="write the new numbers into the card")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="your own pictures, of which a tenth is held out")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="also draw samples into this PNG file")] = None,
    device: Device = "auto",
) -> None:
    """Measure a trained model again and compare with the numbers on its card."""
    from course_lib.common.checkpoints import load_checkpoint, update_card
    from course_lib.evaluation.metrics import from_card, to_card
    from course_lib.recipes import make_recipe

    if out:
        check_out(out)
    recipe = make_recipe(name, data)
    if count < 2:  # a single picture has no spread and no distance to others
        raise ValueError(f"count must be at least 2, got {count}")
    model = load_checkpoint(type(recipe.model()), weights or name, device)
    check_pictures(recipe, model, data)
    recorded = {metric.label: metric for metric in from_card(model.card)}
    typer.echo(f"| {name} | now | samples | 95 % interval | card |")
    typer.echo("|---|---|---|---|---|")
    metrics = recipe.measure(model, count)
    for metric in metrics:
        low, high = map(show, metric.interval or ("", ""))
        interval = f"{low} to {high}" if metric.interval else ""
        before = show(recorded[metric.label].value) if metric.label in recorded else ""
        row = metric.label, show(metric.value), metric.count, interval, before
        typer.echo(f"| {' | '.join(map(str, row))} |")
    if write:
        update_card(weights or name, metrics=to_card(metrics))
    if out:
        write_grid(out, *recipe.samples(model), columns=8)
        typer.echo(f"samples: {out}")


def check_pictures(recipe, model, folder: Path | None) -> None:
    """ValueError unless the model was trained on the pictures that it is to be measured on.

    An autoencoder may be measured on any pictures.
    """
    data = model.card.get("settings", {}).get("data")
    trained = data.get("pictures") if isinstance(data, dict) else None
    now = (recipe.data_fingerprint() or {}).get("pictures")
    if trained and folder is None:
        raise ValueError(f"this {recipe.name} was trained on your own pictures: add --data FOLDER")
    if trained != now and (trained or recipe.draws_captions):
        raise ValueError(
            f"this {recipe.name} was not trained on what {folder} holds now: name the folder as it "
            "was then, or train again"
        )


def cost(
    name: Name,
    gpus: Annotated[int, typer.Option(help="number of GPUs")] = 1,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100, l4 or rtx4090")] = "h100",
    check: Annotated[
        bool,
        typer.Option("--check", help="also train here and print how wrong the prediction is"),
    ] = False,
) -> None:
    """Predict a training's time and memory, here and on GPUs, from a few steps measured here."""
    import torch

    from course_lib.common.registry import choose
    from course_lib.recipes import RECIPES
    from course_lib.training.scale import cost as model

    recipe, card = choose("recipe", name, RECIPES)(), choose("GPU", gpu, model.GPUS)
    batches = recipe.settings["scale"].accumulate
    if gpus < 1 or batches % gpus:
        raise ValueError(
            f"gpus must be at least 1 and divide {batches}, the batches in a step of {name}; "
            f"got {gpus}"
        )
    torch.set_num_threads(1)
    work = model.measure(recipe)
    for line in model.report(work, card, gpu, gpus):
        typer.echo(line)
    if check:
        from course_lib.cli.cost_check import checks

        for line in checks(work, name, gpu):
            typer.echo(line)


def show(value) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value or "")
