"""The capstones: the reader writes a whole component, and a number says whether it works.

Each reference reaches its bound with at least three seeds; the comment at the bound has the results
on 2 CPU cores. Running and measuring an answer doesn't need the reference, because the student
edition has all of this file except the references.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.digits import digits
from course_lib.datasets.toy import two_moons
from course_lib.diffusion import guided
from course_lib.teaching.check import Target, Unusable

BETAS = torch.linspace(1e-4, 0.02, 1000)
ALPHA_BARS = (1 - BETAS).cumprod(0)


def shaped(value: object, shape: tuple[int, ...], what: str) -> Tensor:
    """The value, if it is a tensor of that shape; otherwise Unusable, which the reader sees."""
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if got != shape:
        raise Unusable(f"{what}: expected a tensor of shape {shape}, got {got}.")
    return value.detach()


# ---- 1.6: a schedule and its forward process ---------------------------------------------------


class ScaledLinear:
    """Stable Diffusion's schedule: betas whose square roots are evenly spaced."""

    def __init__(self, steps, first, last):
        self.betas = torch.linspace(first**0.5, last**0.5, steps) ** 2
        self.alpha_bars = (1 - self.betas).cumprod(0)

    def noise(self, x0, t, eps):
        bar = self.alpha_bars[t - 1].reshape(-1, *[1] * (x0.dim() - 1))
        return bar.sqrt() * x0 + (1 - bar).sqrt() * eps


SCHEDULES = (50, 1e-3, 0.3), (1000, 0.00085, 0.012)


def jumps(answer: Callable) -> list[tuple[Tensor, Tensor]]:
    """The answer's results for a picture without noise and for noise alone, at each t."""
    found = []
    for steps, first, last in SCHEDULES:
        process, t = answer(steps, first, last), torch.arange(1, steps + 1)
        one, nothing = torch.ones(steps, 1, 2, 2), torch.zeros(steps, 1, 2, 2)
        found.append((process.noise(one, t, nothing), process.noise(nothing, t, one)))
    return found


def largest_error_of_the_jump(found: list[tuple[Tensor, Tensor]]) -> float:
    """Compared with the mean and the noise that single steps give."""
    worst = 0.0
    for (steps, first, last), jump in zip(SCHEDULES, found, strict=True):
        picture, noise = (shaped(x, (steps, 1, 2, 2), "noise(x0, t, eps)") for x in jump)
        roots, kept, added = torch.linspace(first**0.5, last**0.5, steps), 1.0, 0.0
        for n, beta in enumerate((roots.double() ** 2).tolist()):
            kept, added = kept * (1 - beta) ** 0.5, added * (1 - beta) + beta
            worst = max(worst, (picture[n] - kept).abs().max().item())
            worst = max(worst, (noise[n] - added**0.5).abs().max().item())
    return worst


def betas_evenly_spaced(answer: Callable) -> bool:
    """Your betas are evenly spaced. In this schedule it's their square roots: take the linspace
    from √first to √last, and square it."""
    one, nothing = torch.ones(1, 1), torch.zeros(1, 1)
    picture = answer(50, 1e-3, 0.3).noise(one, torch.tensor([25]), nothing)
    bar = (1 - torch.linspace(1e-3, 0.3, 50)).cumprod(0)[24]
    return torch.allclose(picture, bar.sqrt(), atol=1e-5)


def one_step_late(answer: Callable) -> bool:
    """Your jump is one step late: after t steps the product has t factors, and it stands in entry
    t - 1 of the table."""
    one, nothing = torch.ones(1, 1), torch.zeros(1, 1)
    picture = answer(50, 1e-3, 0.3).noise(one, torch.tensor([25]), nothing)
    bar = (1 - torch.linspace(1e-3**0.5, 0.3**0.5, 50) ** 2)[:26].prod()
    return torch.allclose(picture, bar.sqrt(), atol=1e-6)


# ---- 2.6: a training loop ----------------------------------------------------------------------


