"""Chapter 17's timeline, from GANs to Stable Diffusion 3, with the numbers that papers reported.

A number stands here only with the place where it was published. Most are from the model's own
paper; a later paper's comparison is named as such. Function evaluations are those of the large
network for one image: a guided step takes two of them.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.teaching.history import EVENTS, HEIGHTS, LANES, Event, draw_lanes, row
from course_lib.teaching.style import canvas, styled

FULL = sorted([
    *EVENTS,
    Event("adversarial", "WGAN", "Arjovsky et al.", "1701.07875",
          "a distance that is informative even if the two sets don't overlap"),
    Event("adversarial", "WGAN-GP", "Gulrajani et al.", "1704.00028",
          "a penalty on the discriminator's gradient"),
    Event("adversarial", "Progressive GAN", "Karras et al.", "1710.10196",
          "from 4×4 to 1024×1024 pixels, layer by layer"),
    Event("adversarial", "R1", "Mescheder et al.", "1801.04406",
          "which training methods converge; a penalty on real data alone"),
    Event("adversarial", "StyleGAN", "Karras et al.", "1812.04948",
          "the noise controls the style of every layer"),
    Event("words and latents", "VQGAN", "Esser et al.", "2012.09841",
          "an autoencoder trained with a discriminator; a transformer on its codes"),
    Event("words and latents", "DALL·E", "Ramesh et al.", "2102.12092",
          "a transformer writes a picture's tokens after those of its caption"),
    Event("diffusion", "improved DDPM", "Nichol & Dhariwal", "2102.09672",
          "a cosine schedule and learned variances"),
    Event("diffusion", "cascaded diffusion", "Ho et al.", "2106.15282",
          "small pictures first, then diffusion models that enlarge them"),
    Event("diffusion", "progressive distillation", "Salimans & Ho", "2202.00512",
          "half the steps, again and again"),
    Event("adversarial", "StyleGAN-XL", "Sauer et al.", "2202.00273",
          "StyleGAN on all of ImageNet"),
    Event("words and latents", "DiT", "Peebles & Xie", "2212.09748",
          "a transformer in place of the U-Net"),
    Event("words and latents", "ControlNet", "Zhang et al.", "2302.05543",
          "a copy of the encoder reads edges, poses or depth"),
    Event("diffusion", "consistency models", "Song et al.", "2303.01469",
          "every point of a path leads to its end in one evaluation"),
    Event("adversarial", "GigaGAN", "Kang et al.", "2303.05511",
          "a text-to-image GAN: 512×512 pixels in 0.13 seconds (abstract)"),
    Event("words and latents", "SDXL", "Podell et al.", "2307.01952",
          "a larger U-Net, two text encoders"),
    Event("diffusion", "improved consistency", "Song & Dhariwal", "2310.14189",
          "consistency training without a teacher"),
    Event("words and latents", "latent consistency", "Luo et al.", "2310.04378",
          "consistency in the latent space, guidance included: 1 to 4 steps"),
    Event("words and latents", "SDXL Turbo", "Sauer et al.", "2311.17042",
          "adversarial diffusion distillation: a discriminator makes 1 to 4 steps enough"),
    Event("words and latents", "Stable Diffusion 3", "Esser et al.", "2403.03206",
          "straight paths, and a transformer for both words and latents"),
], key=lambda event: event.year)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A published Fréchet distance. name: of the event; model: if the paper has several.

    evaluations: of the network for one image, as text; None if we couldn't confirm them.
    """

    name: str
    data: str
    fid: str
    source: str
    evaluations: int | None = None
    model: str = ""

    @property
    def event(self) -> Event:
        return next(event for event in FULL if event.name == self.name)


