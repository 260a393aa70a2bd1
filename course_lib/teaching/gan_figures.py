"""Figures of chapter 17 that need no results: a GAN's parts, and Dirac's GAN."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.teaching.schematics import Schematic
from course_lib.teaching.shapes import Sheet, times
from course_lib.teaching.style import BLUE, GREEN, GREY, INK, ORANGE, PINK, canvas, styled


@styled
def gan_schematic(latent: int, image: Sequence[int]) -> Schematic:
    """Generator and discriminator, with their two losses. image: the shape of a sample."""
    sheet, y, real_y = Sheet(9.6, 2.75), 0.95, 2.05
    z = sheet.tokens(0.75, y, 4, PINK, cell=0.2, upright=True)
    sheet.label(z.x, z.bottom[1] - 0.07, f"noise z\n{latent} numbers", va="top")
    generate = sheet.funnel(2.2, y, 1.4, (0.7, 1.3), "generator G", GREEN)
    fake = sheet.feature_map(3.85, y, f"sample G(z)\n{times(image)}", side=0.42)
    real = sheet.feature_map(3.85, real_y, "real x", GREY, side=0.42)
    judge = sheet.funnel(5.75, 1.5, 1.5, (1.3, 0.7), "discriminator", ORANGE, "D = sigmoid(logit)")
    losses = (
        sheet.box(8.3, real_y, 1.9, 0.6, "loss of D", ORANGE, "real or generated?", dashed=True),
        sheet.box(8.3, y, 1.9, 0.6, "loss of G", GREEN, "was D fooled?", dashed=True),
    )
    sheet.arrow(z.right, generate.left)
    sheet.arrow(generate.right, fake.left)
    enter, leave = judge.left[0] - 0.3, judge.right[0] + 0.25
    for source in (real, fake):
        sheet.arrow(source.right, (enter, source.y), (enter, judge.y), judge.left)
    for loss in losses:
        sheet.arrow(judge.right, (leave, judge.y), (leave, loss.y), loss.left, line="dashed")
    low = 0.22
    sheet.arrow(losses[1].bottom, (8.3, low), (generate.x, low), generate.bottom, line="dashed")
    sheet.label(6.3, low + 0.12, "its gradient passes through D, and changes G only")
    alt = (
        f"Noise of {latent} numbers enters the generator, which widens to a sample of "
        f"{times(image)}. The sample and a real one enter the discriminator in turn. Dashed, in "
        "training only: the discriminator's loss asks whether it told real from generated, the "
        "generator's loss asks whether the discriminator was fooled, and goes back to the "
        "generator."
    )
    return sheet.figure, alt


def dirac_path(r1: float, lr: float = 0.1, steps: int = 400, loss: str = "minimax") -> Tensor:
    """The points (theta, psi) of Dirac's GAN under simultaneous gradient descent: (steps + 1, 2).

    The data are at 0, the generator is the point theta, and the logit is psi · x (Mescheder et al.
    2018, section 2). r1: the factor of the penalty; loss: "minimax" or "non-saturating".

    >>> dirac_path(r1=1.0)[-1].norm() < 1e-3 < 1 < dirac_path(r1=0.0)[-1].norm()
    tensor(True)
    """
    theta, psi = torch.tensor(1.0), torch.tensor(0.0)
    path = [torch.stack([theta, psi])]
    for _ in range(steps):
        fooled = torch.sigmoid(theta * psi)  # D of the generated point
        push = fooled if loss == "minimax" else 1 - fooled
        theta, psi = theta + lr * psi * push, psi - lr * (theta * fooled + r1 * psi)
        path.append(torch.stack([theta, psi]))
    return torch.stack(path)


@styled
def dirac_figure(r1: float, lr: float = 0.1, loss: str = "minimax") -> Figure:
    """Left: the path in the plane of both weights. Right: the generator's place over the steps."""
    path = dirac_path(r1, lr, loss=loss)
    figure, (left, right) = canvas(1, 2, size=(9, 3.4))
    left.plot(*path.T, color=BLUE, linewidth=1.2)
    left.plot(*path[0], "o", color=INK, markersize=6)
    left.plot(0, 0, "+", color=ORANGE, markersize=14, markeredgewidth=3)
    left.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    left.set(xlabel="θ, the generator's place", ylabel="ψ, the discriminator's slope")
    left.set_title(f"γ = {r1:g}", loc="left")
    right.axhline(0, color=ORANGE, linewidth=1)
    right.plot(path[:, 0], color=BLUE)
    right.set(ylim=(-1.6, 1.6), xlabel="step", ylabel="θ (the data are at 0)")
    last = path[-1].norm().item()
    right.set_title(
        f"distance from the solution after {len(path) - 1} steps: {last:.3f}", loc="left"
    )
    return figure
