"""Guidance: a single call, the formula, the forms of `null`, and dropping the condition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.diffusion import (
    Diffusion,
    Gaussian,
    GaussianMixture,
    drop_condition,
    guided,
    reward_guided,
    sample,
)


class Counted:
    """A network that depends on all of its inputs, and counts its calls."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, timestep, context):
        self.batches.append(len(x))
        assert len(x) == len(timestep) == len(context)
        said = context.float().reshape(len(x), -1).mean(1, keepdim=True)
        return x * said + timestep[:, None] / 1000


def inputs(B=3):
    g = torch.Generator().manual_seed(0)
    x, context = torch.randn(B, 5, generator=g), torch.randn(B, 4, 6, generator=g)
    return x, torch.full((B,), 500.0), context, torch.randn(1, 4, 6, generator=g)


def test_scale_1_is_the_network_itself_in_one_call():
    network, (x, timestep, context, null) = Counted(), inputs()
    predicted = guided(network, null, 1)(x, timestep, context)
    assert network.batches == [3] and torch.equal(predicted, Counted()(x, timestep, context))


@given(scale=st.floats(0, 20))
def test_the_formula_in_one_batched_call(scale):
    network, (x, timestep, context, null) = Counted(), inputs()
    predicted = guided(network, null, scale)(x, timestep, context)
    assert network.batches == ([3] if scale == 1 else [6])
    with_it, without = (Counted()(x, timestep, c) for c in (context, null.expand_as(context)))
    torch.testing.assert_close(predicted, without + scale * (with_it - without))


def test_null_may_be_one_for_all_one_each_or_a_class():
    x, timestep, context, null = inputs()
    predicted = guided(Counted(), null, 3.0)(x, timestep, context)
    for same in (null[0], null.expand_as(context), null.double()):
        assert torch.equal(predicted, guided(Counted(), same, 3.0)(x, timestep, context))
    labels = torch.tensor([0, 1, 2])
    by_int = guided(Counted(), 10, 3.0)(x, timestep, labels)
    by_tensor = guided(Counted(), torch.tensor([10, 10, 10]), 3.0)(x, timestep, labels)
    assert torch.equal(by_int, by_tensor) and not torch.equal(by_int, predicted)


def test_a_negative_prompt_is_another_null():
    x, timestep, context, negative = inputs()
    towards = guided(Counted(), negative, 0.0)(x, timestep, context)
    assert torch.equal(towards, Counted()(x, timestep, negative.expand_as(context)))


