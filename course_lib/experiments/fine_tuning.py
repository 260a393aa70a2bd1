"""What a few pictures teach `emoji-latent`: a new studio by LoRA, and one new thing by name.

    python -m course_lib.experiments.fine_tuning "100 pictures" 0

A style run learns to draw like Blob, a studio that the model has never seen, and is judged on
held-out drawings: things that the run hasn't seen in Blob's style. An object run learns one owl
from five pictures; the model has never seen an owl. "two LoRAs" adds one of each. "before" trains
nothing. Forgetting is measured on held-out pairs of the studios that the model knew. Chapter 11
shows the results.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice

import torch
from torch import Tensor, nn

from course_lib.common.registry import choose
from course_lib.datasets.emoji import COMMON, Emoji, concepts
from course_lib.datasets.emoji.captions import SAY_STYLE
from course_lib.diffusion import drop_condition
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.experiments.study import Outcome, Study
from course_lib.models.lora import ATTENTION, LoRA
from course_lib.models.textual_inversion import TextualInversion
from course_lib.pipelines import LatentDiffusion
from course_lib.recipes import load_pipeline
from course_lib.teaching.fine_tuning import (
    blobs,
    distance_to,
    draw,
    encoded,
    held_out_loss,
    lessons,
    owls,
    plain_captions,
    shares,
)

COUNT = 64  # drawings that are judged
SHOWN = 8  # samples that are kept
SCALES = -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0  # of the update, in the run that sweeps it
MOMENTS = 0, 50, 100, 200  # steps after which an object run draws
ASKED = "Noto", "Noto", "Twemoji", "Fluent"  # for whose owls it is asked, in the samples

Batches = Iterable[tuple[Tensor, Tensor]]  # latents (B, C, h, w) and contexts (B, L, D)


def train(
    model: LatentDiffusion,
    weights: list[Tensor],
    batches: Batches,
    steps: int,
    lr: float,
    prior: Batches = (),
) -> Iterator[int]:
    """AdamW on the usual loss, with a tenth of the captions dropped; yields the steps done.

    prior: batches whose loss is added (Ruiz et al. 2023, §3.3), with the weight 1.
    """
    null, prior = model.clip.context([""]).detach(), iter(prior)  # null (1, L, D)
    optimizer = torch.optim.AdamW(weights, lr)
    decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps)  # to 0, in a straight line

    def loss(z: Tensor, context: Tensor) -> Tensor:
        context = drop_condition(context, null, 0.1)
        return model.process.loss(model.unet, z, context, time_sampling="logit_normal")

    for step, batch in enumerate(islice(batches, steps), start=1):
        total = loss(*batch) + sum(loss(*remembered) for remembered in islice(prior, 1))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        decay.step()
        yield step


def trainable(network: nn.Module) -> list[Tensor]:
    return [p for p in network.parameters() if p.requires_grad]


def kilobytes(weights: list[Tensor]) -> float:
    """Of a file that holds them in half precision."""
    return sum(w.numel() for w in weights) * 2 / 1024


def forgetting(model: LatentDiffusion) -> dict[str, float]:
    """What is left of the studios that the model knew, on held-out pairs."""
    known = Emoji(split="new pairs")
    found = shares(draw(model, plain_captions(known, COUNT)), known)
    return {f"{key}, others": found[key] for key in ("studio", "top5")}


# --- a studio ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """How a style run trains: on how many pictures, and which weights. rank 0: all of them."""

    pictures: int = 100
    rank: int = 4
    layers: str = ""  # of the U-Net: all of them
    steps: int = 400
    lr: float = 2e-3

    def network(self, unet: nn.Module) -> nn.Module:
        return LoRA(unet, self.rank, layers=self.layers) if self.rank else unet


STYLES = {
    "before": Style(0, steps=0),
    "20 pictures": Style(20),
    "100 pictures": Style(100),
    "500 pictures": Style(500),
    "rank 1": Style(rank=1),
    "rank 16": Style(rank=16),
    "attention only": Style(layers=ATTENTION),
    "full fine-tuning": Style(rank=0, lr=3e-4),
}


def run_style(style: Style, seed: int) -> Outcome:
    """Train one network, then judge what it draws: held-out blobs, and what it knew before."""
    torch.manual_seed(seed)
    model, data = load_pipeline("emoji-latent"), blobs(style.pictures, seed)
    model = replace(model, unet=style.network(model.unet))
    weights = trainable(model.unet) if style.steps else []
    if style.steps:
        batches = lessons(model, data, style.steps)
        for _ in train(model, weights, batches, style.steps, style.lr):
            pass
    unseen = blobs(split="new pairs")
    drawn, real = draw(model, plain_captions(unseen, COUNT)), unseen.batch(range(COUNT))[0]
    found, of_real = shares(drawn, unseen), shares(real, unseen)
    metrics = {
        "KB": kilobytes(weights),
        "held-out loss": held_out_loss(model, unseen),
        **{key: found[key] for key in ("studio", "top5")},
        **{f"{key} of real": of_real[key] for key in ("studio", "top5")},
        **forgetting(model),
    }
    if style.steps:
        metrics |= copying(model, data, real)
    return Outcome(
        settings={"steps": style.steps, "pictures": style.pictures, "rank": style.rank},
        metrics=metrics,
        curve=swept(model, unseen) if style.pictures == 500 else {},
        samples=torch.stack([real[:SHOWN], drawn[:SHOWN]]),
        captions=[plain_captions(unseen, SHOWN)] * 2,
    )


def copying(model: LatentDiffusion, data: Emoji, real: Tensor) -> dict[str, float]:
    """Whether captions that the run trained on bring back their pictures.

    A copy is nearer to a training picture than 95 % of real unseen drawings are.
    """
    training, count = data.batch(range(len(data)))[0], min(COUNT, len(data))
    limit = distance_to(real, training).quantile(0.05)
    near = distance_to(draw(model, plain_captions(data, count)), training)
    return {"distance": near.mean().item(), "copies": (near < limit).float().mean().item()}


def swept(model: LatentDiffusion, unseen: Emoji, count: int = 40) -> dict[str, list[float]]:
    """What the judges say of drawings with the update scaled up and down."""
    rows = []
    for scale in SCALES:
        model.unet.scale = scale
        found = shares(draw(model, plain_captions(unseen, count)), unseen)
        rows.append({"scale": scale, "studio": found["studio"], "top5": found["top5"]})
    model.unet.scale = 1.0
    return {name: [row[name] for row in rows] for name in rows[0]}


# --- one owl -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """How an object run trains: a word's vectors, a LoRA (rank), or the whole U-Net (rank 0).

    prior: whether it also goes on learning from birds that the model itself drew before.
    """

    word: bool = False
    rank: int = 0
    prior: bool = True
    lr: float = 1e-4

    @property
    def name(self) -> str:
        """What the owl is called in captions. Training never showed the word "owl"."""
        return "a <owl>" if self.word else "an owl bird"


THINGS = {
    "inversion": Thing(word=True, prior=False, lr=2e-2),
    "dreambooth": Thing(),
    "dreambooth, without prior": Thing(prior=False),
}


def run_thing(thing: Thing, seed: int) -> Outcome:
    """Learn the owl, and at some moments draw it, ask for it by other studios, and draw birds."""
    torch.manual_seed(seed)
    model = load_pipeline("emoji-latent")
    prior = prior_lessons(model, seed) if thing.prior else ()
    model, weights = learner(model, thing)
    rows, samples = [], []
    for step in chain(
        [0], train(model, weights, owl_lessons(model, thing), MOMENTS[-1], thing.lr, prior)
    ):
        if step in MOMENTS:
            measured, drawn = examined(model, thing)
            rows.append({"step": step} | measured)
            samples.append(drawn)
    last = {name: value for name, value in rows[-1].items() if name != "step"}
    return Outcome(
        settings={"steps": MOMENTS[-1], "pictures": 5, "rank": thing.rank},
        metrics={"KB": kilobytes(weights)} | last | forgetting(model),
        curve={name: [row[name] for row in rows] for name in rows[0]},
        samples=torch.stack(samples),
        captions=[asked(thing)] * len(samples),
    )


def learner(model: LatentDiffusion, thing: Thing) -> tuple[LatentDiffusion, list[Tensor]]:
    """The model that learns, and the weights that are trained."""
    if thing.word:
        model.unet.requires_grad_(False)
        clip = TextualInversion(model.clip, "<owl>", start="bird")
        known = replace(model, clip=clip, review=lambda caption: None)  # it would refuse the word
        return known, [clip.vectors]
    model = replace(model, unet=LoRA(model.unet, thing.rank) if thing.rank else model.unet)
    return model, trainable(model.unet)


def owl_lessons(model: LatentDiffusion, thing: Thing, batch: int = 8) -> Batches:
    """The five pictures again and again, each time with a caption in other words."""
    z = encoded(model, owls())
    said = cycle(say.format(what=thing.name, studio="Noto") for say in SAY_STYLE)
    while True:
        context = model.clip.context([*islice(said, batch)])
        yield z[torch.randint(len(z), (batch,))], context if thing.word else context.detach()


def prior_lessons(model: LatentDiffusion, seed: int, batch: int = 8) -> Batches:
    """Birds that the model draws before it learns anything, under the caption it drew them for."""
    captions = [f"a bird, {studio} style" for studio in COMMON] * 16
    z = encoded(model, draw(model, captions, first=1000 * (seed + 1)))
    context = model.clip.context(captions).detach()
    while True:
        chosen = torch.randint(len(z), (batch,))
        yield z[chosen], context[chosen]


def asked(thing: Thing) -> list[str]:
    """The captions of the samples: owls, and any birds."""
    birds = [f"a bird, {studio} style" for studio in COMMON]
    return [f"{thing.name}, {studio} style" for studio in ASKED] + birds


def examined(model: LatentDiffusion, thing: Thing, each: int = 16) -> tuple[dict, Tensor]:
    """Owls as the five pictures show them, owls in other styles, any birds, and other birds.

    The judge that has seen every picture reads them: it knows owls by four studios.
    """
    judge, other = EmojiJudge("emoji-judge-all"), ["Twemoji", "Fluent"] * (each // 2)
    same = draw(model, [f"{thing.name}, Noto style"] * each)
    new = draw(model, [f"{thing.name}, {studio} style" for studio in other])
    birds = draw(model, [f"a bird, {studio} style" for studio in islice(cycle(COMMON), each)])
    known = Emoji()
    known.examples = [(n, by) for n, by in known.examples if concepts()[n].subgroup == "birds"]
    verdicts = judge.judge(new, ["owl"] * each, other)
    metrics = {
        "owl": read_as_owl(judge, same),
        "distance": distance_to(same, owls()).mean().item(),
        "owl, new styles": read_as_owl(judge, new),
        "studio, new styles": sum(v["studio"] for v in verdicts) / each,
        "distance, new styles": distance_to(new, owls()).mean().item(),
        "birds read as owls": read_as_owl(judge, birds),
        "top5, other birds": shares(draw(model, plain_captions(known, 2 * each)), known)["top5"],
    }
    return metrics, torch.cat([same[:2], new[:2], birds[:3]])


def read_as_owl(judge: EmojiJudge, images: Tensor) -> float:
    """The share that the judge reads as an owl, before anything else."""
    seen = judge.read(images)
    return sum(each.known and each.concepts[0] == "owl" for each in seen) / len(seen)


# --- two at once ---------------------------------------------------------------------------------


def run_two(seed: int, each: int = 32) -> Outcome:
    """A LoRA of Blob's style and one of the owl, alone and added, asked for an owl by Blob."""
    torch.manual_seed(seed)
    model, style, thing = load_pipeline("emoji-latent"), STYLES["100 pictures"], Thing(rank=4)
    prior = prior_lessons(model, seed)
    owl, weights = learner(model, thing)
    for _ in train(owl, weights, owl_lessons(owl, thing), style.steps, 1e-3, prior):
        pass
    blob = replace(model, unet=style.network(model.unet))
    weights, batches = trainable(blob.unet), blobs(style.pictures, seed)
    for _ in train(blob, weights, lessons(blob, batches, style.steps), style.steps, style.lr):
        pass
    networks = {"owl": owl.unet, "Blob": blob.unet, "both": blob.unet + owl.unet}
    judge, metrics, samples = EmojiJudge("emoji-judge-all"), {}, []
    for name, network in networks.items():
        drawn = draw(replace(model, unet=network), ["an owl bird, Blob style"] * each)
        metrics[f"owl by {name}"] = read_as_owl(judge, drawn)
        hands = [seen.studio for seen in judge.read(drawn)]
        metrics[f"studio by {name}"] = hands.count("Blob") / each
        samples.append(drawn[:SHOWN])
    both = replace(model, unet=networks["both"])
    return Outcome(
        settings={"steps": style.steps, "pictures": style.pictures + 5, "rank": 8},
        metrics=metrics | forgetting(both),
        samples=torch.stack(samples),
        captions=[[name] * SHOWN for name in networks],
    )


# --- the study -----------------------------------------------------------------------------------

VARIANTS = [*STYLES, *THINGS, "two LoRAs"]


def run(variant: str, seed: int) -> Outcome:
    choose("variant", variant, dict.fromkeys(VARIANTS))
    if variant in STYLES:
        return run_style(STYLES[variant], seed)
    return run_thing(THINGS[variant], seed) if variant in THINGS else run_two(seed)


STUDY = Study("fine_tuning", VARIANTS, (0, 1, 2), run, threads=1)

if __name__ == "__main__":
    STUDY.main()
