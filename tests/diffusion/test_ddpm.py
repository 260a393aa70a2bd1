"""DDPM: the paper's equations by hand, the same numbers as Diffusion, buffers on the device."""

import pytest
import torch
from torch import nn

from course_lib.diffusion import DDPM, Diffusion, generators, initial_noise, linear, trajectory


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x, timestep, context=None):
        self.seen = timestep
        return (self.scale * x + timestep.view(-1, *[1] * (x.dim() - 1)) / 1000).sin()


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_tables_by_hand():
    ddpm = DDPM(Net(), timesteps=4, beta_start=0.1, beta_end=0.4)
    betas, bars = [0.1, 0.2, 0.3, 0.4], [0.9, 0.72, 0.504, 0.3024]
    close = lambda name, values: torch.testing.assert_close(getattr(ddpm, name), values)  # noqa: E731
    close("betas", torch.tensor(betas))
    close("alphas", torch.tensor([0.9, 0.8, 0.7, 0.6]))
    close("alpha_bars", torch.tensor(bars))
    tildes = [0.0] + [(1 - bars[i - 1]) / (1 - bars[i]) * betas[i] for i in (1, 2, 3)]
    close("beta_tildes", torch.tensor(tildes))


def test_tables_are_float64_until_they_are_stored():
    ddpm, schedule = DDPM(Net()), linear()
    bars = schedule.alpha_bars
    before = torch.cat([torch.ones(1), bars[:-1]])
    for ours, exact in (
        (ddpm.alpha_bars, bars),
        (ddpm.noise_vars, 1 - bars),
        (ddpm.beta_tildes, (1 - before) / (1 - bars) * schedule.betas),
    ):
        assert torch.equal(ours, exact.float())
    single = torch.linspace(1e-4, 0.02, 1000)
    bars32 = (1 - single).cumprod(0)
    tildes32 = (1 - bars32[:-1]) / (1 - bars32[1:]) * single[1:]
    assert (tildes32 / ddpm.beta_tildes[1:] - 1).abs().max() > 1e-5  # what this spares us


def test_forward_is_algorithm_1_by_hand():
    ddpm, x, noise = DDPM(Net()), randn(4, 1, 6, 6), randn(4, 1, 6, 6, seed=1)
    t = torch.tensor([0, 1, 500, 999])
    bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000).double(), 0)[t].view(4, 1, 1, 1)
    xt = (bar.sqrt() * x + (1 - bar).sqrt() * noise).float()
    loss = ddpm(x, t, noise)
    torch.testing.assert_close(loss, (ddpm.network(xt, t.float()) - noise).square().mean())
    loss.backward()
    assert ddpm.network.scale.grad != 0 and ddpm.network.seen.tolist() == t.tolist()


def test_it_is_diffusion_with_the_linear_table():
    net, x, noise = Net().double(), randn(5, 3, 4, 4).double(), randn(5, 3, 4, 4, seed=1).double()
    t = torch.tensor([0, 1, 300, 998, 999])
    for T, ends in ((1000, (1e-4, 0.02)), (1200, (1e-3, 0.01))):
        ddpm, process = DDPM(net, T, *ends).double(), Diffusion(linear(T, *ends), "eps")
        times = (t.double() + 1) / T
        for ours, theirs in (
            (ddpm(x, t, noise), process.loss(net, x, t=times, eps=noise)),
            (ddpm.add_noise(x, t, noise), process.add_noise(x, times, noise)),
            (ddpm(x, t, noise), ddpm.process.loss(net, x, t=times, eps=noise)),
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # float32 tables


def test_sampling_is_diffusions_ancestral_sampler():
    ddpm = DDPM(Net(), timesteps=50, beta_end=0.2)
    seeds, shape = [1, 2], (3, 4, 4)
    ours = list(ddpm.trajectory((2, *shape), generators=generators(seeds)))
    gens = generators(seeds)
    noise = initial_noise(gens, shape)
    process = Diffusion(linear(50, beta_end=0.2))
    theirs = list(trajectory(process, ddpm.network, noise, None, 50, "ancestral", generators=gens))
    assert len(ours) == len(theirs) == 51
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)  # 50 steps of float32 rounding


def test_sampling_is_algorithm_2_by_hand():
    ddpm = DDPM(Net(), timesteps=3, beta_start=0.1, beta_end=0.3)
    betas, bars = [0.1, 0.2, 0.3], [0.9, 0.72, 0.504]
    for variance in ("small", "large"):
        gen = generators([5])[0]
        draw = lambda: torch.randn(1, 2, generator=gen)  # noqa: B023, E731
        x = draw()
        for i in (2, 1, 0):
            eps = ddpm.network(x, torch.tensor([float(i)]))
            x = (x - betas[i] / (1 - bars[i]) ** 0.5 * eps) / (1 - betas[i]) ** 0.5
            tilde = (1 - bars[i - 1]) / (1 - bars[i]) * betas[i]
            if i > 0:
                x = x + {"small": tilde, "large": betas[i]}[variance] ** 0.5 * draw()
        ours = ddpm.sample((1, 2), generators=generators([5]), variance=variance)
        torch.testing.assert_close(ours, x.detach())


