"""The command `course`: doctor, lab, progress, demo, sample, train, evaluate, cost.

What a user gets wrong ends in one line on stderr and status 2; what the machine refuses (a full
disk, no GPU) in one line and status 1. Only a bug of ours shows a traceback. Everything heavy is
imported by the command that needs it, so that `course --help` answers at once.
"""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from course_lib.common.paths import ROOT

app = typer.Typer(
    help="From DDPM to Stable Diffusion: the course's command line.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DEMO = [
    "a large red circle on a blue background",
    "a small yellow square at the top left on a purple background",
    "a large green ring in the centre on a black background",
    "a large orange triangle at the bottom right on a white background",
    "a small white cross to the left of a large red diamond on a green background",
    "a large blue square above a small yellow ring on a black background",
    "three small red circles on a white background",
    "four small purple diamonds on an orange background",
]

JUPYTER = ROOT / "course_lib" / "teaching" / "jupyter"  # defaults: JupyterLab asks for no news

Name = Annotated[str, typer.Argument(help="a recipe, such as digits-ddpm or scenes-latent")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps; auto takes the first that is there")]
Steps = Annotated[int, typer.Option(help="sampling steps")]
Scale = Annotated[float | None, typer.Option(help="guidance: 1 is none; by default the model's")]
Sampler = Annotated[
    str | None, typer.Option(help="ancestral, ddim, heun or dpm++2m; by default the model's")
]
Seed = Annotated[int, typer.Option(help="of the first picture of each caption")]
Out = Annotated[Path, typer.Option(help="the PNG file to write")]


@app.command()
def doctor() -> None:
    """Check this machine: one line each, status 1 if something would break a chapter."""
    from course_lib.cli.doctor import examine

    failed = False
    for finding in examine():
        typer.echo(finding)
        failed |= finding.level == "FAIL"
    raise typer.Exit(int(failed))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open the first chapter in JupyterLab; further arguments (--port 9999) are passed on to it."""
    first = "notebooks/00_start_here.ipynb"
    if not (ROOT / first).exists():
        raise FileNotFoundError(f"{first} is not beside course_lib: copy the whole repository")
    arguments = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{first}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container; JupyterLab refuses root otherwise
    if not has_desktop():
        arguments.append("--no-browser")  # or a text browser would take the terminal
    for name in ("COURSE_DATA", "COURSE_PROGRESS"):  # notebooks run in a folder of their own
        if path := os.environ.get(name):
            os.environ[name] = os.path.abspath(path)
    defaults = [str(JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, defaults))
    os.chdir(ROOT)
    from jupyterlab.labapp import main as jupyterlab

    jupyterlab([*arguments, *context.args])


def has_desktop() -> bool:
    """Whether a browser window can open here."""
    named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return named or not sys.platform.startswith("linux")


@app.command()
def progress(
    reset: Annotated[bool, typer.Option("--reset", help="forget it all and begin anew")] = False,
) -> None:
    """Show which exercises you have solved, chapter by chapter."""
    import course_lib.exercises  # noqa: F401  they register themselves
    from course_lib.teaching.progress import overview
    from course_lib.teaching.solved import forget

    if reset:
        forget()
    typer.echo("\n".join(overview()))


@app.command()
def demo(device: Device = "auto", seed: Seed = 0, out: Out = Path("outputs/demo.png")) -> None:
    """Draw eight captions with the shipped model, and have the prompt oracle judge the pictures."""
    from course_lib.evaluation import PromptOracle

    images = draw(DEMO, out, device=device, seed=seed)
    right = [verdict["all"] for verdict in PromptOracle().judge(images, DEMO)]
    typer.echo(f"The prompt oracle finds {sum(right)} of {len(right)} as their captions say.")


@app.command()
def sample(
    captions: Annotated[list[str], typer.Argument(help="one or more, each in quotes")],
    steps: Steps = 20,
    scale: Scale = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(help="pictures of each caption")] = 1,
    model: Annotated[
        str, typer.Option(help="a shipped model, or Stable Diffusion 1: a folder or .safetensors")
    ] = "scenes-latent",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="for a single file: the folder of its tokenizer (tokenizer.json or vocab.json)"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="of Stable Diffusion's pictures, in pixels: 512 unless told")
    ] = None,
    device: Device = "auto",
    out: Out = Path("outputs/sample.png"),
) -> None:
    """Draw captions with a text-to-image model: a PNG grid with the captions beneath."""
    options = dict(steps=steps, scale=scale, sampler=sampler)
    options |= dict(model=model, tokenizer=tokenizer, size=size)
    draw(captions, out, device=device, seed=seed, count=count, **options)


def draw(
    captions,
    out,
    *,
    model="scenes-latent",
    tokenizer=None,
    size=None,
    device="auto",
    seed=0,
    count=1,
    **options,
):
    """Draw `count` pictures of each caption, write them as one grid to `out`, and return them."""
    import torch

    from course_lib.common.checks import torch_seeds
    from course_lib.pipelines import text_to_image
    from course_lib.recipes import load_pipeline

    check_out(out)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    torch_seeds(seed, seed + count - 1)
    if published := is_published(model):
        pipeline = open_published(model, tokenizer, 512 if size is None else size, device)
    elif tokenizer is not None or size is not None:
        raise ValueError(f"--tokenizer and --size are for Stable Diffusion's files, not {model}")
    else:
        pipeline = load_pipeline(model, device)
    batch = 1 if published else 64
    jobs = [(caption, seed + i) for caption in captions for i in range(count)]
    start, images = time.perf_counter(), []
    for first in range(0, len(jobs), batch):
        texts, seeds = zip(*jobs[first : first + batch], strict=True)
        images.append(text_to_image(pipeline, texts, seeds, **options).cpu())
    seconds = time.perf_counter() - start
    images = torch.cat(images)
    columns = min(count, 8) if count > 1 else min(len(captions), 4)
    write_grid(out, images, [caption for caption, _ in jobs], columns)
    each = f"{seconds:.1f} s on {pipeline.device}"
    typer.echo(f"{out}: {len(images)} picture{'s' * (len(images) > 1)}, {each}")
    return images


def is_published(model: str) -> bool:
    """Whether this names files of Stable Diffusion's and not one of our models."""
    from course_lib.recipes import RECIPES

    path = Path(model)
    named = path.suffix in (".safetensors", ".ckpt") or len(path.parts) > 1 or path.is_dir()
    return named and model not in RECIPES


def open_published(model, tokenizer, size, device):
    """Stable Diffusion, once it is known to fit into memory; the estimate is printed."""
    from course_lib.common.devices import pick_device
    from course_lib.pipelines import check_size, load_published
    from course_lib.pipelines.stable_diffusion.memory import check_memory

    check_size(size)
    device = pick_device(device)
    typer.echo(check_memory(model, size, device))
    return load_published(model, tokenizer, size, device)


def check_out(out: Path) -> None:
    """Refuse a place that can't be written to before the work, not after it."""
    from course_lib.common.files import make_folder

    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"--out names a PNG file, such as outputs/sample.png; got {out}")
    make_folder(out.parent)