class PointNetwork(nn.Module):
    """A small network for points in the plane: network(x, index) -> the predicted noise, (B, 2)."""

    def __init__(self, width: int = 96):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        t = (index.float() + 1)[:, None] / 1000
        waves = torch.cat(
            [f(k * torch.pi * t) for f in (torch.sin, torch.cos) for k in (1, 2, 4, 8)], 1
        )
        return self.layers(torch.cat([x, waves], 1))


def train(network, points, alpha_bars, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        x0 = points[torch.randint(len(points), (256,))]
        index, eps = torch.randint(len(alpha_bars), (256,)), torch.randn(256, 2)
        bar = alpha_bars[index][:, None]
        prediction = network(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, index)
        loss = (prediction - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def trained_weights(answer: Callable) -> dict[str, Tensor]:
    network, points = PointNetwork(), two_moons(4096, torch.Generator().manual_seed(0))
    answer(network, points, ALPHA_BARS, 1500)
    return dict(network.state_dict())


def held_out_noise_loss(weights: dict[str, Tensor]) -> float:
    network = PointNetwork()
    network.load_state_dict(weights)
    x0 = two_moons(4000, torch.Generator().manual_seed(1))
    index = torch.arange(4000) % 1000
    eps = torch.randn(4000, 2, generator=torch.Generator().manual_seed(2))
    bar = ALPHA_BARS[index][:, None]
    with torch.no_grad():
        prediction = network(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, index)
    return (prediction - eps).square().mean().item()


def network_left_as_it_was(answer: Callable) -> bool:
    """Your loop doesn't change the network's weights. Does each step call `backward()` and then the
    optimizer's `step()`?"""
    network = PointNetwork()
    before = [p.clone() for p in network.parameters()]
    answer(network, torch.randn(300, 2), ALPHA_BARS, 3)
    return all(map(torch.equal, before, network.parameters()))


# ---- 3.6: a sampler ----------------------------------------------------------------------------

MEANS = torch.tensor([[-1.5, 0.5], [1.0, 1.2], [0.6, -1.4]])
STD = 0.25


def exact_noise(x: Tensor, index: int | Tensor, means: Tensor = MEANS) -> Tensor:
    """The optimal prediction of the noise for equal Gaussians around `means`."""
    bar = ALPHA_BARS[int(torch.as_tensor(index).flatten()[0])]
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    variance = alpha**2 * STD**2 + sigma**2
    away = x[:, None] - alpha * means  # (B, K, 2)
    shares = (-away.square().sum(2) / 2 / variance).softmax(1)
    return sigma / variance * (shares[:, :, None] * away).sum(1)


def ddim(network, noise, alpha_bars, steps):
    x, T = noise, len(alpha_bars)
    indices = [round(T * (steps - n) / steps) - 1 for n in range(steps)]
    for i, following in zip(indices, [*indices[1:], None], strict=True):
        bar = alpha_bars[i]
        before = torch.tensor(1.0) if following is None else alpha_bars[following]
        eps = network(x, i)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    return x


def exact_flow(network: Callable, noise: Tensor) -> Tensor:
    """The end points of the flow from this noise, in 1000 steps. With y = x / alpha and
    s = sigma / alpha, the probability-flow ODE is dy/ds = eps (Song et al. 2021, DDIM, eq. 14)."""
    alphas = ALPHA_BARS.double().sqrt()
    s = [0.0, *((1 - alphas**2).sqrt() / alphas).tolist()]
    y = noise.double() / alphas[-1]
    for i in reversed(range(len(alphas))):
        y = y + (s[i] - s[i + 1]) * network((alphas[i] * y).float(), torch.tensor([i]))
    return y.float()


def fifty_steps(answer: Callable) -> Tensor:
    return answer(exact_noise, torch.randn(500, 2), ALPHA_BARS, 50)


def distance_from_the_exact_flow(ends: Tensor) -> float:
    exact = exact_flow(exact_noise, torch.randn(500, 2))
    return (shaped(ends, (500, 2), "the samples") - exact).norm(dim=1).mean().item()


def too_many_calls(answer: Callable) -> bool:
    """You call the network more often than `steps` times. One call for each step is enough: DDIM
    uses the same prediction for x0 and for the noise that it puts back."""
    calls = []

    def counted(x, index):
        calls.append(index)
        return exact_noise(x, index)

    answer(counted, torch.randn(4, 2), ALPHA_BARS, 10)
    return len(calls) > 10


def fresh_noise_added(answer: Callable) -> bool:
    """Two runs from the same noise end in different points: you add fresh noise. DDIM (eta = 0) is
    deterministic."""
    noise = torch.randn(4, 2)
    return not torch.equal(*(answer(exact_noise, noise.clone(), ALPHA_BARS, 5) for _ in range(2)))


# ---- 5.6: a VAE --------------------------------------------------------------------------------


class SmallVAE(nn.Module):
    def __init__(self, pixels, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, 128), nn.SiLU(), nn.Linear(128, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 128), nn.SiLU(), nn.Linear(128, pixels))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z)

    def loss(self, x, variance):
        mu, logvar = self.encode(x)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        error = (x - self.decode(z)).square().sum(1) / (2 * variance)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
        return (error + kl).mean()