def test_the_larger_variance_leaves_the_mean_alone():
    """A pitfall: in DDIM's formula, the variance beta would also shrink the eps in the mean."""
    ddpm, paths = DDPM(Net(), timesteps=10, beta_end=0.5), {}
    for variance in ("small", "large"):
        path = list(ddpm.trajectory((2, 50), variance=variance, generators=generators([1, 2])))
        paths[variance] = path
    first = {v: path[1] - paths["small"][0] for v, path in paths.items()}
    gens = generators([1, 2])
    initial_noise(gens, (50,))
    noise = initial_noise(gens, (50,))
    gap = (ddpm.betas[9].sqrt() - ddpm.beta_tildes[9].sqrt()) * noise
    torch.testing.assert_close(first["large"] - first["small"], gap, rtol=1e-4, atol=1e-5)


def test_the_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    ddpm = DDPM(Net(), timesteps=10, beta_start=0.05, beta_end=0.3).double()
    x0, xt = torch.tensor([[0.4]]).double(), torch.tensor([[-0.9]]).double()
    grid = torch.linspace(-8, 8, 40_001).double()
    normal = torch.distributions.Normal
    for i in (1, 4, 9):
        mean, var = ddpm.posterior(x0, xt, torch.tensor([i]))
        beta, before = ddpm.betas[i], ddpm.alpha_bars[i - 1]
        likelihood = normal((1 - beta).sqrt() * grid, beta.sqrt()).log_prob(xt[0])
        prior = normal(before.sqrt() * x0[0], (1 - before).sqrt()).log_prob(grid)
        weight = (likelihood + prior).softmax(0)
        numeric = (weight * grid).sum()
        assert mean.item() == pytest.approx(numeric.item(), abs=1e-5)
        spread = (weight * (grid - numeric) ** 2).sum()
        assert var.item() == pytest.approx(spread.item(), rel=1e-4)


def test_the_posterior_at_the_first_step_is_x0():
    ddpm, x0, xt = DDPM(Net()), randn(2, 3), randn(2, 3, seed=1)
    mean, var = ddpm.posterior(x0, xt, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(mean, x0) and (var == 0).all()


def test_to_moves_the_tables():
    names = {"betas", "alphas", "alpha_bars", "noise_vars", "beta_tildes", "mean_x0", "mean_xt"}
    ddpm = DDPM(Net())
    assert dict(ddpm.named_buffers()).keys() == names
    moved = DDPM(Net()).to("meta")
    assert all(getattr(moved, name).device.type == "meta" for name in names)
    assert all(getattr(DDPM(Net()).double(), name).dtype == torch.float64 for name in names)
    assert moved.trajectory((2, 3)).__next__().device.type == "meta"
    assert ddpm.sample((2, 3), device="cpu").device.type == "cpu"
    other = DDPM(Net(), beta_end=0.5)
    other.load_state_dict(ddpm.state_dict())
    assert torch.equal(other.betas, ddpm.betas)


def test_context_reaches_the_network():
    seen = []

    def network(x, timestep, context):
        seen.append(context)
        return x

    ddpm = DDPM(network, timesteps=3)
    ddpm(randn(2, 4), context="words")
    ddpm.sample((2, 4), context="words")
    assert seen == ["words"] * 4


def test_sampling_leaves_gradients_alone():
    ddpm = DDPM(Net(), timesteps=3)
    for x in ddpm.trajectory((2, 4)):
        assert not x.requires_grad and torch.is_grad_enabled()


def test_refusals():
    ddpm, x = DDPM(Net(), timesteps=10), randn(2, 4)
    for t in (torch.tensor([0, 10]), torch.tensor([-1, 3]), torch.tensor([0.5, 0.1])):
        with pytest.raises(ValueError, match="t: expected indices < 10 on cpu"):
            ddpm(x, t)
    with pytest.raises(ValueError, match="unknown variance 'larg'; did you mean 'large'"):
        ddpm.sample((1, 2), variance="larg")
    with pytest.raises(ValueError, match="timesteps: expected at least 1"):
        DDPM(Net(), timesteps=0)
    with pytest.raises(ValueError, match="betas: expected"):
        DDPM(Net(), beta_start=-0.1)
    with pytest.raises(ValueError, match=r"noise: expected .*\(2, 4\) on cpu, as x, got \(2, 3\)"):
        ddpm(x, noise=randn(2, 3))
    with pytest.raises(ValueError, match="x: expected a batch of floating-point data"):
        ddpm(torch.zeros(2, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="prediction: expected the shape"):
        DDPM(lambda x, t, c: x[:, :1], timesteps=4)(x)
