"""What making pictures to order costs, and how often it works: chapter 12.

    python -m course_lib.experiments.making "style transfer" 0

A variant is one technique. Each run draws its own examples. The curve has a row for each picture,
with numbers and verdicts (1 or 0) named "measure, method"; the metrics are the columns' means.
The scenes are judged by the prompt oracle, the emoji by "emoji-judge", which has never seen a
held-out drawing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.registry import choose
from course_lib.datasets.emoji import COMMON, Concept, Emoji, concepts, picture, split_of
from course_lib.datasets.emoji.captions import write as emoji_caption
from course_lib.datasets.scenes import random_scene
from course_lib.datasets.scenes.captions import write
from course_lib.datasets.scenes.dataset import place_objects, render
from course_lib.datasets.scenes.grammar import Scene
from course_lib.diffusion import initial_noise, invert, sample
from course_lib.diffusion.noise import generators
from course_lib.evaluation.detection import place_of
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.oracle import PromptOracle
from course_lib.experiments.study import Outcome, Study
from course_lib.pipelines import (
    anagram,
    constrained,
    image_to_image,
    inpaint,
    prompt_to_prompt,
    text_to_image,
)
from course_lib.pipelines.text_to_image import LatentDiffusion, prepare
from course_lib.recipes import load_pipeline
from course_lib.teaching.briefs import CONDITIONS, ORDER, Brief, kept
from course_lib.teaching.interventions import other_colour

Columns = dict[str, list[float]]
STEPS = 20
STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STYLE_STRENGTHS = (0.3, 0.5, 0.7, 0.85)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN = 4  # examples whose pictures are kept


def rms(a: Tensor, b: Tensor) -> list[float]:
    """Root-mean-square difference at half the size, for each pair of pictures."""
    a, b = (F.avg_pool2d(each.cpu(), 2) for each in (a, b))
    return (a - b).square().mean((1, 2, 3)).sqrt().tolist()


def floats(verdicts: Sequence) -> list[float]:
    return [float(bool(verdict)) for verdict in verdicts]


def outcome(columns: Columns, rows: dict[str, Tensor], count: int) -> Outcome:
    """The outcome with the columns' means, and a row of pictures for each of the first examples."""
    return Outcome(
        settings={"steps": STEPS, "examples": count},
        metrics={name: sum(values) / len(values) for name, values in columns.items()},
        curve=columns,
        samples=torch.stack([each[:SHOWN].cpu() for each in rows.values()], 1),
        captions=[list(rows)] * min(SHOWN, count),
    )


# --- scenes ----------------------------------------------------------------------------------


def scenes_of(count: int, seed: int, kind: str, wanted: Callable[[Scene], bool]) -> list[Scene]:
    rng, found = np.random.default_rng([12, seed]), []
    while len(found) < count:
        scene = random_scene(rng, kind)
        found += [scene] if wanted(scene) else []
    return found


def rendered(scenes: Sequence[Scene], seed: int) -> Tensor:
    rng = np.random.default_rng([13, seed])
    places = [place_objects(scene, rng) for scene in scenes]
    return render(scenes, *zip(*places, strict=True))


def at_place(images: Tensor, places: Sequence[str | None]) -> list[float]:
    """Whether the one object of each picture is in that place."""
    seen = [each.detections for each in PromptOracle().detect(images)]
    pairs = zip(seen, places, strict=True)
    return floats(len(s) == 1 and place_of(s[0]) == place for s, place in pairs)


def right(images: Tensor, captions: Sequence[str]) -> list[float]:
    return floats(verdict["all"] for verdict in PromptOracle().judge(images, captions))


def strength(seed: int, count: int = 32) -> Outcome:
    """A drawn object, and a caption that asks for another colour and doesn't say where."""
    model = load_pipeline("scenes-latent")
    sources = scenes_of(count, seed, "single", lambda scene: scene.place is not None)
    rng = np.random.default_rng([14, seed])
    captions = [write(replace(other_colour(scene, rng), place=None)) for scene in sources]
    images = rendered(sources, seed)
    rows, columns = {"source": images}, {}
    for value in STRENGTHS:
        drawn = image_to_image(model, images, captions, range(count), strength=value, steps=STEPS)
        rows[f"{value:g}"] = drawn
        columns[f"right, {value:g}"] = right(drawn, captions)
        columns[f"place, {value:g}"] = at_place(drawn, [scene.place for scene in sources])
        columns[f"distance, {value:g}"] = rms(drawn, images)
    return outcome(columns, rows, count)


