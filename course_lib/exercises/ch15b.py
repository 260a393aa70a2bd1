"""Chapter 15b: inverse problems. Small linear measurements, whose exact answers are known."""

import torch
from torch import Tensor, nn

from course_lib.exercises.capstones import shaped
from course_lib.pipelines import exact_posterior
from course_lib.teaching.check import Choice, Code, Number, Target

# ---- 15b.1 write: Bayes' rule, one ray at a time -----------------------------------------------


def after_one_ray(mean, covariance, ray, value, noise_std):
    along = covariance @ ray
    gain = along / (ray @ along + noise_std**2)
    return mean + gain * (value - ray @ mean), covariance - torch.outer(gain, along)


def std_for_variance(mean, covariance, ray, value, noise_std):
    """You added the noise's standard deviation to a variance. Square it first."""
    along = covariance @ ray
    gain = along / (ray @ along + noise_std)
    return mean + gain * (value - ray @ mean), covariance - torch.outer(gain, along)


def noise_forgotten(mean, covariance, ray, value, noise_std):
    """You trust the measurement completely: its variance is that of the ray's sum *and* of the
    noise."""
    along = covariance @ ray
    gain = along / (ray @ along)
    return mean + gain * (value - ray @ mean), covariance - torch.outer(gain, along)


def value_for_surprise(mean, covariance, ray, value, noise_std):
    """You corrected the mean by the measured value. Only the part that the mean didn't predict,
    value minus ray · mean, is new information."""
    along = covariance @ ray
    gain = along / (ray @ along + noise_std**2)
    return mean + gain * value, covariance - torch.outer(gain, along)


def covariance_kept(mean, covariance, ray, value, noise_std):
    """The mean is right. But after a measurement you know more, so the covariance shrinks."""
    along = covariance @ ray
    gain = along / (ray @ along + noise_std**2)
    return mean + gain * (value - ray @ mean), covariance


def pixels_alone(mean, covariance, ray, value, noise_std):
    """You updated each pixel by its own variance only. A pixel that the ray doesn't touch learns
    something, too, if it is correlated with one that it does touch."""
    along = covariance.diagonal() * ray
    gain = along / (ray @ along + noise_std**2)
    return mean + gain * (value - ray @ mean), covariance - torch.outer(gain, along)


def rays():
    small = torch.tensor([0.5, -1.0]), torch.tensor([[2.0, 0.6], [0.6, 1.0]])
    root = torch.randn(5, 5)
    wide = torch.randn(5), root @ root.T + 0.1 * torch.eye(5), torch.randn(5)
    touch = torch.tensor([1.0, 0.0])
    across = torch.tensor([0.3, 1.5])
    return [(*small, touch, 2.0, 0.5), (*wide, -1.3, 0.7), (*small, across, 0.4, 2.0)]


# ---- 15b.2 debug: how often the truth is within the spread -------------------------------------


def coverage(samples, truth):
    mean, std = samples.mean(0), samples.std(0)
    return ((truth - mean).abs() <= 1.64 * std).float().mean()


def planted_error_of_the_mean(samples, truth):
    mean, std = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    return ((truth - mean).abs() <= 1.64 * std).float().mean()


def variance_of_the_mean(samples, truth):
    """You divided by the number of samples. Don't divide at all: the question is where the truth
    lies, not how well you know the samples' mean."""
    mean, std = samples.mean(0), samples.std(0) / len(samples)
    return ((truth - mean).abs() <= 1.64 * std).float().mean()


def root_the_wrong_way(samples, truth):
    """You multiplied by the root of the number of samples, so nearly everything is covered. The
    spread of the samples needs no factor."""
    mean, std = samples.mean(0), samples.std(0) * len(samples) ** 0.5
    return ((truth - mean).abs() <= 1.64 * std).float().mean()


def one_spread_for_all(samples, truth):
    """You took one spread for all pixels. Each pixel has its own: in some you know more than in
    others."""
    mean, std = samples.mean(0), samples.std()
    return ((truth - mean).abs() <= 1.64 * std).float().mean()


def one_side_only(samples, truth):
    """You look at one side only: a truth far *below* the mean counts as covered."""
    mean, std = samples.mean(0), samples.std(0)
    return ((truth - mean) <= 1.64 * std).float().mean()


def samples_and_truths():
    tiny = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]]), torch.tensor([2.2, 1.0])
    size = torch.tensor([0.1, 0.3, 1.0, 3.0]).repeat(100)
    many = torch.randn(8, 400) * size + 0.5, torch.randn(400) * size + 0.5
    wide = torch.randn(4, 300), 2 * torch.randn(300)
    return [tiny, many, wide]


# ---- 15b.3 write: guidance by known pixels -----------------------------------------------------


