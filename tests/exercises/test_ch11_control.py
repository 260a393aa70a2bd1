"""Exercises 11.5 and 11.6 against autograd and the library."""

import torch

from course_lib.diffusion import Diffusion, Gaussian, reward_guided
from course_lib.exercises import ch11_control
from course_lib.models.controlnet import zero_convolution


def test_the_first_step_is_autograds():
    """Equation (11.7) for a real zero convolution, on a batch."""
    for h, wanted, lr in ch11_control.features_and_wanted():
        zero = torch.nn.Conv2d(h.shape[1], wanted.shape[1], 1)
        torch.nn.init.zeros_(zero.weight), torch.nn.init.zeros_(zero.bias)
        h.requires_grad_()
        (zero(h) - wanted).square().mean().backward()
        torch.optim.SGD(zero.parameters(), lr=lr).step()
        weight, bias = ch11_control.first_step(h.detach(), wanted, lr)
        torch.testing.assert_close(weight, zero.weight[..., 0, 0].detach())
        torch.testing.assert_close(bias, zero.bias.detach())
        assert weight.abs().max() > 0 and not h.grad.any()  # nothing behind it learns yet


def test_a_zero_convolution_is_zero_and_after_one_step_passes_a_gradient_on():
    torch.manual_seed(0)
    zero, h = zero_convolution(3), torch.randn(2, 3, 4, 4, requires_grad=True)
    assert not zero(h).any()
    for behind in (False, True):
        h.grad = None
        zero.zero_grad()
        (zero(h) - 1).square().mean().backward()
        assert zero.weight.grad.any() and bool(h.grad.any()) == behind
        torch.optim.SGD(zero.parameters(), lr=0.1).step()


def test_climbing_the_flow_is_what_the_library_does():
    """Equation (11.9), for a network that predicts the flow on a path that isn't straight."""
    torch.manual_seed(0)
    process = Diffusion("cosine", "flow")
    prior = Gaussian(process, torch.randn(8), 0.5 * torch.eye(8))

    def network(x, timestep, context=None):
        return prior(x.flatten(1), timestep).view_as(x)

    def reward(x0):
        return -(x0.flatten(1) - 1).square().sum(1)

    x, t = torch.randn(3, 2, 2, 2), torch.tensor([0.3, 0.5, 0.8]).double()
    timestep = process.timestep(t, x)
    x.requires_grad_()
    flow = network(x, timestep)
    x0, _ = process.x0_and_eps(flow, x, t)
    (slope,) = torch.autograd.grad(reward(x0).sum(), x)
    alpha, sigma = (each.float() for each in process.schedule(t))
    by_hand = ch11_control.climb(flow.detach(), slope, alpha, sigma, 0.4)
    steered = reward_guided(process, network, reward, 0.4)(x.detach(), timestep)
    torch.testing.assert_close(steered, by_hand, rtol=1e-4, atol=1e-5)