def prompts(seed: int, count: int = 24) -> Outcome:
    """Another colour in the caption, whose place isn't said: does the object stay where it was?"""
    model = load_pipeline("scenes-latent")
    scenes = scenes_of(count, seed, "single", lambda scene: scene.place is None)
    rng = np.random.default_rng([14, seed])
    before = [write(scene) for scene in scenes]
    after = [write(other_colour(scene, rng)) for scene in scenes]
    rows, columns = {}, {}
    for share in SHARES:
        first, drawn = prompt_to_prompt(model, before, after, range(count), share=share)
        sights = PromptOracle().detect(first)
        places = [place_of(s.detections[0]) if len(s.detections) == 1 else "none" for s in sights]
        rows |= {"before": first, f"{share:g}": drawn}
        columns[f"right, {share:g}"] = right(drawn, after)
        columns[f"place, {share:g}"] = at_place(drawn, places)
        columns[f"distance, {share:g}"] = rms(first, drawn)
    return outcome(columns, rows, count)


def halves(seed: int, count: int = 32) -> Outcome:
    """The right half of an object in the centre is painted again: does it fit the left one?"""
    model = load_pipeline("scenes-latent")
    scenes = scenes_of(count, seed, "single", lambda scene: scene.place == "centre")
    captions, images = [write(scene) for scene in scenes], rendered(scenes, seed)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    rows, columns = {"source": images}, {}
    for name, said in (("no caption", [""] * count), ("caption", captions)):
        drawn = inpaint(model, images, mask, said, range(count), steps=STEPS)
        rows[name], columns[f"right, {name}"] = drawn, right(drawn, captions)
    drawn = text_to_image(model, captions, range(count), steps=STEPS)
    rows["caption alone"] = drawn
    columns["right, caption alone"] = right(drawn, captions)
    columns["right, source"] = right(images, captions)
    return outcome(columns, rows, count)


def advertising(seed: int, count: int = 24) -> Outcome:
    """Variations of one brief, with more and more of its conditions enforced."""
    model, brief = load_pipeline("scenes-latent"), Brief()
    captions = brief.variations(count, seed)
    rows, columns = {}, {}
    for name, parts in ORDER.items():
        if parts:
            project = brief.projection(parts)
            drawn = constrained(model, captions, project, range(count), steps=STEPS)
        else:
            drawn = text_to_image(model, captions, range(count), steps=STEPS)
        rows[name] = drawn
        for condition in CONDITIONS:
            columns[f"{condition}, {name}"] = floats(kept(condition, drawn, captions, brief))
        every = zip(*(columns[f"{condition}, {name}"] for condition in CONDITIONS), strict=True)
        columns[f"all, {name}"] = [min(each) for each in every]
    return outcome(columns, rows, count)


# --- emoji -----------------------------------------------------------------------------------


def judged(columns: Columns, method: str, images: Tensor, names, studios) -> None:
    verdicts = EmojiJudge().judge(images.cpu(), names, studios)
    for key in ("top5", "studio", "known"):
        columns[f"{key}, {method}"] = floats(verdict[key] for verdict in verdicts)