def guided_estimate(denoise, xt, alpha, sigma, mask, y, noise_std):
    r2 = sigma**2 / (alpha**2 + sigma**2)
    xt = xt.detach().requires_grad_()
    x0 = denoise(xt)
    residual = mask * (y - x0.detach()) / (noise_std**2 + r2)
    (score,) = torch.autograd.grad(x0, xt, residual)
    return x0.detach() + sigma**2 / alpha * score


def estimate_taken_for_certain(denoise, xt, alpha, sigma, mask, y, noise_std):
    """You left out r²: at high noise the estimate is blurry, and you demand that it agree with y to
    within the noise of the measurement. Divide by noise_std² + r²."""
    xt = xt.detach().requires_grad_()
    x0 = denoise(xt)
    residual = mask * (y - x0.detach()) / noise_std**2
    (score,) = torch.autograd.grad(x0, xt, residual)
    return x0.detach() + sigma**2 / alpha * score


def only_the_known_pixels(denoise, xt, alpha, sigma, mask, y, noise_std):
    """You moved the known pixels directly. The gradient goes *through* the denoiser: that is how
    known pixels say something about their neighbours."""
    r2 = sigma**2 / (alpha**2 + sigma**2)
    x0 = denoise(xt)
    return x0 + sigma**2 / alpha * mask * (y - x0) / (noise_std**2 + r2)


def score_added_as_it_is(denoise, xt, alpha, sigma, mask, y, noise_std):
    """You added the score to the estimate of x0. By x0 = (xt + σ² score) / α it counts σ²/α
    times."""
    r2 = sigma**2 / (alpha**2 + sigma**2)
    xt = xt.detach().requires_grad_()
    x0 = denoise(xt)
    residual = mask * (y - x0.detach()) / (noise_std**2 + r2)
    (score,) = torch.autograd.grad(x0, xt, residual)
    return x0.detach() + score


def away_from_the_measurement(denoise, xt, alpha, sigma, mask, y, noise_std):
    """Your estimate moves away from the measurement: the residual is y − x0, in this order."""
    r2 = sigma**2 / (alpha**2 + sigma**2)
    xt = xt.detach().requires_grad_()
    x0 = denoise(xt)
    residual = mask * (x0.detach() - y) / (noise_std**2 + r2)
    (score,) = torch.autograd.grad(x0, xt, residual)
    return x0.detach() + sigma**2 / alpha * score


def mask_forgotten(denoise, xt, alpha, sigma, mask, y, noise_std):
    """You used y where nothing was measured. Multiply the residual by the mask."""
    r2 = sigma**2 / (alpha**2 + sigma**2)
    xt = xt.detach().requires_grad_()
    x0 = denoise(xt)
    (score,) = torch.autograd.grad(x0, xt, (y - x0.detach()) / (noise_std**2 + r2))
    return x0.detach() + sigma**2 / alpha * score


class Mixing(nn.Module):
    """A denoiser whose outputs all depend on all pixels, non-linearly."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.kwargs = {"matrix": matrix}
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.matrix).tanh()

    def __repr__(self) -> str:
        return "a small denoiser"


def known_pixels():
    xt, y = torch.tensor([[0.6, -0.3]]), torch.tensor([[0.9, 5.0]])
    one = xt, 0.8, 0.5, torch.tensor([1.0, 0.0]), y
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])
    many = torch.randn(3, 5), 0.3, 1.2, mask, torch.randn(3, 5)
    return [
        (Mixing(torch.tensor([[0.7, 0.2], [-0.4, 0.9]])), *one, 0.3),
        (Mixing(torch.randn(5, 5) / 2), *many, 0.7),
    ]


# ---- 15b.6 capstone: a posterior sampler -------------------------------------------------------

BETAS = torch.linspace(1e-4, 0.02, 1000)
ALPHA_BARS = (1 - BETAS).cumprod(0)
PRIOR = torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.72], [0.72, 0.8]])


def exact_noise(x: Tensor, index: int, mean: Tensor = PRIOR[0], covariance: Tensor = PRIOR[1]):
    """The optimal prediction of the noise for that Gaussian."""
    bar = ALPHA_BARS[int(torch.as_tensor(index).flatten()[0])]
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    of_xt = alpha**2 * covariance + sigma**2 * torch.eye(len(mean))
    return sigma * torch.linalg.solve(of_xt, (x - alpha * mean).T).T


def posterior_sampler(network, noise, alpha_bars, matrix, y, noise_std, steps):
    x, T = noise, len(alpha_bars)
    indices = [round(T * (steps - n) / steps) - 1 for n in range(steps)]
    for i, following in zip(indices, [*indices[1:], None], strict=True):
        alpha, sigma = alpha_bars[i].sqrt(), (1 - alpha_bars[i]).sqrt()
        before = torch.tensor(1.0) if following is None else alpha_bars[following]
        x = x.detach().requires_grad_()
        x0 = (x - sigma * network(x, i)) / alpha
        r2 = sigma**2 / (alpha**2 + sigma**2)
        of_y = noise_std**2 * torch.eye(len(matrix)) + r2 * matrix @ matrix.T
        residual = torch.linalg.solve(of_y, (y - x0.detach() @ matrix.T).T).T
        (score,) = torch.autograd.grad(x0, x, residual @ matrix)
        x, x0 = x.detach(), x0.detach() + sigma**2 / alpha * score
        x = before.sqrt() * x0 + (1 - before).sqrt() * (x - alpha * x0) / sigma
    return x


MATRIX, Y, NOISE_STD = torch.tensor([[1.0, -0.4]]), torch.tensor([0.9]), 0.5


def distance_from_the_exact_posterior(answer) -> float:
    """The Wasserstein-2 distance between the samples' Gaussian and the exact posterior."""
    noise = torch.randn(2000, 2)
    noise = noise - noise.mean(0)
    noise = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T.cov())).T  # exactly N(0, 1)
    ends = answer(exact_noise, noise.clone(), ALPHA_BARS, MATRIX, Y, NOISE_STD, 100)
    ends = shaped(ends, (2000, 2), "the samples")
    mean, covariance = exact_posterior(*PRIOR, MATRIX, Y, NOISE_STD)
    return wasserstein(ends.mean(0), ends.T.cov(), mean, covariance)


