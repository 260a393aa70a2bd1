"""Chapter 18's equations against closed forms, and its capstone with each mistake alone."""

import math

import pytest
import torch

from course_lib.diffusion import Diffusion, Gaussian, GaussianMixture, linear, sample, straight
from course_lib.diffusion.process import PREDICTIONS
from course_lib.exercises import ch18
from course_lib.exercises.ch18 import EXERCISES, repaired

VARIANCES = torch.tensor([2.0, 0.3, 0.05]).double()
ROOM = 0.85  # of the capstone's bound, on both sides


def floors(process, t):
    """(18.1) and (18.2), as the chapter writes them."""
    alpha, sigma = process.schedule(t)
    a, b = process.coefficients(alpha, sigma)
    line = VARIANCES * (a * sigma - b * alpha) ** 2 / (alpha**2 * VARIANCES + sigma**2)
    return a**2 * VARIANCES.mean() + b**2, line.mean()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_floor_of_a_constant_is_the_targets_variance(prediction):
    """Equation 18.1."""
    process = Diffusion("cosine", prediction)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x0 = 1.5 + torch.randn(400_000, 3).double() * VARIANCES.sqrt()
        target = process.target(x0, torch.randn_like(x0), 0.3)
    assert target.var(0).mean().item() == pytest.approx(float(floors(process, 0.3)[0]), rel=0.01)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_floor_of_a_line_is_the_lowest_loss_on_gaussian_data(prediction, t):
    """Equation 18.2, against the optimal network's."""
    process = Diffusion(straight(), prediction)
    network = Gaussian(process, torch.ones(3).double(), VARIANCES.diag())
    lowest = network.minimum_loss(torch.randn(1, 3).double(), t)
    torch.testing.assert_close(floors(process, t)[1], lowest[0])


def test_larger_data_is_the_same_data_with_another_schedule():
    """Equation 18.3: the best x0 of s times the data is s times that at the shifted log-SNR."""
    process, s, xt = Diffusion("cosine", "x0"), 3.0, torch.tensor([[0.7, -0.4]]).double()
    mean, covariance = torch.zeros(2).double(), torch.tensor([[1.0, 0.4], [0.4, 0.5]]).double()
    ours = Gaussian(process, s * mean, s**2 * covariance).x0(xt, 0.6)
    other = process.schedule.time_at(float(process.schedule.log_snr(0.6)) + 2 * math.log(s))
    factor = process.schedule(other)[1] / process.schedule(0.6)[1]  # to the other sigma
    theirs = Gaussian(process, mean, covariance).x0(factor * xt, other)
    torch.testing.assert_close(ours, s * theirs)


@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_the_end_of_a_linear_schedule(T):
    """Equation 18.4: too large by at most sum(beta²) / 2 + ... in the exponent."""
    betas = torch.linspace(1e-4, 0.02, T).double()
    exact, approximate = linear(T).alpha_bars[-1].log(), -T * (1e-4 + 0.02) / 2
    assert 0 < approximate - exact < (betas.square().sum() / 2 * 1.02)


def test_an_average_written_out():
    """Equation 18.5, and that its weights add up to 1."""
    d, history = 0.97, torch.randn(41, generator=torch.Generator().manual_seed(0)).double()
    average = history[0]
    for weight in history[1:]:
        average = d * average + (1 - d) * weight
    shares = (1 - d) * d ** torch.arange(39, -1, -1).double()
    torch.testing.assert_close(average, d**40 * history[0] + shares @ history[1:])
    assert d**40 + shares.sum().item() == pytest.approx(1)


def test_what_a_condition_is_worth():
    """Equation 18.6: the gap of the lowest losses is the mean squared difference."""
    process, means = Diffusion("linear", "eps"), torch.tensor([[-1.5, 0.5], [1.0, 1.2]]).double()
    mixture = GaussianMixture(process, means, torch.tensor([0.09, 0.2]).double())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        labels = torch.arange(200_000) % 2
        spread = torch.tensor([0.09, 0.2]).double().sqrt()[labels, None]
        x0 = means[labels] + spread * torch.randn(200_000, 2).double()
        eps = torch.randn_like(x0)
    xt = process.add_noise(x0, 0.4, eps)
    known, unknown = mixture.eps(xt, 0.4, labels), mixture.eps(xt, 0.4)
    gains = (unknown - eps).square() - (known - eps).square() - (known - unknown).square()
    assert abs(gains.mean()) < 4 * gains.mean(1).std() / len(gains) ** 0.5
    assert (known - unknown).square().mean() > 0.01


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "euler_ancestral", "heun", "dpm++2m"])
def test_a_correct_sampler_keeps_the_noise_level_and_ends_in_zero(sampler):
    """Equation 18.7."""
    process, levels = Diffusion(linear(100, 1e-3, 0.2), "eps"), []

    def knows(x, timestep, context=None):
        sigma = process.schedule(process.schedule.time(timestep[0].item()))[1]
        levels.append((x.square().mean().sqrt() / sigma).item())
        return (x / sigma).to(x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        end = sample(process, knows, torch.randn(100_000, 1), steps=20, sampler=sampler)
    assert len(levels) >= 20 and all(abs(level - 1) < 0.01 for level in levels)
    assert end.abs().max() < 1e-5


# ---- the exercises -----------------------------------------------------------------------------


def test_the_size_is_found_in_the_noise():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x0 = 0.3 + 0.7 * torch.randn(100_000)
        xt = 0.4 * x0 + 0.9 * torch.randn(100_000)
    found = ch18.size_of_data(xt, 0.4, 0.9)
    assert found.item() == pytest.approx((0.3**2 + 0.7**2) ** 0.5, abs=0.03)


def test_the_repaired_sampler_is_the_librarys():
    process, steps = Diffusion(linear(40, 1e-3, 0.2), "eps"), [39, 29, 19, 9]
    prior = Gaussian(process, torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.3], [0.3, 0.4]]))
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    ours = ch18.drawn(
        lambda x, t: prior(x, torch.full((len(x),), float(t))),
        noise,
        process.schedule.alpha_bars.float(),
        steps,
    )
    times = [(t + 1) / 40 for t in steps] + [0.0]
    torch.testing.assert_close(
        ours, sample(process, prior, noise, spacing=times), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_capstones_reference_reaches_its_bound_with_room(seed):
    torch.manual_seed(seed)
    distance = ch18.distance_of_digits(ch18.five_hundred(repaired))
    assert distance < ROOM * EXERCISES["18.7"].bound


@pytest.mark.parametrize("mistake", ["betas", "decay", "size"])
def test_each_mistake_alone_misses_the_bound(mistake):
    torch.manual_seed(0)
    wrong = {mistake: ch18.MISTAKES[mistake]}
    answer = ch18.script(ch18.training_digits(), 500, **wrong)
    assert ch18.distance_of_digits(answer) > EXERCISES["18.7"].bound / ROOM


def test_other_shapes_are_refused_in_one_line():
    verdict = EXERCISES["18.7"].examine(lambda images, count: images[:count].view(-1, 8, 8))
    assert verdict.status == "wrong" and "(500, 64)" in verdict.message


def test_copies_are_no_repair():
    verdict = EXERCISES["18.7"].examine(lambda images, count: images[:count])
    assert verdict.status == "wrong" and "training digits" in verdict.message
