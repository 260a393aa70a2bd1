"""Chapter 18: the clinic. Diagnoses by letter, two tools, and a broken script to repair."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from course_lib.datasets.digits import digits
from course_lib.evaluation.distances import frechet_distance
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.exercises.capstones import shaped
from course_lib.teaching.check import Choice, Code, Target, Unusable

# ---- 18.5 write: how large was the data? -------------------------------------------------------


def size_of_data(xt, alpha, sigma):
    return (xt.square().mean() - sigma**2).clamp(min=0).sqrt() / alpha


def noise_not_subtracted(xt, alpha, sigma):
    """You took all of xt for data. Its mean square is α² times the data's, plus σ²: subtract
    that."""
    return xt.square().mean().sqrt() / alpha


def alpha_forgotten(xt, alpha, sigma):
    """That is the size of α·x0. Divide by α to get that of x0."""
    return (xt.square().mean() - sigma**2).clamp(min=0).sqrt()


def alpha_not_squared(xt, alpha, sigma):
    """You divided the mean square by α, not by α². It is simplest to take the root first."""
    return ((xt.square().mean() - sigma**2).clamp(min=0) / alpha).sqrt()


def sizes_subtracted(xt, alpha, sigma):
    """You subtracted σ from a root mean square. Independent parts add up as squares: subtract σ²
    first, then take the root."""
    return (xt.square().mean().sqrt() - sigma).clamp(min=0) / alpha


def mean_removed(xt, alpha, sigma):
    """You removed the mean of xt first. A mean that was never removed is a mistake that this number
    must show, too: use the mean of the squares, not the variance."""
    return (xt.var(correction=0) - sigma**2).clamp(min=0).sqrt() / alpha


def square_returned(xt, alpha, sigma):
    """That is the mean square. Take the root."""
    return (xt.square().mean() - sigma**2).clamp(min=0) / alpha**2


def noisy_batches():
    small = torch.tensor([[1.4, -0.5], [0.9, 1.6]]), 0.7, 0.4
    large = 3.0 + torch.randn(40, 6)
    return [
        small,
        (0.6 * large + 0.9 * torch.randn(40, 6), 0.6, 0.9),
        (0.5 * torch.randn(9, 5), 0.3, 1.2),  # less than the noise alone: no data is seen
        (0.95 * 0.2 * torch.randn(50, 8) + 0.1 * torch.randn(50, 8), 0.95, 0.1),
    ]


# ---- 18.6 debug: what the network is told ------------------------------------------------------


def drawn(network, x, alpha_bars, timesteps):
    end = torch.tensor(1.0)
    for n, t in enumerate(timesteps):
        bar = alpha_bars[t]
        after = alpha_bars[timesteps[n + 1]] if n + 1 < len(timesteps) else end
        eps = network(x, t)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        x = after.sqrt() * x0 + (1 - after).sqrt() * eps
    return x


def planted_number_of_the_step(network, x, alpha_bars, timesteps):
    end = torch.tensor(1.0)
    for n, t in enumerate(timesteps):
        bar = alpha_bars[t]
        after = alpha_bars[timesteps[n + 1]] if n + 1 < len(timesteps) else end
        eps = network(x, n)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        x = after.sqrt() * x0 + (1 - after).sqrt() * eps
    return x


def told(network, x, alpha_bars, timesteps, say):
    """The reference, with `say(n, t)` as what the network is told."""
    steps = list(timesteps)
    place = {t: n for n, t in enumerate(steps)}
    return drawn(lambda x, t: network(x, say(place[t], t)), x, alpha_bars, steps)


def steps_left(network, x, alpha_bars, timesteps):
    """You count down, but in steps: with 20 of 1,000 timesteps the network hears 19, 18, 17. It was
    trained with the table's index, and that is t."""
    return told(network, x, alpha_bars, timesteps, lambda n, t: len(timesteps) - 1 - n)


def one_late(network, x, alpha_bars, timesteps):
    """Your network hears t + 1. This table counts from 0: the noise level of x is entry t, and that
    is what the network was trained with."""
    return told(network, x, alpha_bars, timesteps, lambda n, t: t + 1)


def share_of_the_table(network, x, alpha_bars, timesteps):
    """Your network hears a time between 0 and 1. It was trained with the index itself."""
    return told(network, x, alpha_bars, timesteps, lambda n, t: t / len(alpha_bars))


def next_timestep(network, x, alpha_bars, timesteps):
    """Your network hears the timestep that the step leads to. x is still at t."""
    following = [*timesteps[1:], timesteps[-1]]
    return told(network, x, alpha_bars, timesteps, lambda n, t: following[n])


