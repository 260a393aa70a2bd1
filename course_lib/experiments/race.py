"""Quality against training time, in latents and in pixels: `python -m course_lib.experiments.race`.

Trains `scenes-latent` and `scenes-pixel` as their recipes say and stops now and then to let the
oracle judge pictures of held-out captions, drawn with the averaged weights. Chapter 09 draws what
comes out, `recorded/race.json`; making it anew takes as long as both trainings. Several processes
can share `scenes-latent`: `torchrun --standalone --nproc-per-node=2 -m` for `python -m`. Afterwards
`course train NAME --device cpu --folder outputs/race/NAME --publish` finds a complete training and
publishes it.
"""

import argparse
import json
from pathlib import Path

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import RECORDED
from course_lib.common.registry import choose
from course_lib.experiments.runs import one_of
from course_lib.recipes import RECIPES

RECORD = RECORDED / "race.json"
EVERY = 750  # steps
COUNT = 32  # captions of each kind and split, 192 in all: a share of 0.5 is known to ± 0.07


def race(name: str) -> list[dict[str, float]]:
    """Train that recipe; at each look the CPU minutes so far and the share of right pictures."""
    recipe = choose("recipe", name, RECIPES)()
    run = recipe.begin(folder=Path("outputs") / "race" / name, device="cpu")
    kept = run.folder.path / "looks.json"
    looks = json.loads(kept.read_text()) if kept.exists() else []
    looks = [each for each in looks if each["step"] <= run.done]  # the training may be killed

    def look_if_due() -> None:
        due = run.done and (run.done % EVERY == 0 or run.done == run.steps)
        if run.is_main and due and all(each["step"] != run.done for each in looks):
            looks.append(look(recipe, run.ema, run.done, run.cpu_seconds))
            print(name, looks[-1], flush=True)
            write_files({kept: json.dumps(looks).encode()})

    look_if_due()  # it may have been killed in the middle of one
    for _ in run:
        look_if_due()
    run.close()
    return looks if run.is_main else []


def look(recipe, network, step: int, cpu_seconds: float) -> dict[str, float]:
    right = recipe.score(network, COUNT)
    return {"step": step, "cpu_minutes": round(cpu_seconds / 60, 2), "right": round(right, 4)}


def main(arguments: list[str] | None = None) -> None:
    """Race the recipes named, and put their looks into the record beside what it holds."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.experiments.race")
    rivals = ["scenes-latent", "scenes-pixel"]
    parser.add_argument("names", nargs="*", type=one_of("recipe", rivals), default=rivals)
    names = parser.parse_args(arguments).names
    make_folder(RECORD.parent)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in names:
        if looks := race(name):  # only the leading process has any
            record[name] = looks
            write_files({RECORD: (json.dumps(record, indent=1) + "\n").encode()})


if __name__ == "__main__":
    main()