CIFAR, IMAGENET = "CIFAR-10", "ImageNet 256"
RESULTS = [
    Result("SN-GAN", CIFAR, "21.7", "table 2", 1),
    Result("NCSN", CIFAR, "25.32", "table 1"),
    Result("StyleGAN2-ADA", CIFAR, "2.42", "abstract, class-conditional", 1),
    Result("DDPM", CIFAR, "3.17", "abstract", 1000),
    Result("DDIM", CIFAR, "4.67", "table 1, 50 steps", 50),
    Result("score SDE", CIFAR, "2.20", "abstract"),
    Result("progressive distillation", CIFAR, "3.0", "abstract, 4 steps", 4),
    Result("StyleGAN-XL", CIFAR, "1.85", "Song et al. 2023, table 1", 1),
    Result("EDM", CIFAR, "1.79", "abstract, class-conditional", 35),
    Result("consistency models", CIFAR, "3.55", "abstract, distilled", 1),
    Result("improved consistency", CIFAR, "2.51", "abstract", 1),
    Result("BigGAN", IMAGENET, "6.95", "Dhariwal & Nichol 2021, table 5", 1, "BigGAN-deep"),
    Result("ADM", IMAGENET, "4.59", "abstract; steps: Rombach et al. 2022, table 3", 250, "ADM-G"),
    Result("cascaded diffusion", IMAGENET, "4.88", "abstract"),
    Result("latent diffusion", IMAGENET, "3.60", "table 3, 250 guided steps", 500, "LDM-4-G"),
    Result("StyleGAN-XL", IMAGENET, "2.30", "Peebles & Xie 2023, table 2", 1),
    Result("DiT", IMAGENET, "2.27", "table 2, 250 guided steps", 500, "DiT-XL/2-G"),
]  # fmt: skip


@styled
def full_timeline_figure() -> Figure:
    """Who published what when, in three lanes."""
    figure, axes = canvas(size=(9, 6.2))
    draw_lanes(axes, FULL, where_free(FULL), apart=1.3)
    axes.set(xlim=(2013.2, 2025.0), ylim=(-0.8, 3.4), xticks=range(2014, 2025))
    axes.set_title("From adversarial networks to Stable Diffusion 3", loc="left")
    axes.set_xlabel("date of the arXiv number")
    return figure


def where_free(events: list[Event], per_letter: float = 0.085) -> list[float]:
    """For each name the first height at which the one before has ended; letters are in years."""
    ends, lifts = {}, []
    for event in events:
        half = per_letter * (len(event.name) + 1) / 2
        free = [lift for lift in HEIGHTS if ends.get((event.lane, lift), 0) < event.year - half]
        lifts.append(free[0])
        ends[event.lane, free[0]] = event.year + half
    return lifts


@styled
def results_figure() -> Figure:
    """Published Fréchet distances against the function evaluations for one image, by data set."""
    figure, panels = canvas(1, 2, size=(9, 4.2))
    for axes, data in zip(panels, (CIFAR, IMAGENET), strict=True):
        draw_results(axes, [each for each in RESULTS if each.data == data and each.evaluations])
        axes.set_title(f"{data}: as published", loc="left")
    for marker, lane in (("s", "adversarial"), ("o", "diffusion")):
        panels[1].plot([], [], marker, color=LANES[lane], label=lane)
    panels[1].legend(loc="upper right")
    return figure


def draw_results(axes: Axes, results: list[Result]) -> None:
    """Evaluations to the right, distance upwards; squares for GANs, circles for diffusion."""
    for result in results:
        adversarial = result.event.lane == "adversarial"
        x, y = result.evaluations, float(result.fid)
        colour = LANES["adversarial" if adversarial else "diffusion"]
        axes.plot(x, y, "s" if adversarial else "o", color=colour)
        axes.annotate(
            f"{result.model or result.name}, {result.event.date[0]}", (x, y), size=8,
            xytext=(7 if x < 100 else -7, -8 if adversarial else 1),
            ha="left" if x < 100 else "right", textcoords="offset points",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(0.7, 1500), ylim=(1.5, 30))
    axes.set(xticks=[1, 10, 100, 1000], yticks=[2, 3, 5, 10, 20])
    axes.set_xticklabels(["1", "10", "100", "1,000"])
    axes.set_yticklabels(["2", "3", "5", "10", "20"])
    axes.minorticks_off()
    axes.set(xlabel="function evaluations for one image", ylabel="Fréchet distance")


def full_sources() -> str:
    """All events as a Markdown table with links and published distances."""
    rows = ["| | | idea | published Fréchet distance |", "|---|---|---|---|"]
    for event in FULL:
        told = [
            f"{each.data}: {each.fid}"
            + (f" at {each.evaluations:,} evaluation{'s' * (each.evaluations > 1)}"
               if each.evaluations else "")
            + f" ({', '.join(part for part in (each.model, each.source) if part)})"
            for each in RESULTS if each.name == event.name
        ]  # fmt: skip
        rows.append(f"{row(event)} {'; '.join(told)} |")
    return "\n".join(rows)
