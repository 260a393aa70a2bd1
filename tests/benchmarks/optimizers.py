"""Muon against AdamW on the scenes' autoencoder: python tests/benchmarks/optimizers.py [STEPS]

Each gets the same initial weights, the same pictures, the same number of steps and the best of
three learning rates. Prints decibels on held-out scenes, and the ratio of the times per step.
"""

import argparse

from course_lib.evaluation.metrics import find
from course_lib.recipes import RECIPES
from course_lib.training import Optimizer

parser = argparse.ArgumentParser(prog="optimizers.py", description=__doc__.split("\n")[0])
parser.add_argument("steps", nargs="?", type=int, default=300)
STEPS = parser.parse_args().steps


def run(optimizer: str, lr: float) -> tuple[float, float]:
    """(PSNR in dB, seconds) of a short training."""
    recipe = RECIPES["scenes-vae"]()
    training = recipe.begin(steps=STEPS, optimizer=Optimizer(optimizer, lr=lr))
    for _ in training:
        pass
    return find(recipe.measure(training.ema, 300), "psnr").value, training.seconds


best = {}
for optimizer in ("adamw", "muon"):
    tried = {lr: run(optimizer, lr) for lr in (1e-3, 2e-3, 4e-3)}
    for lr, (psnr, seconds) in tried.items():
        print(f"{optimizer:6} lr={lr:g}: {psnr:.2f} dB after {STEPS} steps, {seconds:.0f} s")
    best[optimizer] = max(tried.values())
gain = best["muon"][0] - best["adamw"][0]
print(f"Muon is {gain:+.2f} dB ahead, at {best['muon'][1] / best['adamw'][1]:.2f} times the time")
