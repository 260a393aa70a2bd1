"""Numbers in the prose that no cell prints: python tests/benchmarks/chapter_numbers.py

    05   the loss of digits-vae at step 250, for eight seeds
    06   linear probes of the first colour, the second colour and the relation, and combined
    08   the cost of sampling in 30 steps; the distance between the two predictions at each time

Definitions that are in a chapter are taken from its cells.
"""

import json

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.paths import ROOT
from course_lib.datasets.scenes import Scenes
from course_lib.datasets.scenes.captions import write
from course_lib.datasets.scenes.grammar import COLOURS
from course_lib.diffusion import sample
from course_lib.models import CLIP
from course_lib.recipes import RECIPES
from course_lib.teaching.reference_runs import smooth

matplotlib.use("Agg")


def cells(chapter: str) -> dict[str, str]:
    """The code cells of a chapter, by id."""
    (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
    notebook = json.loads(path.read_text("utf-8"))
    return {c["id"]: "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"}


def chapter_05() -> None:
    reached = []
    for seed in range(8):
        run = RECIPES["digits-vae"]().begin(device="cpu", seed=seed)
        reached += smooth([run.advance().loss for _ in range(250)], [250])
    print("smoothed loss at step 250, seeds 0 to 7:", [round(loss, 2) for loss in reached])
    print(f"mean {np.mean(reached):.2f}, standard deviation {np.std(reached, ddof=1):.2f}")


def chapter_06() -> None:
    clip = load_checkpoint(CLIP, "scenes-clip").requires_grad_(False)
    side = Scenes(64, "train", "pair", seed=5, unsaid=0.0)
    scenes = (side.scene(i)[0] for i in range(4000))
    asked = [
        scene
        for scene in scenes
        if scene.relation in ("left of", "right of")
        and scene.objects[0].colour != scene.objects[1].colour
    ][:900]
    rng = np.random.default_rng(0)
    said, colours = [write(scene, rng) for scene in asked], list(COLOURS)
    first, second = (
        torch.tensor([colours.index(scene.objects[n].colour) for scene in asked]) for n in (0, 1)
    )
    relation = torch.tensor([int(scene.relation == "right of") for scene in asked])
    left = torch.where(relation == 1, second, first)

    def probe(x: torch.Tensor, y: torch.Tensor, train: int = 600) -> torch.Tensor:
        x = x.flatten(1).double()
        x = (x - x[:train].mean(0)) / (x[:train].std(0) + 1e-6)
        target = F.one_hot(y, 8).double()
        mean, kernel = target[:train].mean(0), x[:train] @ x[:train].T + torch.eye(train)
        fitted = x[:train].T @ torch.linalg.solve(kernel, target[:train] - mean)
        return (x[train:] @ fitted + mean).argmax(1)

    for name, x in (("context", clip.context(said)), ("one vector", clip.embed_text(said))):
        found = {
            "first": probe(x, first),
            "second": probe(x, second),
            "relation": probe(x, relation),
            "left, directly": probe(x, left),
        }
        found["left, combined"] = torch.where(
            found["relation"] == 1, found["second"], found["first"]
        )
        truth = dict(zip(found, (first, second, relation, left, left), strict=True))
        shares = {k: (v == truth[k][600:]).double().mean().item() for k, v in found.items()}
        print(name, ", ".join(f"{k} {share:.1%}" for k, share in shares.items()))


def chapter_08() -> None:
    code, scope = cells("08"), {}
    exec(code["set-up"], scope)
    scope |= {"process": RECIPES["digits-classes"]().process, "sample": sample}
    exec(code["ring"].split("points = ")[0], scope)
    exec(code["measures"].split("scales = ")[0], scope)
    ring, right, process = scope["ring"], scope["right"], scope["process"]
    generator = torch.Generator().manual_seed(0)
    print("class 0's own points:", scope["measures"](right.sample(20_000, generator)))
    for steps in (30, 300):
        print(f"{steps} steps:", scope["measures"](scope["draw_points"](ring, 4000, steps)))
    for t in (0.9, 0.15):
        eps = torch.randn(500, 2, generator=generator)
        xt = process.add_noise(right.sample(500, generator), torch.full((500,), t).double(), eps)
        label = torch.zeros(500, dtype=torch.long)
        both = [ring(xt, process.timestep(t, xt), label + n) for n in (0, 2)]
        clean = [process.x0_and_eps(prediction, xt, t)[0] for prediction in both]
        for name, (one, other) in (("eps", both), ("x0", clean)):
            print(f"t = {t}, {name} differ by {(one - other).norm(dim=1).mean():.3f}")


for chapter in (chapter_05, chapter_06, chapter_08):
    print(chapter.__name__.replace("_", " "))
    chapter()
