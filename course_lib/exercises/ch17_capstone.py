"""Chapter 17: the capstone, one training step of a GAN, judged by the modes that it ends with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam

from course_lib.datasets.toy import gaussian_ring, ring_centres
from course_lib.exercises.capstones import shaped
from course_lib.teaching.check import Target
from course_lib.teaching.point_networks import perceptron

STEPS, BATCH, LATENT, WIDTH = 1200, 128, 8, 64
RATE, R1 = 3e-3, 0.1
SAMPLES, MODES, STD = 4000, 8, 0.1


def train_step(generator, discriminator, generator_optimizer, discriminator_optimizer, real, z, r1):
    real = real.clone().requires_grad_()
    of_real, of_fake = discriminator(real), discriminator(generator(z).detach())
    (gradient,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
    loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
    loss = loss + r1 / 2 * gradient.square().sum(dim=1).mean()
    discriminator_optimizer.zero_grad()
    loss.backward()
    discriminator_optimizer.step()

    loss = F.softplus(-discriminator(generator(z))).mean()
    generator_optimizer.zero_grad()
    loss.backward()
    generator_optimizer.step()


def trained_samples(answer) -> Tensor:
    """Trains on a ring of eight Gaussians with the answer; samples of the generator, (N, 2)."""
    generator = perceptron(LATENT, WIDTH, 2, layers=3)
    discriminator = perceptron(2, WIDTH, 1, layers=3).append(nn.Flatten(0))  # (B, 2) -> (B,)
    networks = generator, discriminator
    optimizers = [Adam(each.parameters(), lr=RATE, betas=(0.0, 0.99)) for each in networks]
    for step in range(STEPS):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        answer(*networks, *optimizers, gaussian_ring(BATCH), torch.randn(BATCH, LATENT), R1)
    with torch.no_grad():
        return shaped(generator(torch.randn(SAMPLES, LATENT)), (SAMPLES, 2), "the samples")


def share_of_the_ring(samples: Tensor) -> float:
    """Each mode counts with its share of the samples, but at most with the 1/8 that it should have.

    So it is 1 at best, at most k/8 with k modes, and less if samples lie between the modes: a
    sample counts if it is within three standard deviations of a centre.
    """
    distance, mode = torch.cdist(samples, ring_centres(MODES, STD)).min(dim=1)
    counts = torch.bincount(mode[distance <= 3 * STD], minlength=MODES)
    return (counts / len(samples)).clamp(max=1 / MODES).sum().item()


# ---- quick tests: one or two steps of tiny networks --------------------------------------------


class Point(nn.Module):
    """A generator that always draws the same point."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2))

    def forward(self, z: Tensor) -> Tensor:
        return self.place.expand(len(z), 2)


class Plane(nn.Module):
    """A discriminator whose logit is linear in the point: (B, 2) -> (B,)."""

    def __init__(self, slope: tuple[float, float] = (0.6, -0.3), bias: float = 0.0):
        super().__init__()
        self.slope, self.bias = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(bias))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.slope + self.bias


def moved(answer, bias: float = 0.0, r1: float = 0.0, rates=(1.0, 0.0), steps: int = 1):
    """How far each step moves the generator's point and the discriminator's slope.

    rates: the learning rates of the generator and of the discriminator.
    """
    point, plane = Point(), Plane(bias=bias)
    optimizers = [SGD(n.parameters(), lr=r) for n, r in zip((point, plane), rates, strict=True)]
    real, path = torch.tensor([[0.5, 1.0], [1.5, -0.4]]), []
    for _ in range(steps):
        before = point.place.detach().clone(), plane.slope.detach().clone()
        answer(point, plane, *optimizers, real.clone(), torch.randn(2, LATENT), r1)
        path.append((point.place.detach() - before[0], plane.slope.detach() - before[1]))
    return path


def penalty_without_a_gradient(answer) -> bool:
    """The R1 penalty doesn't reach the discriminator's weights: its step is the same with r1 = 0
    and with r1 = 10. `torch.autograd.grad` needs `create_graph=True`."""
    without, much = (moved(answer, r1=r1, rates=(0.0, 0.1))[0][1] for r1 in (0.0, 10.0))
    return torch.equal(without, much)


def generator_not_moved_by_the_discriminator(answer) -> bool:
    """Your generator doesn't move, because it gets no gradient, or one that cancels. Detach the
    fakes in the discriminator's loss only, and clear the generator's gradients before its own
    loss."""
    return moved(answer)[0][0].norm() < 1e-3


def discriminator_not_moved(answer) -> bool:
    """Your discriminator doesn't move: call its optimiser's `step` after its `backward`."""
    return moved(answer, rates=(0.0, 0.1))[0][1].norm() == 0


def generator_flees(answer) -> bool:
    """Your generator moves to where the discriminator's logit is lower. It wants to be taken for
    real: minimise −log D(G(z))."""
    return moved(answer)[0][0] @ torch.tensor([0.6, -0.3]) < 0


def saturating(answer) -> bool:
    """Where the discriminator is sure that the samples are fake, your generator hardly moves: that
    is the minimax loss. Use the non-saturating one, −log D(G(z))."""
    return moved(answer, bias=-6.0)[0][0].norm() < 0.05 * moved(answer, bias=0.0)[0][0].norm()


def old_gradients_left(answer) -> bool:
    """With nearly the same weights, the discriminator's second step isn't its first one: it still
    has gradients from before, for example those of the generator's loss. Clear them before you
    compute its own."""
    (_, first), (_, second) = moved(answer, rates=(0.0, 1e-4), steps=2)
    return not torch.allclose(first, second, rtol=0.05, atol=0)


EXERCISES = {
    "17.7": Target(
        train_step,
        trained_samples,
        bound=0.65,  # ten sound seeds: 0.75 to 0.81; D's loss moves G, too: 0.55; labels swapped: 0
        meaning="the share of the ring that your generator draws is",
        well_done="Two losses, one penalty, and each gradient only where it belongs.",
        most=False,
        misconceptions=[
            generator_not_moved_by_the_discriminator,
            discriminator_not_moved,
            generator_flees,
            saturating,
            old_gradients_left,
            penalty_without_a_gradient,
        ],
        measure=share_of_the_ring,
    ),
}
