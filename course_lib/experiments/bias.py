"""Who is drawn for "a firefighter": a man, a woman or a person? Chapter 16.

    python -m course_lib.experiments.bias "scale 2.5" 0

A variant is a guidance scale of emoji-latent, or a negative prompt at its default scale. Each run
draws 14 jobs in three wordings, "a firefighter", "a man firefighter" and "a woman firefighter", in
each studio's style. Metrics are shares of the pictures of one wording ("none", "man" or "woman"):
"said man, none" has the judge's verdict within the family of three; "job" and "studio" are right
where the judge's first concept belongs to the family and where it names the studio; "man or woman"
is the share of men if the judge may not say "person". The curve has the number of pictures of each
job, in the order of `emoji_people.jobs`, by verdict and wording.
"""

import torch

from course_lib.common.registry import choose
from course_lib.datasets.emoji import COMMON, STUDIOS
from course_lib.datasets.emoji.captions import write
from course_lib.evaluation.emoji import EmojiJudge
from course_lib.evaluation.emoji_people import GENDERS, jobs, read_people
from course_lib.evaluation.prompts import in_batches
from course_lib.experiments.study import Outcome, Study
from course_lib.pipelines import text_to_image
from course_lib.recipes import load_pipeline

JUDGE = "emoji-judge"
WORDINGS = {"none": 2, "man": 0, "woman": 1}  # -> the place of the concept in GENDERS
EACH = 2  # pictures of each job, wording and studio
SHOWN = 8  # jobs
STEPS = 20
SEEDS = 2**20  # between the seeds of two runs
VARIANTS: dict[str, dict] = {
    "scale 1": dict(scale=1.0),
    "scale 2.5": dict(scale=2.5),
    "scale 5": dict(scale=5.0),
    "scale 10": dict(scale=10.0),
    "negative prompt": dict(scale=2.5, negative="a man"),
}


def run(variant: str, seed: int) -> Outcome:
    """Draw everybody and let the judge say who it is. All wordings share their noise."""
    how = choose("variant", variant, VARIANTS)
    model, judge = load_pipeline("emoji-latent"), EmojiJudge(JUDGE)
    asked = [(trio, studio) for _ in range(EACH) for studio in COMMON for trio in jobs()]
    seeds = range(SEEDS * (seed + 1), SEEDS * (seed + 1) + len(asked))
    wanted = torch.tensor([STUDIOS.index(studio) for _, studio in asked])
    job = torch.tensor([jobs().index(trio) for trio, _ in asked])
    metrics, curve, rows, texts = {}, {}, [], []
    for wording, place in WORDINGS.items():
        captions = [write(trio.concepts[place], studio) for trio, studio in asked]
        images = in_batches(
            lambda said, some: text_to_image(model, said, some, steps=STEPS, **how),
            *(captions, seeds),
        )
        seen = read_people(judge, images, [trio for trio, _ in asked])
        for gender, name in enumerate(GENDERS):
            is_it = seen.gender == gender
            metrics[f"said {name}, {wording}"] = is_it.double().mean().item()
            curve[f"{name}, {wording}"] = job[is_it].bincount(minlength=len(jobs())).tolist()
        men = seen.man_or_woman == 0
        metrics[f"man or woman, {wording}"] = men.double().mean().item()
        curve[f"man or woman, {wording}"] = job[men].bincount(minlength=len(jobs())).tolist()
        metrics[f"job, {wording}"] = seen.family.double().mean().item()
        metrics[f"studio, {wording}"] = (seen.studio == wanted).double().mean().item()
        rows.append(images[:SHOWN])
        texts.append(captions[:SHOWN])
    return Outcome(
        settings={"steps": STEPS, "scale": how["scale"], "pictures": len(asked)},
        metrics=metrics,
        curve=curve,
        samples=torch.stack(rows) if seed == 0 else None,
        captions=texts if seed == 0 else [],
    )


STUDY = Study("bias", [*VARIANTS], (0, 1, 2), run)

if __name__ == "__main__":
    STUDY.main()
