"""GANs against diffusion: equal data, equal CPU time, and generators of equal size.

    python -m course_lib.experiments.gan_race "ring, GAN"        # 2 CPU minutes for each seed
    python -m course_lib.experiments.gan_race "digits, GAN"      # 5
    python -m course_lib.experiments.gan_race "scenes, GAN"      # 10

The budget includes a GAN's discriminator. Evaluation comes on top: seconds for a GAN, but minutes
for diffusion on scenes, which draws in four ways. A training saves its state in `outputs/gan_race`
every 250 steps, so the same command continues one that was stopped. A run that ends with a loss
that isn't finite is recorded, too: "failed" is 1. Chapter 17 shows the results.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.experiments.study import Outcome, Study
from course_lib.teaching.gan_data import DATA, Data
from course_lib.teaching.gans import (
    STEPS,
    Draw,
    begin_diffusion,
    begin_gan,
    diffusion_draw,
    drawn,
    floors,
    gan_draw,
    measure,
    train_for,
)
from course_lib.teaching.results import result_path

BUDGETS = {"ring": 120, "digits": 300, "scenes": 600}  # seconds of CPU time
MODELS: dict[str, dict | None] = {  # keywords of `begin_gan`; None for diffusion
    "GAN": dict(),
    "GAN with spectral norm": dict(spectral=True),
    "GAN without R1": dict(r1=0.0),
    "diffusion": None,
}
VARIANTS = {f"{data}, {model}": (data, model) for data in DATA for model in MODELS}
TRUNCATIONS = (1.0, 0.7, 0.4)  # the first one of each is the plain model
GUIDANCES = (2.0, 4.0)
FEWER = 10  # steps of the sampler, beside STEPS


def run(variant: str, seed: int) -> Outcome:
    """Train one model with one seed, and measure what it draws, in several ways."""
    name, model = choose("variant", variant, VARIANTS)
    data, keywords = DATA[name](), MODELS[model]
    data.batch(0)  # scenes are rendered now, which isn't part of the budget
    folder = Path("outputs") / "gan_race" / result_path("gan_race", variant, seed).stem
    if keywords is None:
        training = begin_diffusion(data, seed, folder)
        generator, ways = training.model, ways_to_denoise
    else:
        training = begin_gan(data, seed, **keywords, folder=folder)
        generator, ways = training.model.generator, ways_to_generate
    problem = train_for(training, BUDGETS[name])
    parameters = sum(weight.numel() for weight in generator.parameters())
    settings = {"steps": training.done, "parameters": parameters, "samples": data.count}
    metrics = {"cpu_minutes": training.cpu_seconds / 60, "failed": float(problem is not None)}
    return judged(data, ways(training.ema, data), settings, metrics)


def judged(data: Data, ways: Iterator[tuple[dict, Draw]], settings: dict, metrics: dict) -> Outcome:
    """Measures what is drawn in each way. The metrics are those of the first one."""
    real, rows = data.real(), []
    labels = [label[: data.count] for label in real[1:]]
    for way, draw in ways:
        samples, seconds = drawn(draw, data.count, *labels)
        if not samples.isfinite().all():
            return Outcome(settings, metrics | {"failed": 1.0})
        found = measure(data, samples, real)
        if not rows:
            metrics = metrics | found | floors(data, data.count, real)
            metrics |= {"seconds": seconds, "seconds for one": latency(draw, labels)}
            pictures = data.pictures_of(samples)
        rows.append(way | {"seconds": seconds} | found)
    curve = {name: [row[name] for row in rows] for name in rows[0]}
    return Outcome(settings, metrics, curve, pictures, captions_of(data, labels, pictures))


def ways_to_generate(gan: nn.Module, data: Data) -> Iterator[tuple[dict, Draw]]:
    """What the curve says about each way to draw, and the function that does."""
    for truncation in TRUNCATIONS:
        yield {"truncation": truncation, "evaluations": 1}, gan_draw(gan, truncation)


def ways_to_denoise(network: nn.Module, data: Data) -> Iterator[tuple[dict, Draw]]:
    """The same for diffusion: fewer steps and, if there are labels to follow, guidance."""
    ways = [(1.0, STEPS), (1.0, FEWER)]
    if data.classes:
        ways += [(guidance, STEPS) for guidance in GUIDANCES]
    for guidance, steps in ways:
        evaluations = steps if guidance == 1 else 2 * steps
        draw = diffusion_draw(network, data, guidance, steps)
        yield {"guidance": guidance, "evaluations": evaluations}, draw


def latency(draw: Draw, labels: list[Tensor], repeats: int = 5) -> float:
    """The CPU seconds for a single sample, at best."""
    return min(drawn(draw, 1, *(label[:1] for label in labels))[1] for _ in range(repeats))


def captions_of(data: Data, labels: list[Tensor], pictures: Tensor) -> list[list[str]]:
    """The label of each picture, if it has one."""
    rows, columns = pictures.shape[:2]
    names = [data.name_of(label) for label in labels[0].tolist()] if labels else [""] * data.count
    return [names[row * columns : (row + 1) * columns] for row in range(rows)]


STUDY = Study("gan_race", list(VARIANTS), (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