def style(seed: int, count: int = 36) -> Outcome:
    """Another studio's drawing, redrawn as the target studio, whose own drawing nobody trained on.

    The distances are those from the target studio's real drawing.
    """
    model, data = load_pipeline("emoji-latent"), Emoji(split="new pairs")
    rng = np.random.default_rng([12, seed])
    targets = [data.example(i) for i in range(seed * count, (seed + 1) * count)]
    names, studios = [concept.name for concept, _ in targets], [studio for _, studio in targets]
    origins = [str(rng.choice([s for s in COMMON if s != studio])) for studio in studios]
    real, source = (
        torch.stack([picture(*each) for each in zip(names, by, strict=True)])
        for by in (studios, origins)
    )
    known = {s: Emoji(studios=[s]) for s in COMMON}
    unrelated = torch.cat([known[s].batch([int(rng.integers(1000))])[0] for s in studios])
    captions = [emoji_caption(*target) for target in targets]
    said = [emoji_caption(c, by) for (c, _), by in zip(targets, origins, strict=True)]
    rows = {"real": real, "source": source, "unrelated": unrelated}
    for value in STYLE_STRENGTHS:
        rows[f"{value:g}"] = image_to_image(
            model, source, captions, range(count), strength=value, steps=STEPS
        )
    rows["caption alone"] = text_to_image(model, captions, range(count), steps=STEPS)
    rows["inverted"] = redrawn(model, source, said, captions)
    columns = {}
    for name, images in rows.items():
        columns[f"distance, {name}"] = rms(images, real)
        columns[f"from source, {name}"] = rms(images, source)
        judged(columns, name, images, names, studios)
    return outcome(columns, rows, count)


@torch.no_grad()
def redrawn(model: LatentDiffusion, images: Tensor, said: Sequence[str], captions: Sequence[str]):
    """From the noise that DDIM, with the caption `said`, would have drawn each image from."""
    z = model.vae.encode(images)
    noise = invert(model.process, model.unet, z, model.clip.context(said), STEPS)
    network, context, _ = prepare(model, captions, None, None, "")
    z = sample(model.process, network, noise, context, STEPS, sampler="ddim")
    return model.vae.decode(z).clamp(-1, 1)


def pool(studio: str) -> list[Concept]:
    """Concepts with much character, whose drawing by that studio the model was trained on."""
    groups = "animals & nature", "food & drink", "smileys & emotion"
    return [c for c in concepts() if c.group in groups and split_of(c, studio) == "train"]


@torch.no_grad()
def drawn_from(model: LatentDiffusion, noise: Tensor, context: Tensor) -> Tensor:
    """Pictures of that noise and that context, by DDIM, which adds no other noise."""
    network, _, _ = prepare(model, [""] * len(noise), None, None, "")
    z = sample(model.process, network, noise, context, STEPS, sampler="ddim")
    return model.vae.decode(z).clamp(-1, 1)


def boards(seed: int, count: int = 24) -> Outcome:
    """Half-way between two noises and on the way between two captions."""
    model, rng = load_pipeline("emoji-latent"), np.random.default_rng([12, seed])
    chosen = rng.permutation(pool("Fluent"))[: 2 * count]
    first, second = chosen[:count], chosen[count:]
    a, b = (model.clip.context([emoji_caption(c, "Fluent") for c in each]) for each in
            (first, second))  # fmt: skip
    start = initial_noise(generators(range(count)), model.latent)
    end = initial_noise(generators(range(1000, 1000 + count)), model.latent)
    names, other = [c.name for c in first], [c.name for c in second]
    studios, rows, columns = ["Fluent"] * count, {}, {}
    for name, noise in (
        ("noise 0", start),
        ("straight", (start + end) / 2),
        ("on the sphere", (start + end) / 2**0.5),
    ):
        rows[name] = drawn_from(model, noise, a)
        judged(columns, name, rows[name], names, studios)
    for w in WEIGHTS:
        images = drawn_from(model, start, (1 - w) * a + w * b)
        rows[f"text {w:g}"] = images
        judged(columns, f"text {w:g}", images, names, studios)
        verdicts = EmojiJudge().judge(images, other, studios)
        columns[f"other, text {w:g}"] = floats(verdict["top5"] for verdict in verdicts)
    return outcome(columns, rows, count)


# --- anagrams --------------------------------------------------------------------------------


def turned_latents(model, upright: Sequence[str], turned: Sequence[str]) -> Tensor:
    """What goes wrong in latents: their grid is turned, and not what its numbers mean."""
    count = len(upright)
    network, context, draws = prepare(model, [*upright, *turned], None, None, "")
    noise = initial_noise(draws[:count], model.latent)
    noise = torch.cat([noise, torch.rot90(noise, 2, (2, 3))])

    def together(x0: Tensor) -> Tensor:
        mean = (x0[:count] + torch.rot90(x0[count:], 2, (2, 3))) / 2
        return torch.cat([mean, torch.rot90(mean, 2, (2, 3))])

    with torch.no_grad():
        z = sample(model.process, network, noise, context, STEPS, sampler="ddim", clip=together)
        return model.vae.decode(z[:count]).clamp(-1, 1)