def write_grid(out: Path, images, captions: list[str], columns: int) -> None:
    """A labelled grid of pictures as a PNG file, there whole or not at all."""
    import io

    from course_lib.common.files import write_files
    from course_lib.teaching.plots import grid_figure
    from course_lib.teaching.style import DPI

    buffer = io.BytesIO()
    grid_figure(images, captions, columns=columns).savefig(buffer, format="png", dpi=DPI)
    write_files({out: buffer.getvalue()})


@app.command()
def train(
    name: Name,
    steps: Annotated[int | None, typer.Option(help="by default the recipe's")] = None,
    folder: Annotated[Path | None, typer.Option(help="by default outputs/NAME")] = None,
    device: Device = "auto",
    data: Annotated[
        Path | None, typer.Option(help="your own pictures with captions, for the scenes' recipes")
    ] = None,
    until: Annotated[
        float | None, typer.Option(help="stop once this share is right, such as 0.95")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, do not resume")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="put the model into data/checkpoints")
    ] = False,
) -> None:
    """Train a recipe; run again after a stop, it goes on where its folder ends.

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
        make_folder(CHECKPOINTS)  # refused before the training, not after it
    changes = {} if steps is None else {"steps": steps}
    run = recipe.begin(folder=folder, device=device, resume=not fresh, **changes)
    counts = dict(desc=name, total=run.steps, initial=run.done, unit="step", mininterval=1)
    bar = tqdm(run, **counts, disable=not run.is_main)
    try:
        for step in bar:
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            if step.index % recipe.sample_every == 0 or step.index == run.steps:
                right = look(recipe, run, folder, bool(until)) if run.is_main else 0.0
                if until and run.engine.sum(right) >= until:  # the leader's look, for all
                    break
    except KeyboardInterrupt:
        bar.close()
        if run.is_main:
            again = "the same command" + " without --fresh" * fresh
            typer.echo(f"Stopped at step {run.done}; {again} goes on from the last one kept.")
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


def look(recipe, run, folder: Path, judge: bool) -> float:
    """Draw what the averaged model makes now; the share of it that is right, if that is asked."""
    from tqdm import tqdm

    images, titles = recipe.samples(run.ema)
    write_grid(folder / f"step_{run.done:06d}.png", images, titles, columns=8)
    right = recipe.score(run.ema) if judge else 0.0
    if judge:
        tqdm.write(f"step {run.done}: {right:.1%} right after {run.seconds / 60:.1f} minutes")
    return right


@app.command()
def evaluate(
    name: Name,
    count: Annotated[int, typer.Option(help="samples of each kind to measure")] = 500,
    weights: Annotated[Path | None, typer.Option(help="a checkpoint other than NAME's")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="put the new figures into the card")
    ] = False,
    device: Device = "auto",
) -> None:
    """Measure a trained model again and set the figures beside those of its card."""
    from course_lib.common.checkpoints import amend_card, load_checkpoint
    from course_lib.common.registry import choose
    from course_lib.evaluation.metrics import from_card, to_card
    from course_lib.recipes import RECIPES

    recipe = choose("recipe", name, RECIPES)()
    if count < 2:  # one picture has no spread, and no distance to others
        raise ValueError(f"count must be at least 2, got {count}")
    model = load_checkpoint(type(recipe.model()), weights or name, device)
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
        amend_card(weights or name, metrics=to_card(metrics))


@app.command()
def cost(
    name: Name,
    gpus: Annotated[int, typer.Option(help="how many of them")] = 1,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100, l4 or rtx4090")] = "h100",
    check: Annotated[
        bool,
        typer.Option("--check", help="train here, on a GPU as well if there is one: how wrong?"),
    ] = False,
) -> None:
    """Predict a training's time and memory, here and on GPUs, from a step measured here."""
    import torch

    from course_lib.common.registry import choose
    from course_lib.recipes import RECIPES
    from course_lib.training.scale import cost as model

    recipe, card = choose("recipe", name, RECIPES)(), choose("GPU", gpu, model.GPUS)
    batches = recipe.settings["scale"].accumulate
    if gpus < 1 or batches % gpus:
        raise ValueError(
            f"gpus must be at least 1, and share the {batches} batches of a step of {name} "
            f"equally; got {gpus}"
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


def main() -> None:
    """Run the command line; errors that are no bug of ours end in one line."""
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe may know no ✓
        if stream:  # None where it was closed
            stream.reconfigure(errors="replace")
    show_warnings()
    try:
        app(prog_name="course")
    except ValueError as error:
        refuse(error, 2)
    except (OSError, RuntimeError) as error:
        refuse(error, 1)


def show_warnings() -> None:
    """What is logged comes on stderr, one line each, and none twice: a grid is drawn in parts."""
    said = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        return not (line in said or said.add(line))

    handler = logging.StreamHandler()
    handler.addFilter(is_new)
    logging.basicConfig(format="course: warning: %(message)s", handlers=[handler])


def refuse(error: Exception, status: int) -> None:
    ours = isinstance(error, OSError) and error.strerror and not error.filename
    text = error.strerror if ours else str(error)  # without "[Errno 28]" in front
    typer.echo(f"course: {' '.join(text.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
