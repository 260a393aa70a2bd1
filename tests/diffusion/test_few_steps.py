"""Few steps: the average velocity, its identities on exact flows, couplings and straightness."""

from itertools import permutations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from course_lib.diffusion import (
    PREDICTIONS,
    Diffusion,
    Gaussian,
    GaussianMixture,
    sample,
    straight,
    trajectory,
)
from course_lib.diffusion.few_steps import (
    average,
    consistency,
    flow_map,
    instant,
    mean_flow,
    midpoint,
    optimal_coupling,
    straightness,
    two_steps,
)
from course_lib.models import UNet

FLOW = Diffusion("straight", "flow")
MEAN = torch.tensor([0.3, -0.7]).double()
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]]).double()
EXACT = Gaussian(FLOW, MEAN, COVARIANCE)
MIXTURE = GaussianMixture(FLOW, torch.tensor([[2.0, 0], [-1, 1], [-1, -1]]), 0.05 * torch.ones(3))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def times(*values):
    return torch.tensor(values).double()


def marginal_velocity(x, t, s):
    """The exact velocity of the Gaussian, E[eps - x0 | xt = x], written with tensors alone.

    A test takes its derivative, and a schedule's times carry none.
    """
    t = t[:, None, None]  # (B, 1, 1)
    total = (1 - t) ** 2 * COVARIANCE + t**2 * torch.eye(2).double()
    offset = torch.linalg.solve(total, (x - (1 - t[..., 0]) * MEAN)[..., None])[..., 0]
    return t[..., 0] * offset - MEAN - (1 - t[..., 0]) * offset @ COVARIANCE


def average_velocity(x, t, s):
    """The exact average velocity of the Gaussian, from the closed form of its flow."""
    t, s = t[:, None, None], s[:, None, None]
    variances, axes = torch.linalg.eigh(COVARIANCE)
    ratio = ((1 - s) ** 2 * variances + s**2) / ((1 - t) ** 2 * variances + t**2)  # (B, 1, 2)
    offset = (x - (1 - t[..., 0]) * MEAN) @ axes
    x_s = (1 - s[..., 0]) * MEAN + (ratio[:, 0].sqrt() * offset) @ axes.mT
    return (x - x_s) / (t - s)[..., 0]


X, T, S = randn(4, 2), times(1.0, 0.9, 0.6, 0.35), times(0.0, 0.2, 0.1, 0.3)


def test_the_velocities_of_these_tests_are_the_librarys():
    v = instant(EXACT)(X, T, S)
    torch.testing.assert_close(marginal_velocity(X, T, S), v)
    x_s = X - (T - S)[:, None] * average_velocity(X, T, S)
    torch.testing.assert_close(x_s, EXACT.flow_map(X, T, S))


def test_the_flow_map_of_a_gaussian_is_what_many_small_steps_find():
    noise = randn(50, 2, seed=1)
    walked = sample(FLOW, EXACT, noise, steps=1000, sampler="heun")
    # second order: a thousand steps leave about 1e-6; the last is Euler's, which leaves a little
    torch.testing.assert_close(EXACT.flow_map(noise, 1.0, 0.0), walked, atol=2e-4, rtol=0)
    half = EXACT.flow_map(noise, 1.0, 0.4)
    torch.testing.assert_close(EXACT.flow_map(half, 0.4, 0.0), EXACT.flow_map(noise, 1.0, 0.0))
    there = GaussianMixture.forward(EXACT, half, 1000 * torch.full((50,), 0.4).double())
    assert (there - (noise - EXACT.flow_map(noise, 1.0, 0.0))).abs().max() > 0.1  # it is curved


def test_displacements_of_the_exact_average_velocity_add_up():
    """So consistency distillation and shortcuts have zero loss there, at whatever m."""
    for share in (0.01, 0.5, 0.9):
        m = T - share * (T - S)
        target = two_steps(average_velocity, average_velocity, X, T, m, S)
        torch.testing.assert_close(target, average_velocity(X, T, S), rtol=1e-10, atol=1e-10)