def turnings(model, upright: Sequence[str], turned: Sequence[str]) -> dict[str, Tensor]:
    """The anagrams, and three simpler ways."""
    seeds = range(len(upright))
    first = text_to_image(model, upright, seeds, steps=STEPS)
    second = text_to_image(model, turned, [seed + 500 for seed in seeds], steps=STEPS)
    return {
        "anagram": anagram(model, {0: upright, 2: turned}, seeds, steps=STEPS),
        "turned latents": turned_latents(model, upright, turned),
        "overlaid": (first + torch.rot90(second, 2, (2, 3))) / 2,
        "one caption": first,
    }


FACES = "smiling", "concerned", "neutral / skeptical", "affectionate", "unwell", "sleepy"


def emoji_anagrams(seed: int, count: int = 24) -> Outcome:
    """One of Noto's emoji upright, another one upside down: two faces, or any two of the pool."""
    model, rng = load_pipeline("emoji-latent"), np.random.default_rng([12, seed])
    faces = [c for c in pool("Noto") if c.subgroup in FACES]
    chosen = [*rng.permutation(faces)[:count], *rng.permutation(pool("Noto"))[:count]]
    both = chosen[0::2], chosen[1::2]
    rows = turnings(model, *([emoji_caption(c, "Noto") for c in cs] for cs in both))
    columns = {"faces": [1.0] * (count // 2) + [0.0] * (count // 2)}
    for name, images in rows.items():
        views = images, torch.rot90(images, 2, (2, 3))
        found = [
            EmojiJudge().judge(view, [c.name for c in cs], ["Noto"] * count)
            for view, cs in zip(views, both, strict=True)
        ]
        for key in ("top1", "top5"):
            up, down = (floats(v[key] for v in each) for each in found)
            columns |= {f"{key} upright, {name}": up, f"{key} turned, {name}": down}
            columns[f"{key} both, {name}"] = [a * b for a, b in zip(up, down, strict=True)]
    return outcome(columns, rows, count)


def scene_anagrams(seed: int, count: int = 24) -> Outcome:
    """Upright the caption says what and where, upside down only the background: such pictures
    exist, and nobody knows all of it."""
    model = load_pipeline("scenes-latent")
    scenes = scenes_of(
        *(count, seed, "single"),
        lambda scene: scene.place is not None and scene.objects[0].shape != "triangle",
    )
    whole = [write(scene) for scene in scenes]
    upright = [write(replace(scene, background=None)) for scene in scenes]
    things = [replace(scene.objects[0], colour=None, size=None) for scene in scenes]
    turned = [
        write(replace(scene, objects=(thing,), place=None))
        for scene, thing in zip(scenes, things, strict=True)
    ]
    rows, columns = turnings(model, upright, turned), {}
    for name, images in rows.items():
        columns[f"upright, {name}"] = right(images, upright)
        columns[f"turned, {name}"] = right(torch.rot90(images, 2, (2, 3)), turned)
        columns[f"both, {name}"] = right(images, whole)
    return outcome(columns, rows, count)


TECHNIQUES = {
    "strength": strength,
    "halves": halves,
    "prompt to prompt": prompts,
    "style transfer": style,
    "boards": boards,
    "emoji anagrams": emoji_anagrams,
    "scene anagrams": scene_anagrams,
    "advertising": advertising,
}


def run(variant: str, seed: int) -> Outcome:
    """Draw and judge that seed's examples of one technique; the first seed keeps some pictures."""
    made = choose("technique", variant, TECHNIQUES)(seed)
    return made if seed == 0 else replace(made, samples=None, captions=[])


STUDY = Study("making", list(TECHNIQUES), (0, 1, 2), run)

if __name__ == "__main__":
    STUDY.main()
