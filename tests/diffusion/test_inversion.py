"""DDIM inversion: closed forms, and that it undoes DDIM where it says so."""

import pytest
import torch

from course_lib.diffusion import Diffusion, invert, sample

W = 0.7


def linear_network(x, timestep, context):
    return W * x


def curved_network(x, timestep, context):
    return 0.3 * torch.sin(x) + 0.2 * torch.cos(timestep).view(-1, 1) * context


def test_one_round_is_eulers_step_and_many_are_the_implicit_one():
    """On the straight path with the velocity W x, a step of 1/n divides by 1 - W / n."""
    process, x0 = Diffusion("straight", "flow"), torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    for steps in (1, 4, 10):
        once = invert(process, linear_network, x0, steps=steps)
        torch.testing.assert_close(once, x0 * (1 + W / steps) ** steps)
        settled = invert(process, linear_network, x0, steps=steps, rounds=200)
        torch.testing.assert_close(settled, x0 / (1 - W / steps) ** steps)


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [("straight", "flow"), ("linear", "eps"), ("cosine", "v"), ("scaled_linear", "v")],
)
def test_many_rounds_find_the_noise_that_ddim_started_from(schedule, prediction):
    process = Diffusion(schedule, prediction)
    noise, context = torch.randn(2, 3, 4, dtype=torch.float64).unbind(0)
    x0 = sample(process, curved_network, noise, context, steps=20)
    found = invert(process, curved_network, x0, context, steps=20, rounds=60)
    torch.testing.assert_close(found, noise, atol=1e-8, rtol=0)
    once = (invert(process, curved_network, x0, context, steps=20) - noise).abs().max()
    many = (invert(process, curved_network, x0, context, steps=20, rounds=3) - noise).abs().max()
    assert many < once / 10 and 1e-4 < once < 0.5


def test_it_costs_an_evaluation_for_each_step_and_round():
    calls = []

    def counted(x, timestep, context):
        calls.append(timestep[0].item())
        return x

    invert(Diffusion("straight", "flow"), counted, torch.ones(1, 2), steps=4, rounds=2)
    assert calls == [250, 250, 500, 500, 750, 750, 1000, 1000]  # never at the clean end


def test_what_cannot_be_inverted_is_refused():
    x0 = torch.ones(1, 2)
    with pytest.raises(ValueError, match="process: expected one that keeps the noise in sight"):
        invert(Diffusion("straight", "x0"), linear_network, x0)
    with pytest.raises(ValueError, match="rounds: expected 1 or more, got 0"):
        invert(Diffusion("straight", "flow"), linear_network, x0, rounds=0)
