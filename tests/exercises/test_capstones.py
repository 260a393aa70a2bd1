"""Each capstone's reference reaches its target, and typical failures don't."""

import pytest
import torch
from torch import nn

from course_lib.exercises import capstones
from course_lib.exercises.capstones import (
    EXERCISES,
    CrossAttention,
    ScaledLinear,
    SmallVAE,
    ddim,
    guided_ddim,
)
from course_lib.teaching.check import Target, Unusable


@pytest.mark.parametrize("number", EXERCISES)
def test_the_reference_reaches_the_target(number):
    exercise = EXERCISES[number]
    verdict = exercise.examine(exercise.reference)
    assert verdict.status == "right", verdict
    assert exercise.examine(...).status == "not attempted"
    assert exercise.examine(lambda *inputs: ...).status == "not attempted"


class EvenBetas(ScaledLinear):
    def __init__(self, steps, first, last):
        self.alpha_bars = (1 - torch.linspace(first, last, steps)).cumprod(0)


class OneLate(ScaledLinear):
    def noise(self, x0, t, eps):
        return super().noise(x0, (t + 1).clamp(max=len(self.betas)), eps)


class NoRoots(ScaledLinear):
    def noise(self, x0, t, eps):
        bar = self.alpha_bars[t - 1].reshape(-1, *[1] * (x0.dim() - 1))
        return bar * x0 + (1 - bar) * eps


def no_step(network, points, alpha_bars, steps):
    return network


def one_time_only(network, points, alpha_bars, steps):
    return capstones.train(network, points, alpha_bars[:1], 300)


def no_noise(network, points, alpha_bars, steps):
    """Trained to predict the data."""
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        x0 = points[torch.randint(len(points), (256,))]
        loss = (network(x0, torch.randint(1000, (256,))) - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def ended_at_noise(network, noise, alpha_bars, steps):
    return ddim(network, noise, alpha_bars.flip(0), steps)


def told_the_step(network, noise, alpha_bars, steps):
    return ddim(lambda x, i: network(x, i // 2), noise, alpha_bars, steps)


def random_steps(network, noise, alpha_bars, steps):
    return ddim(network, noise, alpha_bars, steps) + 0.1 * torch.randn_like(noise)


def called_twice(network, noise, alpha_bars, steps):
    return ddim(lambda x, i: (network(x, i) + network(x, i)) / 2, noise, alpha_bars, steps)


class NoKL(SmallVAE):
    def loss(self, x, variance):
        mu, _ = self.encode(x)
        return (x - self.decode(mu)).square().sum(1).mean() / (2 * variance)


class Averaged(SmallVAE):
    def loss(self, x, variance):
        mu, logvar = self.encode(x)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        return (x - self.decode(z)).square().mean() / (2 * variance) + kl


class LossOfItsOwn(SmallVAE):
    """A VAE whose loss combines squared error (B,), KL (B,) and the variance in another way."""

    def loss(self, x, variance):
        mu, logvar = self.encode(x)
        error = (x - self.decode(self.sampled(mu, logvar))).square().sum(1)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
        return self.combined(error, kl, variance)

    def sampled(self, mu, logvar):
        return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


class Subtracted(LossOfItsOwn):
    def combined(self, error, kl, variance):
        return (error / (2 * variance) - kl).mean()


class NoHalf(LossOfItsOwn):
    def combined(self, error, kl, variance):
        return (error / variance + kl).mean()


class Summed(LossOfItsOwn):
    def combined(self, error, kl, variance):
        return (error / (2 * variance) + kl).sum()


class NoNoise(LossOfItsOwn):
    def sampled(self, mu, logvar):
        return mu

    def combined(self, error, kl, variance):
        return (error / (2 * variance) + kl).mean()


class NoWords(CrossAttention):
    def forward(self, x, context):
        return x + self.to_out(self.to_q(x)) + 0 * context.sum()


class FirstWordOnly(CrossAttention):
    def forward(self, x, context):
        return super().forward(x, context[:, :1])


class OverPositions(CrossAttention):
    def forward(self, x, context):
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        return x + self.to_out((q @ k.mT).softmax(dim=1) @ v)


def from_the_condition(network, noise, alpha_bars, labels, null, scale, steps):
    return guided_ddim(network, noise, alpha_bars, labels, null, scale + 1, steps)


def never_guided(network, noise, alpha_bars, labels, null, scale, steps):
    return ddim(lambda x, i: network(x, i, labels), noise, alpha_bars, steps)


def half_the_scale(network, noise, alpha_bars, labels, null, scale, steps):
    return guided_ddim(network, noise, alpha_bars, labels, null, scale / 2, steps)


FAILURES = [
    ("1.6", EvenBetas, "betas_evenly_spaced"),
    ("1.6", OneLate, "one_step_late"),
    ("1.6", NoRoots, None),
    ("2.6", no_step, "network_left_as_it_was"),
    ("2.6", one_time_only, None),
    ("2.6", no_noise, None),
    ("3.6", ended_at_noise, None),
    ("3.6", told_the_step, None),
    ("3.6", random_steps, "fresh_noise_added"),
    ("3.6", called_twice, "too_many_calls"),
    ("5.6", NoKL, "kl_left_out"),
    ("5.6", Averaged, "error_averaged_over_pixels"),
    ("5.6", Subtracted, "kl_with_a_minus"),
    ("5.6", NoHalf, "error_without_the_half"),
    ("5.6", Summed, "summed_over_the_batch"),
    ("5.6", NoNoise, "no_noise_in_the_latent"),
    ("7.6", NoWords, "words_not_read"),
    ("7.6", FirstWordOnly, None),
    ("7.6", OverPositions, "positions_mixed"),
    ("8.6", from_the_condition, "scale_counted_from_the_condition"),
    ("8.6", never_guided, "scale_counted_from_the_condition"),
    ("8.6", half_the_scale, None),
]


@pytest.mark.parametrize(("number", "answer", "mistake"), FAILURES)
def test_failures_are_refused_and_named_where_known(number, answer, mistake):
    verdict = EXERCISES[number].examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict
    assert "\n" not in verdict.message


def test_a_target_says_what_was_reached_and_what_went_wrong():
    def run(answer):
        value = answer()
        if value is None:
            raise Unusable("it returns nothing.")
        return value

    exercise = Target(lambda: 1, run, 2.0, "the loss is", "Well.")
    assert exercise.examine(lambda: 1.5).message == (
        ": the loss is 1.5, and at most 2 was asked for. Well."
    )
    assert exercise.examine(lambda: 3).message == ": the loss is 3; the target is at most 2."
    assert exercise.examine(lambda: float("nan")).status == "wrong"
    assert exercise.examine(lambda: print()).message == ": it returns nothing."
    assert "your line `" in exercise.examine(lambda: [][0]).message
    assert exercise.examine(7).message == ": expected a function or a class, got 7."


def test_a_class_with_a_method_left_open_is_not_attempted():
    class Open(nn.Module):
        def forward(self, x, context): ...

    assert EXERCISES["7.6"].examine(Open).status == "not attempted"