def wasserstein(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    squared = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return squared.clamp(min=0).sqrt().item()


def measurement_ignored(answer) -> bool:
    """Your samples don't depend on y: they come from the prior."""
    noise = torch.randn(5, 2)
    ends = [
        answer(exact_noise, noise.clone(), ALPHA_BARS, MATRIX, Y + shift, NOISE_STD, 20)
        for shift in (0.0, 1.0)
    ]
    return torch.allclose(*ends, atol=1e-4)


def only_the_mean_survives(answer) -> bool:
    """All noise ends at nearly the same point. That is one estimate; the posterior has a spread.
    Does the noise that belongs to the *new* x0, (x − α x0) / σ, go into the step?"""
    ends = answer(exact_noise, torch.randn(200, 2), ALPHA_BARS, MATRIX, Y, NOISE_STD, 50).detach()
    return ends.std(0).max() < 0.1


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "15b.1": Code(
        after_one_ray,
        rays,
        "A pixel that no ray touches still learns from its neighbours: that is the prior at work.",
        [std_for_variance, noise_forgotten, value_for_surprise, covariance_kept, pixels_alone],
    ),
    "15b.2": Code(
        coverage,
        samples_and_truths,
        "The mean of many samples is known well; where the truth lies is not.",
        [
            variance_of_the_mean,
            root_the_wrong_way,
            one_spread_for_all,
            one_side_only,
        ],
        given=planted_error_of_the_mean,
    ),
    "15b.3": Code(
        guided_estimate,
        known_pixels,
        "With a mask as the measurement, this is inpainting without any training for it.",
        [
            estimate_taken_for_certain,
            only_the_known_pixels,
            score_added_as_it_is,
            away_from_the_measurement,
            mask_forgotten,
        ],
    ),
    "15b.4": Number(
        0.155,
        "Of 1,000 people 20 have a lesion, and 18 of these show it. But 98 of the 980 others show "
        "one, too: 18 of 116. What is rare is mostly invented.",
        within=0.05,
        misconceptions={
            "the share of lesions that are shown": (
                0.9,
                "That is how many of the lesions are shown. The question goes the other way: how "
                "many of those shown are there?",
            ),
            "both at once": (
                0.018,
                "That is the share of all people who have a lesion that shows. Divide it by the "
                "share of all who show one.",
            ),
            "odds": (
                0.018 / 0.098,
                "You divided by the invented ones alone: those are odds. A share is of all that "
                "show one.",
            ),
        },
    ),
    "15b.5": Choice(
        "c",
        {
            "a": "All samples come from the same model and share its mistakes. More of them "
            "measure its spread better, and nothing else.",
            "b": "The spread contains what noise and missing measurements leave open, under this "
            "prior. It does not contain that the prior may be wrong.",
            "c": "For this prior a lesion is impossible, so every sample explains the spot in "
            "another way. Agreement says that the model is sure, not that it is right.",
            "d": "The sampler may be exact here. With a prior of 0, Bayes' rule itself gives 0.",
        },
    ),
    "15b.6": Target(
        posterior_sampler,
        distance_from_the_exact_posterior,
        bound=0.2,  # seeds 0, 1, 2: 0.1759 each; the rest is the method's own approximation
        meaning="the distance from the exact posterior is",
        well_done="Three lines more than DDIM, and any linear measurement steers it.",
        misconceptions=[measurement_ignored, only_the_mean_survives],
    ),
}
