"""Chapter 14's formulas against the library, and its capstone with sound and unsound models."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.diffusion import Diffusion, Gaussian, straight
from course_lib.diffusion.few_steps import average, optimal_coupling, two_steps
from course_lib.diffusion.schedules import Schedule
from course_lib.exercises import ch14_capstone
from course_lib.exercises.ch14 import (
    EXERCISES,
    SmallAverage,
    reflow_loss,
    target,
    unpatchify,
    velocity,
    weight,
)
from course_lib.exercises.ch14_capstone import IntervalNetwork, shortcut_model, sliced_distance

CAPSTONE = ch14_capstone.EXERCISES["14.7"]


def test_the_velocity_is_the_derivative_of_the_quarter_circle():
    x0, eps = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor(0.37).double()

    def path(t):
        return (torch.pi / 2 * t).cos() * x0 + (torch.pi / 2 * t).sin() * eps

    x, derivative = torch.func.jvp(path, (t,), (torch.ones_like(t),))
    torch.testing.assert_close(velocity(x, x0, t), derivative)
    circle = Schedule(lambda t: ((t * torch.pi / 2).cos(), (t * torch.pi / 2).sin()))
    v = Diffusion(circle, "v").target(x0, eps, 0.37)
    torch.testing.assert_close(derivative, torch.pi / 2 * v)


def test_velocities_in_any_style_are_right():
    def in_parts(x, x0, t):
        angle = math.pi * t / 2
        eps = (x - torch.cos(angle) * x0) / torch.sin(angle)
        return math.pi / 2 * (torch.cos(angle) * eps - torch.sin(angle) * x0)

    def in_numpy(x, x0, t):
        x, x0, angle = x.numpy(), x0.numpy(), math.pi / 2 * t.numpy()
        return math.pi / 2 * (x / np.tan(angle) - x0 / np.sin(angle))

    for answer in (in_parts, in_numpy):
        assert EXERCISES["14.1"].examine(answer).status == "right"


def test_the_weight_turns_the_error_of_x0_into_that_of_the_flow():
    """On the straight path, with our own loss and any network's error."""
    t, x0, estimate = 0.3, torch.randn(4, 2), torch.randn(4, 2)
    process = Diffusion("straight", "flow")
    xt = process.add_noise(x0, t, torch.randn(4, 2))
    alpha, sigma = process.at(t, xt)
    errors = [process.target(each, (xt - alpha * each) / sigma, t) for each in (x0, estimate)]
    expected = (errors[0] - errors[1]).square() / (x0 - estimate).square()
    torch.testing.assert_close(weight(alpha, sigma, -1, 1).expand(4, 2), expected)


def test_the_boundary_is_where_optimal_pairs_change_their_end():
    noise = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    x0 = torch.tensor([-1.0] * 250 + [3.0] * 750)[:, None]
    paired = optimal_coupling(x0, noise)
    boundary = (paired[:250].max() + paired[250:].min()) / 2
    assert paired[:250].max() < paired[250:].min()
    assert boundary.item() == pytest.approx(EXERCISES["14.3"].right, abs=0.1)
    normal = torch.distributions.Normal(0.0, 1.0)
    assert normal.icdf(torch.tensor(0.25)).item() == pytest.approx(-0.6745, abs=1e-4)


def test_reflow_of_a_gaussians_own_flow_can_be_fitted_exactly():
    """With the pair, the teacher's end is a function of the noise; so the loss can be 0."""
    teacher = Gaussian(Diffusion(straight(), "flow"), torch.zeros(2), 0.25)
    noise, t = torch.randn(8, 2), torch.rand(8, 1)

    def old(x, t):
        return teacher(x, torch.full((len(x),), 1000.0 * t))

    x0 = noise
    for n in range(10):
        x0 = x0 - old(x0, 1 - n / 10) / 10
    kept = (x0 / noise)[0, 0]

    def student(x, t):
        return (1 - kept) * x / ((1 - t) * kept + t)

    assert reflow_loss(student, old, noise, t, 10) < 1e-10


def test_the_target_of_two_steps_is_the_librarys():
    torch.manual_seed(0)
    u, x = SmallAverage(3), torch.randn(4, 3)
    times = torch.rand(3, 4).sort(0, descending=True).values

    def network(x, timestep, context):
        return u(x, timestep[:, :1] / 1000, timestep[:, 1:] / 1000)

    expected = two_steps(average(network), average(network), x, *times)
    torch.testing.assert_close(target(u, x, times[..., None]), expected.detach())


def test_targets_in_any_style_are_right():
    def displacements(u, x, times):
        total = torch.zeros_like(x)
        for t, s in pairwise(times):
            total = total + (t - s) * u(x - total, t, s).detach()
        return total / (times[0] - times[-1])

    @torch.no_grad()
    def decorated(u, x, times):
        if len(times) == 2:
            return u(x, times[0], times[1])
        first = u(x, times[0], times[1])
        rest = decorated(u, x - (times[0] - times[1]) * first, times[1:])
        a, b = times[0] - times[1], times[1] - times[-1]
        return (a * first + b * rest) / (a + b)

    for answer in (displacements, decorated):
        assert EXERCISES["14.5"].examine(answer).status == "right"