def test_consistency_with_a_teachers_step_is_exact_to_first_order_in_its_length():
    errors = []
    for length in (0.02, 0.01):
        target = two_steps(marginal_velocity, average_velocity, X, T, T - length, S)
        errors.append((target - average_velocity(X, T, S)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # length · (length of the step)
    wrong = two_steps(marginal_velocity, marginal_velocity, X, T, T - 0.01, S)
    assert (wrong - average_velocity(X, T, S)).abs().max() > 20 * errors[1]


def test_a_midpoint_step_is_exact_to_second_order_in_its_length():
    """Of dx/dt = x, whose average velocity over h is x (1 - exp(-h)) / h."""
    errors = []
    for length in (0.02, 0.01):
        found = midpoint(lambda x, t, s: x)(X, T, T - length)
        exact = X * (1 - torch.exp(times(-length))) / length
        errors.append((found - exact).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # Euler's error only halves


def test_the_exact_average_velocity_obeys_the_mean_flow_identity():
    target = mean_flow(average_velocity, marginal_velocity(X, T, S), X, T, S)
    torch.testing.assert_close(target, average_velocity(X, T, S), rtol=1e-8, atol=1e-8)
    wrong = mean_flow(marginal_velocity, marginal_velocity(X, T, S), X, T, S)
    assert (wrong - average_velocity(X, T, S)).abs().max() > 0.05


def test_with_an_interval_of_length_0_mean_flow_is_flow_matching():
    x0, eps, network = randn(8, 2, seed=3), randn(8, 2, seed=4), torch.nn.Linear(3, 2).double()

    def u(x, t, s):
        return network(torch.cat([x, t[:, None]], 1))

    t = torch.rand(8, generator=torch.Generator().manual_seed(5)).double()
    xt = FLOW.add_noise(x0, t, eps)
    loss = (u(xt, t, t) - mean_flow(u, eps - x0, xt, t, t)).square().mean()
    plain = FLOW.loss(lambda x, timestep, context: u(x, timestep / 1000, t), x0, t=t, eps=eps)
    torch.testing.assert_close(loss, plain)


def test_the_average_velocity_of_a_straight_field_is_the_instantaneous_one():
    """One point of data: every path is straight, and one step of any method lands on it."""
    network = Gaussian(FLOW, MEAN, 0.0)
    v = instant(network)
    x_s, s = network.flow_map(X, T, S), S[:, None]
    torch.testing.assert_close(v(X, T, S), (X - x_s) / (T[:, None] - s))
    torch.testing.assert_close(two_steps(v, v, X, T, (T + S) / 2, S), v(X, T, S))
    one = sample(FLOW, network, X, steps=1)
    torch.testing.assert_close(one, MEAN.expand(4, 2))


def test_reflow_of_the_exact_field_gives_straight_paths():
    """Pairs (noise, where the exact flow takes it): no two of their chords cross in one dimension.

    So the marginal velocity of the coupled pairs is the chord itself (Liu et al. 2023, section 2).
    """
    flow = Gaussian(FLOW, torch.tensor([1.0]).double(), 0.04)
    eps = torch.linspace(-2, 2, 8).double()[:, None]  # without 0, whose path is straight
    x0 = flow.flow_map(eps, 1.0, 0.0)
    grid = [1 - i / 40 for i in range(41)]
    curved = torch.stack([flow.flow_map(eps, 1.0, t) for t in grid])
    reflowed = torch.stack([FLOW.add_noise(x0, t, eps) for t in grid])
    assert (reflowed.diff(dim=1) > 0).all()  # at every time the paths keep their order
    assert straightness(reflowed, grid).max() < 1e-20
    assert straightness(curved, grid).min() > 1e-3


def test_conditional_paths_are_straight_and_marginal_ones_are_not():
    noise = randn(64, 2, seed=6).float()
    grid = [1 - i / 50 for i in range(51)]
    path = [*trajectory(FLOW, MIXTURE, noise, steps=50)]
    x0 = MIXTURE.sample(64, torch.Generator().manual_seed(0))
    conditional = [FLOW.add_noise(x0, t, noise) for t in grid]
    assert straightness(conditional, grid).max() < 1e-6
    assert straightness(path, grid).median() > 0.01


def test_straightness_is_an_integral_of_the_squared_deviation():
    """x = sin(pi t / 2) has chord 1 and deviation pi²/8 - 1."""
    grid = [1 - i / 2000 for i in range(2001)]
    path = [torch.tensor([[t * torch.pi / 2]]).double().sin() for t in grid]
    assert straightness(path, grid).item() == pytest.approx(torch.pi**2 / 8 - 1, abs=1e-5)
    with pytest.raises(ValueError, match="path: expected x at 2001 times, got 3"):
        straightness(path[:3], grid)


def test_the_optimal_coupling_is_the_best_of_all_permutations():
    x0, eps = randn(6, 2, seed=7), randn(6, 2, seed=8)
    coupled = optimal_coupling(x0, eps)
    best = min((x0 - eps[list(order)]).square().sum() for order in permutations(range(6)))
    torch.testing.assert_close((x0 - coupled).square().sum(), best)
    assert best < (x0 - eps).square().sum()
    assert sorted(coupled.tolist()) == sorted(eps.tolist())  # the same noise, in another order
    with pytest.raises(ValueError, match="eps: expected noise"):
        optimal_coupling(x0, eps[:5])


def test_the_optimal_coupling_makes_marginal_paths_straighter():
    """With pairs that hardly cross, the nearest pair decides the velocity early."""
    x0 = MIXTURE.sample(128, torch.Generator().manual_seed(0))
    eps = randn(128, 2, seed=9).float()
    crossings = {}
    for name, noise in (("independent", eps), ("optimal", optimal_coupling(x0, eps))):
        v = noise - x0
        xt = FLOW.add_noise(x0, 0.5, noise)
        nearest = torch.cdist(xt, xt).fill_diagonal_(torch.inf).argmin(1)
        crossings[name] = (v - v[nearest]).square().sum(1).mean()  # neighbours that disagree
    assert crossings["optimal"] < crossings["independent"] / 2


def test_the_flow_loss_is_the_eps_loss_weighted_by_one_over_alpha_squared():
    noise_process = Diffusion("straight", "eps")
    x0, eps, t = randn(8, 2, seed=1), randn(8, 2, seed=2), torch.linspace(0.1, 0.9, 8).double()
    predicted = randn(8, 2, seed=3)

    def as_flow(x, timestep, context):
        x0, eps = noise_process.x0_and_eps(predicted, x, t)
        return eps - x0

    flow = FLOW.errors(as_flow, x0, None, t, eps)
    noise = noise_process.errors(lambda x, timestep, context: predicted, x0, None, t, eps)
    torch.testing.assert_close(flow, noise / (1 - t) ** 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_any_rows_loss_over_its_squared_determinant_is_the_flows(name):
    row = Diffusion("straight", name)
    x0, eps, t = randn(8, 2, seed=1), randn(8, 2, seed=2), torch.linspace(0.1, 0.9, 8).double()
    xt, predicted = FLOW.add_noise(x0, t, eps), randn(8, 2, seed=3)
    x0_hat, eps_hat = row.x0_and_eps(predicted, xt, t)
    errors = (predicted - row.target(x0, eps, t)) / row.determinant(t)[:, None]
    torch.testing.assert_close(errors, (eps_hat - x0_hat) - (eps - x0))
    expected = {"eps": 1 - t, "x0": -t, "v": (1 - t) ** 2 + t**2, "flow": torch.ones(8).double()}
    torch.testing.assert_close(row.determinant(t), expected[name])


def test_the_loss_is_the_distance_from_the_marginal_velocity_plus_a_constant():
    """The constant is the mean of the mixture's minimum loss."""
    x0 = MIXTURE.sample(200_000, torch.Generator().manual_seed(0)).double()
    eps = randn(200_000, 2, seed=1)
    t = torch.rand(200_000, generator=torch.Generator().manual_seed(2)).double() * 0.9 + 0.05
    xt = FLOW.add_noise(x0, t, eps)
    u = MIXTURE(xt, FLOW.timestep(t, xt))
    f = u + torch.sin(3 * xt)
    left = (f - (eps - x0)).square().mean()
    right = (f - u).square().mean() + MIXTURE.minimum_loss(xt, t).mean()
    assert left.item() == pytest.approx(right.item(), rel=0.01)  # 3 standard errors
    assert (u - (eps - x0)).mean().abs() < 0.01


def test_exchanging_the_noises_of_two_lines_that_meet_makes_their_pairs_closer():
    t, x0, eps, other = 0.3, *randn(3, 2, seed=4)
    other_x0 = x0 + t / (1 - t) * (eps - other)  # both lines are at the same place at t
    torch.testing.assert_close(
        FLOW.add_noise(x0[None], t, eps[None]), FLOW.add_noise(other_x0[None], t, other[None])
    )

    def cost(first, second):
        return (first - x0).square().sum() + (second - other_x0).square().sum()

    change = cost(other, eps) - cost(eps, other)
    torch.testing.assert_close(change, -2 * t / (1 - t) * (eps - other).square().sum())


def test_pairs_in_are_the_pairs_out_and_what_bends_and_what_crosses():
    """Exact for a Gaussian, where each part is a quadratic form of the noise."""
    noise = randn(1000, 2, seed=5)
    noise = noise - noise.mean(0)
    noise = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T.cov(correction=0))).mT
    grid = [1 - i / 400 for i in range(401)]
    path = [EXACT.flow_map(noise, 1.0, t) for t in grid]
    chords = (noise - path[-1]).square().sum(1)
    bent = (straightness(path, grid) * chords).mean()
    middles = [(i + 0.5) / 400 for i in range(400)]
    crossing = 2 * sum(EXACT.minimum_loss(X[:1], t).item() for t in middles) / 400
    pairs_in = COVARIANCE.trace() + MEAN.square().sum() + 2
    total = chords.mean() + bent + crossing
    assert total.item() == pytest.approx(pairs_in.item(), abs=1e-3)
    assert min(bent.item(), crossing) > 0.02


def exact_network(x, timestep, context):
    """The exact average velocity as a network for intervals, whose timestep is (B, 2)."""
    start, end = (timestep.double() / 1000).unbind(1)
    return average_velocity(x, start, end)


def test_one_step_of_the_average_velocity_is_exact_on_any_grid():
    noise = randn(20, 2, seed=2)
    exact = EXACT.flow_map(noise, 1.0, 0.0)
    for steps, shift in ((1, 1.0), (3, 1.0), (4, 2.0)):  # a shift only chooses other times
        process = Diffusion(straight(shift), "flow")
        x0 = sample(process, exact_network, noise, steps=steps, sampler=flow_map)
        torch.testing.assert_close(x0, exact)
    euler = sample(FLOW, EXACT, noise, steps=3)
    assert (euler - exact).abs().max() > 0.05


def test_consistency_sampling_draws_from_the_data():
    """Each step jumps to data and adds fresh noise, so every x0 is a sample of the Gaussian."""
    torch.manual_seed(0)
    x0 = sample(FLOW, exact_network, randn(20000, 2, seed=3), steps=3, sampler=consistency)
    torch.testing.assert_close(x0.mean(0), MEAN, atol=0.02, rtol=0)  # 4 standard errors
    torch.testing.assert_close(x0.T.cov(), COVARIANCE, atol=0.03, rtol=0)
    once = sample(FLOW, exact_network, X, steps=1, sampler=consistency)
    torch.testing.assert_close(once, EXACT.flow_map(X, 1.0, 0.0))


KEYWORDS = dict(in_channels=4, channels=8, multipliers=(1,), attention=(True,), context_dim=6)


def test_a_unet_for_intervals_starts_as_the_ordinary_one():
    torch.manual_seed(0)
    plain, interval = UNet(**KEYWORDS), UNet(**KEYWORDS, interval=True)
    for parameter in plain.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    missing = interval.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(name.startswith("time_embedding.length.") for name in missing.missing_keys)
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 6)
    t, s = torch.tensor([1.0, 0.4]), torch.tensor([0.5, 0.0])
    expected = instant(plain, context)(x, t, s)
    torch.testing.assert_close(average(interval, context)(x, t, s), expected)
    torch.testing.assert_close(instant(interval, context)(x, t, s), expected)
    for parameter in interval.time_embedding.length.parameters():
        parameter.data += 0.1
    assert (average(interval, context)(x, t, s) - expected).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"timestep: expected \(2,\), as many as x, got \(2, 2\)"):
        average(plain, context)(x, t, s)
    with pytest.raises(ValueError, match=r"timestep: expected \(2,\) or \(2, 2\), as many as x"):
        interval(x, torch.zeros(2, 3), context)


def test_the_mean_flow_of_a_unet_is_its_derivative_along_the_path():
    """Forward mode through convolutions, norms and attention, against reverse mode, twice."""
    torch.manual_seed(0)
    unet = UNet(**KEYWORDS, interval=True).double()
    for parameter in unet.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    x, v, context = randn(2, 4, 8, 8), randn(2, 4, 8, 8, seed=1), randn(2, 5, 6, seed=2)
    t, s = times(0.8, 0.5), times(0.1, 0.5)
    u = average(unet, context)
    with sdpa_kernel(SDPBackend.MATH):
        along = (v, torch.ones_like(t))
        _, slope = torch.autograd.functional.jvp(lambda x, t: u(x, t, s), (x, t), along)
    expected = v - (t - s)[:, None, None, None] * slope
    assert slope.abs().max() > 0.1
    torch.testing.assert_close(mean_flow(u, v, x, t, s), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected[1], v[1])  # length 0