def test_guidance_is_the_same_whatever_the_target():
    """Predictions are linear in x0 and eps, so guiding one guides the other."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(3, 2, generator=g, dtype=torch.float64)
    noise = torch.randn(6, 2, generator=g, dtype=torch.float64)
    results = []
    for prediction in ("eps", "x0", "v", "flow"):
        process = Diffusion("linear", prediction)
        network = GaussianMixture(process, means, torch.full((3,), 0.1).double())
        strong = guided(network, 3, 2.5)
        results.append(sample(process, strong, noise, torch.tensor([0, 1, 2, 0, 1, 2])))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-6, atol=1e-6)


def test_stronger_guidance_makes_samples_surer_of_their_class():
    g = torch.Generator().manual_seed(0)
    process = Diffusion("straight", "flow")
    means = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    network = GaussianMixture(process, means, torch.full((2,), 0.2).double())
    noise = torch.randn(500, 2, generator=g, dtype=torch.float64)
    labels = torch.ones(500, dtype=torch.int64)
    sure = []
    for scale in (0.0, 1.0, 3.0):
        x = sample(process, guided(network, 2, scale), noise, labels, sampler="heun")
        joint = network.log_joint(x, 0.0, None)[0]
        sure.append(joint.softmax(1)[:, 1].mean().item())
    assert sure[0] == pytest.approx(0.5, abs=0.06)  # scale 0 forgets the class: 5 x sd / sqrt(n)
    assert sure[0] + 0.2 < sure[1] < sure[2] and sure[2] > 0.95


def test_guidance_keeps_dtypes_and_devices():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        x, timestep, context, null = inputs()
        network = lambda x, t, c: x * c.mean()  # noqa: E731
        predicted = guided(network, null, 4.0)(x.to(dtype), timestep, context.to(dtype))
        assert predicted.dtype == dtype
    predicted = guided(lambda x, t, c: x, 3, 2.0)(
        *(torch.zeros(2, device="meta") for _ in range(2)), torch.zeros(2, device="meta").long()
    )
    assert predicted.device.type == "meta"


# Dropping


def test_dropping_replaces_whole_samples():
    _, _, context, null = inputs(B=200)
    dropped = drop_condition(context, null, 0.3, torch.Generator().manual_seed(0))
    is_null = (dropped == null).flatten(1)
    assert torch.equal(is_null.all(1), is_null.any(1))
    kept = ~is_null.all(1)
    assert torch.equal(dropped[kept], context[kept])
    assert (~kept).float().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 200) ** 0.5)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropping_none_or_all(p):
    _, _, context, null = inputs()
    expected = null.expand_as(context) if p else context
    assert torch.equal(drop_condition(context, null, p), expected)


def test_dropping_labels():
    labels = torch.arange(10).repeat(100)
    dropped = drop_condition(labels, 10, 0.1, torch.Generator().manual_seed(0))
    assert dropped.dtype == torch.int64
    gone = dropped == 10
    assert torch.equal(dropped[~gone], labels[~gone])
    assert gone.float().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / 1000) ** 0.5)


def test_dropping_draws_from_its_generator_and_leaves_the_context_alone():
    _, _, context, null = inputs(B=50)
    before = context.clone()
    draws = [
        drop_condition(context, null, 0.5, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(context, before)


def test_a_learned_null_gets_gradients():
    _, _, context, null = inputs(B=20)
    null.requires_grad_()
    drop_condition(context, null, 0.5, torch.Generator().manual_seed(0)).sum().backward()
    assert null.grad.abs().sum() > 0


# Refusals


def test_refusals():
    x, timestep, context, null = inputs()
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="p: expected a probability"):
            drop_condition(context, null, p)
    with pytest.raises(ValueError, match=r"null: expected .*\(3, 4, 6\) .*, got \(1, 4, 5\)"):
        guided(Counted(), null[..., :5], 2.0)(x, timestep, context)
    with pytest.raises(ValueError, match=r"null: expected .*, got \(2, 4, 6\)"):
        drop_condition(context, null.expand(2, -1, -1), 0.5)
    with pytest.raises(ValueError, match="context: expected a condition to guide by, got None"):
        guided(Counted(), null, 2.0)(x, timestep, None)
    process = Diffusion()
    with pytest.raises(ValueError, match="context: expected a condition to guide by, got None"):
        sample(process, guided(Gaussian(process, torch.zeros(5), 1.0), 1, 2.0), x)


def test_one_timestep_for_all_is_a_timestep_for_each():
    network = guided(
        lambda x, timestep, context: x * timestep[:, None] + context, torch.ones(1), 2.0
    )
    x, context = torch.randn(3, 4), torch.randn(3, 4)
    expected = network(x, torch.full((3,), 5.0), context)
    assert torch.equal(network(x, torch.tensor(5.0), context), expected)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_a_linear_reward_tilts_a_gaussian_exactly(schedule, prediction):
    """p(x0) exp(w c·x0) is the Gaussian moved by w C c, and so is its optimal network."""
    g = torch.Generator().manual_seed(0)
    root, mean, pull = (torch.randn(*s, generator=g).double() for s in ((3, 3), (3,), (3,)))
    covariance, process = root @ root.T + 0.1 * torch.eye(3), Diffusion(schedule, prediction)
    network = Gaussian(process, mean, covariance)
    tilted = Gaussian(process, mean + 0.7 * covariance @ pull, covariance)
    steered = reward_guided(process, network, lambda x0: x0 @ pull, scale=0.7)
    x = torch.randn(6, 3, generator=g).double()
    for t in (0.05, 0.4, 0.9):
        timestep = process.timestep(t, x)
        torch.testing.assert_close(
            steered(x, timestep), tilted(x, timestep), rtol=1e-6, atol=1e-6, check_dtype=False
        )


def test_a_reward_of_each_sample_steers_that_sample_alone_and_pure_noise_stays():
    process, goals = Diffusion("straight", "flow"), torch.tensor([[2.0], [-1.0]])
    network = Gaussian(process, torch.zeros(1), torch.eye(1))
    reward = lambda x0: -(x0 - goals).square().sum(1)  # noqa: E731
    steered = reward_guided(process, network, reward, scale=0.5)
    x, timestep = torch.zeros(2, 1), torch.tensor([500.0, 500.0])
    x0, _ = process.x0_and_eps(steered(x, timestep), x, torch.tensor([0.5, 0.5]).double())
    # Cov(x0 | xt) is 1/2 and the reward's own gradient is 2 * goal
    torch.testing.assert_close(x0, 0.5 * 0.5 * 2 * goals)
    noisy = torch.tensor([1000.0, 1000.0])
    assert torch.equal(steered(x, noisy), network(x, noisy))
    zero = reward_guided(process, network, reward, scale=0.0)
    torch.testing.assert_close(zero(x, timestep), network(x, timestep))
    with torch.no_grad():  # as a sampler calls it
        assert not steered(x, timestep).requires_grad


def test_a_reward_is_one_number_for_each_sample_and_the_scale_is_finite():
    process = Diffusion("straight", "flow")
    network = Gaussian(process, torch.zeros(1), torch.eye(1))
    x, timestep = torch.zeros(2, 1), torch.tensor([500.0, 500.0])
    with pytest.raises(ValueError, match=r"reward: expected \(2,\), one for each, got"):
        reward_guided(process, network, lambda x0: x0.sum(), 1.0)(x, timestep)
    with pytest.raises(ValueError, match="scale: expected a finite number, got inf"):
        reward_guided(process, network, lambda x0: x0.sum(1), torch.inf)
