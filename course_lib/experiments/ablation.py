"""What each part of the U-Net is worth: the digits, trained again without it.

    python -m course_lib.experiments.ablation            # trains what the record lacks

Every variant sees the same batches, times and noise in the same order, for the same number of
steps; only the network differs. `recorded/ablation.json` holds, for each variant and seed, the loss
on held-out digits, as a whole and by time, and how good its samples are. Chapter 04 draws it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import RECORDED
from course_lib.common.registry import choose
from course_lib.diffusion import Diffusion
from course_lib.evaluation.distances import frechet_distance
from course_lib.experiments.runs import natural, one_of
from course_lib.models import UNet
from course_lib.models.attention import Attention
from course_lib.models.layers import TimeEmbedding, zeroed
from course_lib.recipes.digits import (
    SIZE,
    SMALL,
    DigitsDDPM,
    diffusion_loss,
    draw,
    like_real,
)
from course_lib.training import Training
from course_lib.training.seeding import seeded

RECORD = RECORDED / "ablation.json"
STEPS, SEEDS = 500, (1, 2)
COUNT = 256  # samples that are judged, as many as there are held-out digits
BANDS = 10  # of time, for the loss by time


# ---- the variants ------------------------------------------------------------------------------


class PixelMLP(nn.Module):
    """A picture as one long vector through residual layers: it knows no neighbours.

    x (B, 1, size, size) -> the same shape; timestep (B,). As large as the U-Net beside it.
    """

    def __init__(self, size: int = SIZE, width: int = 288, blocks: int = 4, time_dim: int = 64):
        super().__init__()
        self.time_embedding = TimeEmbedding(time_dim, time_dim)
        self.proj_in = nn.Linear(size * size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.time_projs = nn.ModuleList(nn.Linear(time_dim, width) for _ in range(blocks))
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outer = nn.ModuleList(zeroed(nn.Linear(width, width)) for _ in range(blocks))
        self.proj_out = zeroed(nn.Linear(width, size * size))

    def forward(self, x: Tensor, timestep: Tensor, context: None = None) -> Tensor:
        temb = F.silu(self.time_embedding(timestep))  # (B, time_dim)
        h = self.proj_in(x.flatten(1))  # (B, width)
        for norm, time_proj, inner, outer in zip(
            self.norms, self.time_projs, self.inner, self.outer, strict=True
        ):
            h = h + outer(F.silu(inner(norm(h)) + time_proj(temb)))
        return self.proj_out(h).view_as(x)


class Timeless(UNet):
    """The U-Net told that it is always step 0: as large as before, and blind to the time."""

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, torch.zeros_like(timestep), context)


def silence(block: nn.Module, inputs: tuple) -> None:
    """Before a block on the way up: whatever was kept on the way down becomes zeros."""
    skips = inputs[3]
    skips[:] = [torch.zeros_like(skip) for skip in skips]


def skipless(**keywords) -> UNet:
    """The U-Net whose skips carry zeros: as large as before, but all must pass the bottom."""
    unet = UNet(**keywords)
    for block in unet.up_blocks:
        block.register_forward_pre_hook(silence)
    return unet


def nothing(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """After an attention layer: zeros, so that a place keeps what it has and learns of no other."""
    return 0 * output


def inattentive(**keywords) -> UNet:
    """The U-Net whose attention answers zeros: as large as before, with its feed-forward layers."""
    unet = UNet(**keywords)
    for layer in unet.modules():
        if isinstance(layer, Attention):
            layer.register_forward_hook(nothing)
    return unet


VARIANTS: dict[str, Callable[..., nn.Module]] = {  # keywords of UNet -> a network
    "full": UNet,
    "no time": Timeless,
    "no skips": skipless,
    "no attention": inattentive,
    "FiLM": lambda **keywords: UNet(**keywords, film=True),
    "MLP": lambda **keywords: PixelMLP(),
}


# ---- training and judging them -----------------------------------------------------------------


class Ablation(DigitsDDPM):
    """`digits-ddpm` with another network."""

    def __init__(self, variant: str):
        super().__init__()
        self.variant, self.build = variant, choose("variant", variant, VARIANTS)

    def model(self) -> nn.Module:
        return self.build(**SMALL)


@torch.no_grad()
def loss_by_time(
    process: Diffusion, network: nn.Module, images: Tensor, bands: int = BANDS, repeats: int = 4
) -> list[float]:
    """The loss on these images in equal bands of time, first to last, with fixed noise."""
    means, device = [], next(network.parameters()).device
    with seeded(0, 0, device):
        for band in range(bands):
            x0 = images.repeat(repeats, 1, 1, 1).to(device)
            t = (band + 1 - torch.rand(len(x0), dtype=torch.float64)) / bands
            t = process.schedule.snap(t, torch.ceil)
            means.append(process.errors(network, x0, None, t).mean().item())
    return means


def pooled(images: Tensor) -> Tensor:
    """Digits at the size they were stored in, as features: (B, 1, 16, 16) -> (B, 64)."""
    return F.avg_pool2d(images, 2).flatten(1)


def judge(recipe: DigitsDDPM, network: nn.Module, count: int = COUNT) -> dict:
    """What is recorded of a trained network."""
    samples = draw(recipe.process, network, range(count), "cpu")
    return {
        "test_loss": diffusion_loss(recipe.process, network, recipe.test_images),
        "by_time": loss_by_time(recipe.process, network, recipe.test_images),
        "like_real": like_real(samples, recipe),
        "distance": frechet_distance(pooled(samples), pooled(recipe.test_images)),
    }


def trained(variant: str, seed: int, steps: int = STEPS) -> tuple[Ablation, Training]:
    recipe = Ablation(variant)
    folder = Path("outputs") / "ablation" / variant.replace(" ", "-") / f"seed-{seed}"
    run = recipe.begin(steps=steps, seed=seed, device="cpu", folder=folder)
    for step in run:
        if step.index % 100 == 0:
            print(f"{variant}, seed {seed}: step {step.index}, loss {step.loss:.4f}", flush=True)
    return recipe, run


def add(record: dict, variant: str, seed: int) -> None:
    """Train that variant and put what came of it into the record."""
    recipe, run = trained(variant, seed)
    record.setdefault("floor", floor(recipe))
    record.setdefault("hardware", run.card["hardware"])
    entry = record["variants"].setdefault(variant, {"parameters": parameters(run.ema), "runs": {}})
    entry["runs"][str(seed)] = rounded(judge(recipe, run.ema))


def floor(recipe: DigitsDDPM) -> dict[str, float]:
    """What real digits score: training digits, as many as samples are judged, are taken as such."""
    chosen = torch.randperm(len(recipe.images), generator=torch.Generator().manual_seed(0))[:COUNT]
    real = pooled(recipe.images[chosen])
    return {"distance": round(frechet_distance(real, pooled(recipe.test_images)), 3)}


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def rounded(facts: dict) -> dict:
    """Five significant digits: what is recorded is not known any better."""
    return {
        name: [float(f"{each:.5g}") for each in value]
        if isinstance(value, list)
        else float(f"{value:.5g}")
        for name, value in facts.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Train every variant with every seed that the record lacks; written after each."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.experiments.ablation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("variants", nargs="*", type=one_of("variant", VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=natural, default=list(SEEDS))
    given = parser.parse_args(arguments)
    make_folder(RECORD.parent)
    new = {"command": "python -m course_lib.experiments.ablation", "steps": STEPS, "variants": {}}
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else new
    for seed in given.seeds:
        for variant in given.variants or VARIANTS:
            if str(seed) not in record["variants"].get(variant, {}).get("runs", {}):
                add(record, variant, seed)
                text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
                write_files({RECORD: text.encode()})


if __name__ == "__main__":
    main()
