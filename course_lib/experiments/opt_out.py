"""A studio opts out: what of its style is left, and how few pictures bring it back.

    python -m course_lib.experiments.opt_out "Fluent opts out" 0

Two small latent models learn animals, plants and food, with equally many steps: one from drawings
by all three studios, one without Fluent's. Both then draw what Fluent drew in the held-out pairs,
so neither has seen these drawings, and both have seen other studios draw the same things. Asked for
are "Fluent style", each other studio's style, or none.

LoRAs then adapt the model without Fluent to a few of Fluent's training drawings. The autoencoder
and the judge that names the studio are the course's own and have seen all studios; the text
encoder learns with the model, so that for the model without Fluent the name is an untrained word.
"""

import torch
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.datasets.emoji import COMMON, Emoji
from course_lib.datasets.emoji.captions import write
from course_lib.datasets.emoji.dataset import picture
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.prompts import in_batches
from course_lib.experiments.few_pictures import SmallLatent, small
from course_lib.experiments.study import Outcome, Study
from course_lib.models.lora import LoRA
from course_lib.training import Optimizer, train

GONE = "Fluent"
KINDS = "animals & nature", "food & drink"
VARIANTS = {"all studios": COMMON, "Fluent opts out": tuple(s for s in COMMON if s != GONE)}
STEPS = 1500
RANK, LORA_STEPS, LORA_RATE = 8, 200, 3e-3
PICTURES = 5, 20, 100  # of the studio, in a LoRA
SEEDS = 3  # samples for each caption
SHOWN = 8


class Drawings(Emoji):
    """Training drawings of these kinds by these studios; at most `count`, in shuffled order."""

    def __init__(self, studios, split="train", count: int | None = None, unsaid: float = 0.2):
        super().__init__(split=split, studios=studios, unsaid=unsaid)
        kinds = [set(Emoji(split=split, studios=studios, kind=kind).examples) for kind in KINDS]
        self.examples = [each for each in self.examples if each in set().union(*kinds)]
        if count is not None:
            order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(0))
            self.examples = [self.examples[i] for i in order[:count].tolist()]


def model_of(data: Emoji) -> SmallLatent:
    """The small latent model's recipe, on these drawings."""
    recipe = SmallLatent(1)
    recipe.data = data
    return recipe


def run(variant: str, seed: int) -> Outcome:
    """Train on those studios and measure; without Fluent, also with LoRAs of few pictures."""
    recipe = model_of(Drawings(choose("variant", variant, VARIANTS)))
    training = recipe.begin(steps=STEPS, seed=seed, device="cpu")
    for _ in training:
        pass
    test = Test(recipe)
    metrics = test.by_style(training.ema)
    found, drawn = [test.style(training.ema, GONE)], []
    if GONE not in VARIANTS[variant]:
        for count in PICTURES:
            adapted = lora(recipe, training.ema, count, seed).merge()
            found.append(test.style(adapted, GONE))
            drawn.append(test.images[:SHOWN])
    curve = {"pictures": [0, *PICTURES][: len(found)]}
    curve |= {name: [each[name] for each in found] for name in found[0]}
    real = torch.stack([picture(name, GONE) for name in test.names[:SHOWN]])
    shown = [real, test.first[:SHOWN], *drawn]
    return Outcome(
        settings={"steps": STEPS, "pictures": len(recipe.data), "lora_steps": LORA_STEPS},
        metrics=metrics,
        curve=curve,
        samples=torch.stack(shown),
        captions=[test.captions(GONE)[:SHOWN]] * len(shown),
    )


def lora(recipe: SmallLatent, network: nn.Module, count: int, seed: int) -> LoRA:
    """An update of all the network's layers, trained on so many of the studio's drawings."""
    own = model_of(Drawings([GONE], count=count, unsaid=0))
    own.clip = recipe.clip
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = LoRA(network, rank=RANK, layers="")
    how = dict(steps=LORA_STEPS, optimizer=Optimizer("adamw", lr=LORA_RATE, warmup=20), ema=0.98)
    training = train(adapted, own.loss, own.batch, seed=seed, device="cpu", **how)
    for _ in training:
        pass
    return training.ema


class Test:
    """Captions of Fluent's held-out pairs in any studio's style, and who seems to have drawn."""

    def __init__(self, recipe: SmallLatent):
        self.recipe, self.judge = recipe, EmojiJudge("emoji-judge")
        data = Drawings([GONE], split="new pairs")
        self.concepts = [data.example(i)[0] for i in range(len(data))] * SEEDS
        self.names = [concept.name for concept in self.concepts]
        hands = [torch.stack([picture(name, s) for name in self.names]) for s in COMMON]
        self.real = torch.stack([small(images) for images in hands], dim=1)  # (B, 3, 3, 32, 32)
        self.first = self.images = None  # samples in Fluent's style: the first model's, the last's

    def captions(self, studio: str | None) -> list[str]:
        return [write(concept, studio) for concept in self.concepts]

    def style(self, network: nn.Module, asked: str | None) -> dict[str, float]:
        """Samples in the style of `asked`: the share that the judge takes for Fluent's, the share
        nearest to Fluent's drawing of the three of that concept, and that of the right concept."""
        captions = self.captions(asked)
        images = in_batches(self.recipe.draw(network), captions, range(len(captions)))
        if asked == GONE:
            self.images = images
            self.first = images if self.first is None else self.first
        verdicts = self.judge.judge(images, self.names, [GONE] * len(images))
        distances = self.distances(images)
        return {
            "studio": share([verdict["studio"] for verdict in verdicts]),
            "nearest": share((distances.argmin(1) == COMMON.index(GONE)).tolist()),
            "top5": share([verdict["top5"] for verdict in verdicts]),
            "distance": distances[:, COMMON.index(GONE)].mean().item(),
            "distance to others": distances.mean(1).mul(3).sub(distances[:, COMMON.index(GONE)])
            .div(2).mean().item(),
        }  # fmt: skip

    def distances(self, images: Tensor) -> Tensor:
        """From each sample to the three real drawings of its concept, at 32 pixels: (B, 3)."""
        return (small(images)[:, None] - self.real).square().flatten(2).mean(2).sqrt()

    def by_style(self, network: nn.Module) -> dict[str, float]:
        """Those shares for each style that can be asked for."""
        asked = {f"asked for {name}": name for name in COMMON} | {"asked for none": None}
        return {
            f"{key}, {title}": value
            for title, name in asked.items()
            for key, value in self.style(network, name).items()
        } | {"samples": len(self.names)}


def share(verdicts: list[bool]) -> float:
    return sum(verdicts) / len(verdicts)


STUDY = Study("opt_out", list(VARIANTS), (0, 1), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
