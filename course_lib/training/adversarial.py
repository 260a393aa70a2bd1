"""The losses of a GAN, for the same `train` as every other model.

    run = train(gan, lambda gan, data: adversarial_loss(gan, *data), batch, steps=2000,
                optimizer=Optimizer(lr=2e-3, betas=(0.0, 0.99), decay="constant", clip=100.0))

A GAN is a game, so each network has a loss of its own. But their sum can be minimised by one
optimiser, if each network gets only the gradient of its own loss. That is simultaneous gradient
descent, the method that the theory describes (Mescheder et al. 2018, section 2). Their sum means
little as a number: watch samples instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checks import require
from course_lib.common.registry import choose
from course_lib.models.gan import GAN


def classification(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of telling real from fake: -log D(x) - log(1 - D(G(z))), D = sigmoid(logit)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Logits only need to be beyond 1 and -1 (Lim & Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


# the discriminator's loss of the logits (real, fake), and the generator's of the logits (fake)
LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    # Goodfellow et al. 2014, eq. 1: the generator minimises log(1 - D(G(z)))
    "minimax": (classification, lambda fake: -F.softplus(fake).mean()),
    # section 3 there: it minimises -log D(G(z)), whose gradient doesn't vanish where D is sure
    "non-saturating": (classification, lambda fake: F.softplus(-fake).mean()),
    "hinge": (hinge, lambda fake: -fake.mean()),
}


def adversarial_loss(
    gan: GAN, real: Tensor, *labels: Tensor, loss: str = "non-saturating", r1: float = 1.0
) -> Tensor:
    """The two losses and the R1 penalty, added up: a scalar.

    Its gradient in the generator's weights is that of the generator's loss alone, and so for the
    discriminator. real: a batch (B, ...); labels: (B,), also for the generated samples. r1: the
    factor gamma of the penalty gamma/2 · E|gradient|²; 0 for none. ValueError for an unknown loss.

    >>> gan = GAN(nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), latent=4)
    >>> adversarial_loss(gan, torch.randn(8, 2)).shape
    torch.Size([])
    """
    of_discriminator, of_generator = choose("loss", loss, LOSSES)
    require(r1 >= 0, "r1", "a factor of at least 0", r1)
    require(real.is_floating_point(), "real", "floating-point data", real)
    discriminator = gan.discriminator
    real = real.detach().requires_grad_(r1 > 0)  # R1 differentiates by it
    fake = gan(torch.randn(len(real), gan.latent, device=real.device), *labels)
    of_real, of_fake = discriminator(real, *labels), discriminator(fake.detach(), *labels)
    with frozen(discriminator):
        total = of_generator(discriminator(fake, *labels))
    total = total + of_discriminator(of_real, of_fake)
    return total + r1 / 2 * r1_penalty(of_real, real).mean() if r1 else total


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """|gradient of the logit by the real sample|² (Mescheder et al. 2018, eq. 9): (B,).

    It punishes a discriminator that isn't flat where the data is. Without it, or something like
    it, training circles around the solution even when it starts next to it.

    >>> x = torch.randn(3, 2).requires_grad_()
    >>> r1_penalty(x @ torch.tensor([3.0, 4.0]), x)
    tensor([25., 25., 25.])
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, gradients flow through the network, but its own weights receive none."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
