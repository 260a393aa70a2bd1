"""From adversarial networks to Stable Diffusion: what was published when, and what it reported.

Dates are the months in arXiv's identifiers (2006.11239 is June 2020); some papers were presented at
a workshop earlier. Stable Diffusion is placed at the month of its release. Fréchet
distances are those that each paper reports for its own model on CIFAR-10. Papers measure in
slightly different ways, so differences of a few tenths mean nothing.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.teaching.style import BLUE, GREEN, GREY, ORANGE, canvas, styled

LANES = {"adversarial": ORANGE, "diffusion": BLUE, "words and latents": GREEN}
HEIGHTS = (0.16, -0.16, 0.34, -0.34, 0.52, -0.52)  # of names, above and below their lane in turn
USED = {"adversarial": 4, "diffusion": 5, "words and latents": 6}  # so that no two overlap


@dataclass(frozen=True)
class Event:
    """A paper. idea: in one line; fid: on CIFAR-10; source: where the paper reports it.

    released: the month of a release that came later than its paper, as in an arXiv number.
    """

    lane: str
    name: str
    authors: str
    arxiv: str
    idea: str
    fid: str = ""
    source: str = ""
    released: str = ""

    @property
    def date(self) -> tuple[int, int]:
        """The year and the month."""
        number = self.released or self.arxiv
        return 2000 + int(number[:2]), int(number[2:4])

    @property
    def year(self) -> float:
        """The middle of that month, in years."""
        year, month = self.date
        return year + (month - 0.5) / 12


EVENTS = [
    Event("words and latents", "VAE", "Kingma & Welling", "1312.6114",
          "a latent space one can sample from"),
    Event("adversarial", "GAN", "Goodfellow et al.", "1406.2661",
          "two networks, a generator and a discriminator"),
    Event("diffusion", "diffusion", "Sohl-Dickstein et al.", "1503.03585",
          "destroy data by small noise steps, learn to reverse them"),
    Event("adversarial", "DCGAN", "Radford et al.", "1511.06434",
          "convolutional GANs that train"),
    Event("adversarial", "SN-GAN", "Miyato et al.", "1802.05957",
          "a discriminator that trains stably", "21.7", "table 2"),
    Event("adversarial", "BigGAN", "Brock et al.", "1809.11096",
          "scale: ImageNet at up to 512×512 pixels"),
    Event("diffusion", "NCSN", "Song & Ermon", "1907.05600",
          "learn the score at many noise levels", "25.32", "table 1"),
    Event("adversarial", "StyleGAN2-ADA", "Karras et al.", "2006.06676",
          "GANs from little data", "2.42", "abstract, class-conditional"),
    Event("diffusion", "DDPM", "Ho et al.", "2006.11239",
          "predict the noise: one squared error", "3.17", "abstract"),
    Event("diffusion", "DDIM", "Song et al.", "2010.02502",
          "the same network in tens of steps"),
    Event("diffusion", "score SDE", "Song et al.", "2011.13456",
          "one continuous theory for both", "2.20", "abstract"),
    Event("words and latents", "CLIP", "Radford et al.", "2103.00020",
          "captions and pictures in one space"),
    Event("diffusion", "ADM", "Dhariwal & Nichol", "2105.05233",
          "diffusion passes GANs on ImageNet"),
    Event("words and latents", "latent diffusion", "Rombach et al.", "2112.10752",
          "diffuse in an autoencoder's latent; cross-attention to the words"),
    Event("words and latents", "DALL·E 2", "Ramesh et al.", "2204.06125",
          "from a caption to a CLIP embedding, from that to 64×64 pixels, then enlarged"),
    Event("words and latents", "Imagen", "Saharia et al.", "2205.11487",
          "a large language model reads the caption; 64×64 pixels, then enlarged"),
    Event("diffusion", "EDM", "Karras et al.", "2206.00364",
          "the design choices taken apart", "1.79", "abstract, class-conditional"),
    Event("words and latents", "classifier-free guidance", "Ho & Salimans", "2207.12598",
          "drop the caption sometimes, exaggerate it when sampling"),
    Event("words and latents", "Stable Diffusion", "Rombach et al.", "2112.10752",
          "latent diffusion for everyone: the weights are released in August 2022",
          released="2208"),
    Event("diffusion", "flow matching", "Lipman et al.", "2210.02747",
          "straight paths from noise to data"),
]  # fmt: skip


def in_turn(events: list[Event]) -> list[float]:
    """The heights of the names, in turn."""
    seen, lifts = dict.fromkeys(LANES, 0), []
    for event in events:
        lifts.append(HEIGHTS[seen[event.lane] % USED[event.lane]])
        seen[event.lane] += 1
    return lifts


def draw_lanes(axes: Axes, events: list[Event], lifts: list[float], apart: float = 1) -> None:
    """Each event as a dot in its lane, with its name so much above it, or below.

    apart: the distance of two lanes.
    """
    heights = {name: apart * i for i, name in enumerate(reversed(LANES))}
    for event, lift in zip(events, lifts, strict=True):
        colour, height = LANES[event.lane], heights[event.lane]
        axes.plot(event.year, height, "o", color=colour, markersize=6)
        axes.plot([event.year] * 2, [height, height + lift], color=GREY, linewidth=0.6)
        above = "bottom" if lift > 0 else "top"
        white = dict(facecolor="white", edgecolor="none", pad=0.6)  # hides lines behind a name
        axes.text(event.year, height + lift, event.name, size=8, ha="center", va=above, bbox=white)
    axes.set(yticks=list(heights.values()))
    axes.set_yticklabels(heights)
    axes.grid(axis="y")


@styled
def timeline_figure() -> Figure:
    """Above: who published what when, in three lanes. Below: CIFAR-10 Fréchet distance by date."""
    figure, (lanes, scores) = canvas(2, 1, size=(9, 6.2))
    draw_lanes(lanes, EVENTS, in_turn(EVENTS))
    lanes.set(xlim=(2013.4, 2023.6), ylim=(-0.8, 2.65))
    lanes.set_title("From adversarial networks to Stable Diffusion", loc="left")

    for lane, marker in (("adversarial", "s"), ("diffusion", "o")):
        points = [event for event in EVENTS if event.lane == lane and event.fid]
        years, fids = [event.year for event in points], [float(event.fid) for event in points]
        scores.plot(years, fids, "-" + marker, color=LANES[lane], label=lane)
        for event in points:
            left = lane == "adversarial"
            scores.annotate(
                f"{event.name} {event.fid}", (event.year, float(event.fid)), size=8,
                xytext=(-7, -3) if left else (6, 5), ha="right" if left else "left",
                textcoords="offset points",
            )  # fmt: skip
    scores.set(xlim=(2013.4, 2023.6), ylim=(1.2, 60), yscale="log", yticks=[2, 5, 10, 20, 50])
    scores.set_yticklabels(["2", "5", "10", "20", "50"])
    scores.minorticks_off()
    scores.set(xlabel="date of the arXiv number", ylabel="Fréchet distance, CIFAR-10")
    scores.set_title("As each paper reported it; lower is better (log scale)", loc="left")
    scores.legend(loc="lower left")
    return figure


def sources() -> str:
    """All events as a Markdown table with links."""
    rows = ["| | | idea | CIFAR-10 FID |", "|---|---|---|---|"]
    for event in EVENTS:
        fid = f"{event.fid} ({event.source})" if event.fid else ""
        rows.append(f"{row(event)} {fid} |")
    return "\n".join(rows)


def row(event: Event) -> str:
    """The event's month, link, authors and idea as the start of a row."""
    year, month = event.date
    link = f"[{event.name}](https://arxiv.org/abs/{event.arxiv})"
    return f"| {year}-{month:02} | {link}, {event.authors} | {event.idea} |"