def test_wide_pictures_in_any_style():
    picture = torch.randn(2, 3, 4, 6)
    tokens = F.unfold(picture, 2, stride=2).mT.unflatten(2, (3, 4)).mT.flatten(2)  # p·p·C
    assert torch.equal(unpatchify(tokens, 2, 4), picture)

    def with_einsum(tokens, patch_size, height):
        B, N, D = tokens.shape
        h, p = height // patch_size, patch_size
        x = tokens.reshape(B, h, N // h, p, p, D // p**2)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(B, -1, height, N // h * p)

    def with_fold(tokens, patch_size, height):
        width = tokens.shape[1] * patch_size**2 // height
        columns = tokens.unflatten(2, (patch_size**2, -1)).mT.flatten(2).mT
        return F.fold(columns, (height, width), patch_size, stride=patch_size)

    for answer in (with_einsum, with_fold, lambda *inputs: unpatchify(*inputs).numpy()):
        assert EXERCISES["14.6"].examine(answer).status == "right"


# the capstone


def changed(network, points, steps, moved=1.0, fresh=False, ask=True, small=True, train=True):
    """A shortcut model with one mistake; a reader's own few lines, in another style."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(steps):
        x0, eps = points[torch.randperm(len(points))[:256]], torch.randn(256, 2)
        count = 2.0 ** torch.randint(5, (256, 1)) if small else torch.ones(256, 1)
        k = (torch.rand(256, 1) * count).floor()
        t, s = (k + 1) / count, k / count
        t[64:] = s[64:] = torch.rand(192, 1)
        x = (1 - t) * x0 + t * eps
        goal = (torch.randn(256, 2) if fresh else eps) - x0
        with torch.no_grad():
            half, a, b, c = (t - s)[:64] / 2, t[:64], (t + s)[:64] / 2, s[:64]
            first = network(x[:64], a, {True: b, False: a, "whole": c}[ask])
            second = network(x[:64] - moved * half * first, b, c if ask else b)
        goal = torch.cat([(first + second) / 2, goal[64:]])
        loss = (network(x, t, s) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if train:
            optimizer.step()
    return lambda noise, evaluations: drawn(network, noise, evaluations)


@torch.no_grad()
def drawn(network, noise, evaluations, instants=False, upwards=False, twice=False):
    x = noise
    times = [1 - n / evaluations for n in range(evaluations + 1)]
    for t, s in pairwise(times):
        t, s = (torch.full((len(x), 1), each) for each in ((1 - t, 1 - s) if upwards else (t, s)))
        u = network(x, t, t if instants else s)
        u = network(x, t, s) if twice else u
        x = x - u / evaluations
    return x


def flow_matching_alone(network, points, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        x0, eps = points[torch.randint(len(points), (256,))], torch.randn(256, 2)
        t = torch.rand(256, 1)
        loss = (network((1 - t) * x0 + t * eps, t, t) - (eps - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lambda noise, evaluations: drawn(network, noise, evaluations)


def sampled(**mistake):
    """The model trained for at most three steps, and drawn with a mistake."""

    def answer(network, points, steps):
        changed(network, points, min(steps, 3))
        return lambda noise, evaluations: drawn(network, noise, evaluations, **mistake)

    return answer


def test_the_capstones_reference_reaches_its_target():
    assert CAPSTONE.examine(shortcut_model).status == "right"


def test_the_capstone_accepts_another_style():
    verdict = CAPSTONE.examine(changed)
    assert verdict.status == "right", verdict


def test_an_attempt_is_told_from_none():
    assert CAPSTONE.examine(...).status == "not attempted"
    assert CAPSTONE.examine(lambda *inputs: ...).status == "not attempted"


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (lambda *inputs: changed(*inputs, train=False), "network_left_as_it_was"),
        (flow_matching_alone, "trained_on_instants"),
        (sampled(twice=True), "too_many_evaluations"),
        (sampled(upwards=True), "started_at_the_clean_end"),
        (sampled(instants=True), "drawn_in_instants"),
        (lambda *inputs: changed(*inputs, moved=0.0), "started_elsewhere"),
        (lambda *inputs: changed(*inputs, moved=2.0), "started_elsewhere"),
        (lambda *inputs: changed(*inputs, ask="whole"), "asked_for_the_whole"),
        (lambda *inputs: changed(*inputs, ask=False), None),
        (lambda *inputs: changed(*inputs, fresh=True), None),
        (lambda network, points, steps: changed(network, points, 50), None),
    ],
)
def test_the_capstone_refuses_unsound_models(answer, mistake):
    verdict = CAPSTONE.examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake), verdict


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (7, "expected a function"),
        (lambda noise, evaluations: noise[:5], r"expected a tensor of shape \(4000, 2\)"),
        (lambda noise, evaluations: noise / 0, "infinite or NaN"),
    ],
)
def test_what_cannot_be_measured_is_said(draw, told):
    def answer(network, points, steps):
        changed(network, points, 1)
        return draw

    verdict = CAPSTONE.examine(answer)
    assert verdict.status == "wrong" and re.search(told, verdict.message)


def test_the_network_says_which_times_it_expects():
    with pytest.raises(ValueError, match="t: expected a tensor of shape"):
        IntervalNetwork()(torch.zeros(5, 2), torch.ones(5), torch.zeros(5))


def test_the_distance_between_shifted_sets():
    points = torch.randn(200, 2)
    assert sliced_distance(points, points.flip(0)) == pytest.approx(0, abs=1e-6)
    assert sliced_distance(points, points + torch.tensor([3.0, 4.0])) == pytest.approx(
        5 / 2**0.5, rel=1e-4
    )