class SmallNetwork(nn.Module):
    """A network whose prediction depends on everything that it is told."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.kwargs = {"matrix": matrix}
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor, t: float) -> Tensor:
        return (x @ self.matrix + 0.11 * t).sin()


def networks_and_tables():
    small = torch.tensor([[0.6, 0.3], [-0.2, 0.8]])
    x, bars = torch.tensor([[0.7, -1.2]]), torch.tensor([0.9, 0.7, 0.4, 0.1])
    table = (1 - torch.linspace(1e-3, 0.2, 40)).cumprod(0)
    return [
        (SmallNetwork(small), x, bars, [3, 1]),
        (SmallNetwork(torch.randn(3, 3) / 2), torch.randn(4, 3), table, [38, 29, 17, 8]),
        (SmallNetwork(torch.randn(2, 2) / 2), torch.randn(5, 2), table, [31, 12, 5, 2, 0]),
    ]


# ---- 18.7 capstone: a script with three mistakes -----------------------------------------------

T = 50
BETAS = torch.linspace(1e-4, 0.02, T) * 1000 / T
MISTAKES = {  # each alone misses the target
    "betas": torch.linspace(1e-4, 0.02, T),
    "decay": 0.9999,
    "size": lambda variance: variance,
}


def repaired(images, count):
    return script(images, count)


def script(images, count, betas=BETAS, decay=0.99, size=torch.sqrt):
    """Training and sampling; `size` turns the variance of a step's noise into its size."""
    bars = (1 - betas).cumprod(0)
    inner = [nn.Linear(64 + 8, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
    network = nn.Sequential(*inner, nn.Linear(128, 64))
    average = deepcopy(network)

    def noise_in(model, x, t):
        angles = torch.pi * (t[:, None] + 1) / T * torch.tensor([0.5, 1, 2, 4])
        return model(torch.cat([x, angles.sin(), angles.cos()], dim=1))

    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(800):
        x0 = images[torch.randint(len(images), (128,))]
        t, eps = torch.randint(T, (128,)), torch.randn(128, 64)
        bar = bars[t][:, None]
        loss = (noise_in(network, bar.sqrt() * x0 + (1 - bar).sqrt() * eps, t) - eps).square()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
            mean.data.lerp_(weight.data, 1 - decay)
    x = torch.randn(count, 64)
    with torch.no_grad():
        for i in reversed(range(T)):
            bar, before = bars[i], bars[i - 1] if i else torch.tensor(1.0)
            eps = noise_in(average, x, torch.full((count,), i))
            x0 = ((x - (1 - bar).sqrt() * eps) / bar.sqrt()).clamp(-1, 1)
            mean = before.sqrt() * betas[i] * x0 + (1 - betas[i]).sqrt() * (1 - before) * x
            std = size((1 - before) / (1 - bar) * betas[i])
            x = mean / (1 - bar) + std * torch.randn_like(x)
    return x


def training_digits() -> Tensor:
    return digits(8, "train")[0].flatten(1)  # (1541, 64)


def five_hundred(answer) -> Tensor:
    return answer(training_digits(), 500)


def distance_of_digits(samples: object) -> float:
    """The Fréchet distance of 500 samples' pixels from the training digits'."""
    samples, images = shaped(samples, (500, 64), "the samples"), training_digits()
    if not samples.isfinite().all():
        raise Unusable("some of your samples are not finite. Does the sampler clamp x0?")
    if (nearest_neighbours(samples, images)[0] < 1e-4).float().mean() > 0.1:
        raise Unusable("many of your samples are training digits themselves. Draw new ones.")
    return frechet_distance(samples, images)


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "18.1": Choice(
        "b",
        {
            "a": "A rate that is too high shows in the loss, and this patient's loss is the sound "
            "one's, step by step. Whatever is wrong happens after the loss was computed.",
            "b": "The loss falls as it should, but the samples come from the average, and after "
            "250 steps with a decay of 0.9999 that still is 97.5 % initial weights.",
            "c": "Such a schedule makes the task another one, with another loss. This loss is the "
            "sound one's, step by step.",
            "d": "With the wrong captions you would see good digits of the wrong class, not "
            "static.",
        },
    ),
    "18.2": Choice(
        "c",
        {
            "a": "Pictures in [0, 1] give digits on a grey ground, and a loss below the sound "
            "one's, because the data is half as large.",
            "b": "After a rate that is too high the loss jumps up in the first steps. This one "
            "falls smoothly, only not as far.",
            "c": "With little noise at every timestep the noise is harder to see, so the loss "
            "stays high. And the sampler starts from pure noise, which this network hasn't seen.",
            "d": "That doesn't touch the training at all, so the loss would be the sound one's.",
        },
    ),
    "18.3": Choice(
        "c",
        {
            "a": "Then x would shrink from call to call, and |x|/σ would be far below 1 half-way.",
            "b": "Then |x|/σ would leave 1 at the last calls, where one timestep more is a much "
            "larger σ.",
            "c": "All calls are right, so whatever is added comes after the last one. Noise in the "
            "last step stays in the picture, because nothing removes it any more.",
            "d": "The mode doesn't matter to a network that is a formula. It is a separate check.",
        },
    ),
    "18.4": Choice(
        "b",
        {
            "a": "With the captions shuffled the network knows less about each picture. That can't "
            "make its loss so much lower.",
            "b": "Ten pictures can be learned by heart, and the loss then falls below what new "
            "pictures allow. Both threes are the same training picture.",
            "c": "Rounding only takes information from the network. The loss doesn't fall.",
            "d": "Network, rate and batches are the sound run's. So much lower a loss needs an "
            "explanation other than skill.",
        },
    ),
    "18.5": Code(
        size_of_data,
        noisy_batches,
        "With this you can read off from the network's own input whether latents were scaled.",
        [
            noise_not_subtracted,
            alpha_forgotten,
            alpha_not_squared,
            sizes_subtracted,
            mean_removed,
            square_returned,
        ],
    ),
    "18.6": Code(
        drawn,
        networks_and_tables,
        "The network hears the timestep of its input, in the units of its training.",
        [steps_left, one_late, share_of_the_table, next_timestep],
        given=planted_number_of_the_step,
    ),
    "18.7": Target(
        repaired,
        five_hundred,
        bound=4.5,  # seeds 0, 1, 2: 3.15, 3.09, 3.19; with one mistake 6.3 or more
        meaning="the distance from the training digits is",
        well_done="Schedule, average and noise: three lines, and none of them raised an error.",
        measure=distance_of_digits,
    ),
}
