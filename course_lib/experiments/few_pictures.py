"""What changes with fewer pictures: small latent models of emoji, all trained equally long.

    python -m course_lib.experiments.few_pictures "a tenth"

The sets are nested: the 40 pictures are among the tenth, and so on. Each model then draws captions
that it was trained on, and captions of held-out pairs, which no model has seen. "distance" is the
distance to the nearest picture of the model's own training set, and the same distance of real
held-out pictures says which values are small. Chapter 10 shows the results.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.datasets.emoji import Emoji
from course_lib.datasets.emoji.captions import write
from course_lib.datasets.order import shuffled
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.evaluation.prompts import in_batches
from course_lib.experiments.study import Outcome, Study
from course_lib.recipes.emoji import EmojiLatent
from course_lib.training import Optimizer, Scale
from course_lib.training.seeding import seeded

SIZES = {"40 pictures": 40, "a tenth": 383, "all": 3831}
STEPS = 400
COUNT = 80  # captions of each kind
EVERY = 50  # steps between two measurements of the losses
SHOWN = 10  # samples that are kept


class SmallLatent(EmojiLatent):
    """`emoji-latent` with half of its width, on the first `count` pictures in a shuffled order."""

    settings = dict(
        steps=STEPS,
        optimizer=Optimizer("muon", lr=3e-3, warmup=30),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    unet = EmojiLatent.unet | dict(channels=64, context_dim=96)
    text = dict(dim=96, layers=2, heads=4)

    def __init__(self, count: int, seed: int = 0):
        super().__init__()
        chosen = shuffled(len(self.data), seed)[:count]
        self.data.examples = [self.data.examples[place] for place in chosen]


def run(variant: str, seed: int) -> Outcome:
    """Train on that many pictures, measuring both losses on the way; then draw, judge, compare."""
    recipe = SmallLatent(choose("variant", variant, SIZES), seed)
    seen, new = Emoji(split="train"), Emoji(split="new pairs")
    seen.examples = recipe.data.examples
    training, curve = recipe.begin(steps=STEPS, seed=seed, device="cpu"), []
    for step in training:
        if step.index % EVERY == 0:
            losses = {"training loss": loss(recipe, training.ema, seen)}
            losses |= {"held-out loss": loss(recipe, training.ema, new)}
            curve.append({"step": step.index} | losses)
    metrics, samples = drawn(recipe, training.ema, seen, new)
    return Outcome(
        settings={"steps": STEPS, "pictures": len(seen), "captions": COUNT},
        metrics=metrics,
        curve={name: [each[name] for each in curve] for name in curve[0]},
        samples=samples,
        captions=[[write(*new.example(i)) for i in range(SHOWN)]] * len(samples),
    )


@torch.no_grad()
def loss(recipe: EmojiLatent, network, data: Emoji) -> float:
    """The loss of 40 pictures with their plain captions, at eight fixed draws of time and noise."""
    chosen = range(40)
    z, ids = recipe.encode(data.batch(chosen)[0], [write(*data.example(i)) for i in chosen])
    with seeded(0, 0, z.device):
        return recipe.loss(network, (z.repeat(8, 1, 1, 1), ids.repeat(8, 1)), p=0.0).item()


def drawn(recipe: EmojiLatent, network, seen: Emoji, new: Emoji) -> tuple[dict, Tensor]:
    """What the judge says, and the distances; real held-out pictures, drawn ones, nearest ones."""
    training = small(seen.batch(range(len(seen)))[0])
    real = new.batch(range(COUNT))[0]
    unseen = nearest_neighbours(small(real), training)[0][:, 0]
    limit = unseen.quantile(0.05)  # a copy is nearer than 95 % of real unseen pictures
    metrics = {"distance of real": unseen.mean().item()}
    for name, data in (("trained", seen), ("held-out", new)):
        pairs = [data.example(i) for i in range(min(COUNT, len(data)))]
        captions = [write(*pair) for pair in pairs]
        images = in_batches(recipe.draw(network), captions, range(len(pairs)))
        distance, nearest = nearest_neighbours(small(images), training)
        concepts, studios = [concept.name for concept, _ in pairs], [by for _, by in pairs]
        verdicts = EmojiJudge("emoji-judge").judge(images, concepts, studios)
        metrics |= {
            f"{key}, {name}": sum(v[key] for v in verdicts) / len(pairs)
            for key in ("top5", "studio")
        }
        metrics[f"distance, {name}"] = distance.mean().item()
        metrics[f"copies, {name}"] = (distance[:, 0] < limit).float().mean().item()
    shown = seen.batch(range(len(seen)))[0][nearest[:SHOWN, 0]]
    return metrics, torch.stack([real[:SHOWN], images[:SHOWN], shown])


def small(images: Tensor) -> Tensor:
    """At 32 pixels, where distances are measured."""
    return F.avg_pool2d(images, 2)


STUDY = Study("few_pictures", list(SIZES), (0,), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