def encoded_and_decoded(answer: Callable) -> dict[str, Tensor]:
    """A VAE's results for held-out digits after a short training, with variance 0.1."""
    vae, variance = answer(64, 16), 0.1
    train_set, held_out = (digits(8, split)[0].flatten(1) for split in ("train", "test"))
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for _ in range(800):
        loss = vae.loss(train_set[torch.randint(len(train_set), (128,))], variance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mu, logvar = vae.encode(held_out)
        shaped(mu, (256, 16), "the mean from encode")
        shaped(logvar, (256, 16), "the log-variance from encode")
        z = torch.distributions.Normal(mu, (0.5 * logvar).exp()).sample()
        return {"mu": mu, "logvar": logvar, "picture": vae.decode(z)}


def held_out_negative_elbo(found: dict[str, Tensor]) -> float:
    """In nats for each picture, without the constant, computed independently of the answer."""
    held_out = digits(8, "test")[0].flatten(1)
    mu, logvar = (shaped(found[name], (256, 16), name) for name in ("mu", "logvar"))
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    picture = shaped(found["picture"], (256, 64), "decode(z)")
    return ((held_out - picture).square().sum(1) / 2 / 0.1 + kl).mean().item()


def terms_of_the_loss(answer: Callable) -> tuple[float, float]:
    """The KL and the squared error in the answer's loss, divided by their true values.

    The loss is error / (2 · variance) + KL, so a huge variance leaves only the KL, and a tiny one
    only the error.
    """
    vae, x = answer(64, 16), 2 * torch.rand(2000, 64) - 1
    with torch.no_grad():
        mu, logvar = vae.encode(x)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        error = (x - vae.decode(z)).square().sum(1).mean()
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        return (vae.loss(x, 1e9) / kl).item(), (vae.loss(x, 1e-9) * 2e-9 / error).item()


def kl_left_out(answer: Callable) -> bool:
    """Your loss has no KL term: that trains a plain autoencoder, and its latents may lie
    anywhere."""
    return abs(terms_of_the_loss(answer)[0]) < 0.01


def kl_with_a_minus(answer: Callable) -> bool:
    """The KL has a minus in your loss. In the ELBO it is subtracted, and the loss is minus the
    ELBO: add it."""
    return -1.1 < terms_of_the_loss(answer)[0] < -0.9


def error_averaged_over_pixels(answer: Callable) -> bool:
    """You average the squared error over the pixels. The ELBO sums it over the pixels; only the
    batch is averaged."""
    return abs(64 * terms_of_the_loss(answer)[1] - 1) < 0.1


def error_without_the_half(answer: Callable) -> bool:
    """Your squared error is twice too large: it is divided by 2 · variance."""
    return abs(terms_of_the_loss(answer)[1] - 2) < 0.1


def summed_over_the_batch(answer: Callable) -> bool:
    """You sum over the batch: for 2,000 pictures the loss is 2,000 times too large. Average over
    the batch."""
    return abs(terms_of_the_loss(answer)[1] / 2000 - 1) < 0.1


def no_noise_in_the_latent(answer: Callable) -> bool:
    """Your loss is the same each time, so z has no noise in it: sample
    z = mu + exp(logvar / 2) · noise."""
    vae, x = answer(64, 16), 2 * torch.rand(8, 64) - 1
    return torch.equal(vae.loss(x, 0.1), vae.loss(x, 0.1))


# ---- 7.6: cross-attention ----------------------------------------------------------------------


class CrossAttention(nn.Module):
    def __init__(self, width, context_width, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x, context):
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        weights = (q @ k.mT / q.shape[3] ** 0.5).softmax(dim=3)
        return x + self.to_out((weights @ v).transpose(1, 2).flatten(2))


def questions(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions that each ask for a key, (B, 6, 32), words that each have a key and a value,
    (B, 8, 16), and the right values, (B, 6)."""
    keys = torch.stack([torch.randperm(8) for _ in range(count)])  # (B, 8)
    values, asked = torch.randint(8, (count, 8)), torch.randint(8, (count, 6))
    words = torch.cat([F.one_hot(keys, 8), F.one_hot(values, 8)], 2).float()  # (B, 8, 16)
    place = (keys[:, None] == asked[:, :, None]).int().argmax(2)  # (B, 6)
    return F.pad(F.one_hot(asked, 8).float(), (0, 24)), words, values.gather(1, place)


def values_looked_up(answer: Callable) -> Tensor:
    """Trains a network around the block to look words up; returns its values for new questions."""
    new, words_of_new, _ = questions(500)
    block, head = answer(32, 16, 2), nn.Linear(32, 8)
    shaped(block(torch.randn(3, 5, 32), torch.randn(3, 7, 16)), (3, 5, 32), "the block's output")
    optimizer = torch.optim.Adam([*block.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(300):
        x, words, right = questions(64)
        loss = F.cross_entropy(head(block(x, words)).flatten(0, 1), right.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return head(block(new, words_of_new)).argmax(2)


def share_looked_up(values: Tensor) -> float:
    _, _, right = questions(500)
    return (shaped(values, (500, 6), "the values") == right).float().mean().item()


def words_not_read(answer: Callable) -> bool:
    """The output doesn't depend on the context: keys and values must come from the words."""
    block, x = answer(32, 16, 2), torch.randn(1, 5, 32)
    return torch.equal(block(x, torch.zeros(1, 7, 16)), block(x, torch.randn(1, 7, 16)))


def samples_mixed(answer: Callable) -> bool:
    """A sample's output depends on another sample's words: attention must stay within a sample."""
    block, x, words = answer(32, 16, 2), torch.randn(2, 5, 32), torch.randn(2, 5, 16)
    other = torch.cat([words[:1], torch.randn(1, 5, 16)])
    return not torch.allclose(block(x, words)[0], block(x, other)[0], atol=1e-5)


def positions_mixed(answer: Callable) -> bool:
    """A position's output depends on the other positions: the softmax must run over the words, so
    that each position distributes its own attention."""
    block, x, words = answer(32, 16, 2), torch.randn(1, 5, 32), torch.randn(1, 7, 16)
    other = torch.cat([x[:, :1], torch.randn(1, 4, 32)], 1)
    return not torch.allclose(block(x, words)[0, 0], block(other, words)[0, 0], atol=1e-5)


# ---- 8.6: a guided sampler ---------------------------------------------------------------------


def exact_noise_of_a_class(x: Tensor, index: int | Tensor, labels: Tensor) -> Tensor:
    """Like `exact_noise`, for the Gaussian of each label; label 3 means any of the three."""
    each = torch.stack([exact_noise(x, index, mean[None]) for mean in MEANS])  # (3, B, 2)
    known = each[labels.clamp(max=2), torch.arange(len(x))]
    return torch.where((labels == 3)[:, None], exact_noise(x, index), known)


def guided_ddim(network, noise, alpha_bars, labels, null, scale, steps):
    nothing = torch.full_like(labels, null)

    def guided(x, i):
        unconditional = network(x, i, nothing)
        return unconditional + scale * (network(x, i, labels) - unconditional)

    return ddim(guided, noise, alpha_bars, steps)


def noise_and_labels() -> tuple[Tensor, Tensor]:
    return torch.randn(300, 2), torch.randint(3, (300,))


def fifty_guided_steps(answer: Callable) -> Tensor:
    noise, labels = noise_and_labels()
    return answer(exact_noise_of_a_class, noise, ALPHA_BARS, labels, 3, 2.0, 50)


def distance_from_the_guided_flow(ends: Tensor) -> float:
    noise, labels = noise_and_labels()
    network = guided(exact_noise_of_a_class, 3, 2.0)
    exact = exact_flow(lambda x, index: network(x, index[0], labels), noise)
    return (shaped(ends, (300, 2), "the samples") - exact).norm(dim=1).mean().item()


def scale_counted_from_the_condition(answer: Callable) -> bool:
    """At scale 0 your sampler still follows the labels: start from the unconditional prediction and
    add scale times the difference."""
    noise, network = torch.randn(20, 2), exact_noise_of_a_class
    first, second = (
        answer(network, noise.clone(), ALPHA_BARS, torch.full((20,), label), 3, 0.0, 10)
        for label in (0, 1)
    )
    return not torch.allclose(first, second, atol=1e-4)


# ---- the chapters ------------------------------------------------------------------------------

EXERCISES = {
    "1.6": Target(
        ScaledLinear,
        jumps,
        bound=1e-4,  # float32 stays below 5e-6; nothing is random
        meaning="the largest error against a walk of single steps is",
        well_done="One table and one line: that is all of forward noising.",
        misconceptions=[betas_evenly_spaced, one_step_late],
        measure=largest_error_of_the_jump,
    ),
    "2.6": Target(
        train,
        trained_weights,
        bound=0.28,  # seeds 0, 1, 2 reach 0.2427, 0.2424, 0.2428
        meaning="the held-out loss is",
        well_done="The same loop, with a larger network and pictures, trains Stable Diffusion.",
        misconceptions=[network_left_as_it_was],
        measure=held_out_noise_loss,
    ),
    "3.6": Target(
        ddim,
        fifty_steps,
        bound=0.035,  # seeds 0, 1, 2: 0.0271, 0.0283, 0.0268
        meaning="the mean distance from the exact flow is",
        well_done="Fifty calls instead of a thousand, and nearly the same points.",
        misconceptions=[fresh_noise_added, too_many_calls],
        measure=distance_from_the_exact_flow,
    ),
    "5.6": Target(
        SmallVAE,
        encoded_and_decoded,
        bound=37.0,  # seeds 0, 1, 2: 33.9, 33.7, 33.3
        meaning="minus the ELBO of held-out digits, in nats, is",
        well_done="Encoder, sample, decoder and both terms of the loss work together.",
        misconceptions=[
            kl_left_out,
            kl_with_a_minus,
            error_averaged_over_pixels,
            error_without_the_half,
            summed_over_the_batch,
            no_noise_in_the_latent,
        ],
        measure=held_out_negative_elbo,
    ),
    "7.6": Target(
        CrossAttention,
        values_looked_up,
        bound=0.99,  # seeds 0, 1, 2: 1.00 each
        meaning="the share of words looked up is",
        well_done="Queries found the right keys: this block is how words get into pictures.",
        most=False,
        misconceptions=[words_not_read, samples_mixed, positions_mixed],
        measure=share_looked_up,
    ),
    "8.6": Target(
        guided_ddim,
        fifty_guided_steps,
        bound=0.04,  # seeds 0, 1, 2: 0.0290, 0.0298, 0.0274
        meaning="the mean distance from the exact guided flow is",
        well_done="Two calls and one subtraction for each step: that is classifier-free guidance.",
        misconceptions=[scale_counted_from_the_condition],
        measure=distance_from_the_guided_flow,
    ),
}
