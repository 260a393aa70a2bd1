"""Chapter 11's exercises: what they measure, on cases whose answers are known."""

import pytest
import torch
from torch import nn

from course_lib.diffusion import Diffusion
from course_lib.exercises import ch11
from course_lib.models.lora import LowRank
from course_lib.recipes import load_pipeline
from course_lib.teaching.check import Unusable


def test_no_low_rank_update_is_nearer():
    torch.manual_seed(0)
    delta = torch.randn(6, 5)
    best, lost = ch11.best_of_rank(delta, 2)
    assert torch.linalg.matrix_rank(best) == 2
    assert lost.item() == pytest.approx(((delta - best).norm() / delta.norm()).item() ** 2)
    update = LowRank(delta, rank=2)
    optimizer = torch.optim.LBFGS(update.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    nn.init.normal_(update.B)

    def step():
        optimizer.zero_grad()
        loss = (delta - update()).square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    assert torch.allclose(update(), best, atol=1e-2)  # what gradients find


def test_the_share_of_a_lora_in_numbers():
    weight = torch.empty(1280, 768)
    numbers = sum(p.numel() for p in LowRank(weight, rank=8).parameters())
    assert ch11.EXERCISES["11.2"].right == pytest.approx(numbers / weight.numel())


def test_dreambooths_loss_is_two_losses_of_the_straight_path():
    process = Diffusion("straight", "flow")
    for network, z, c, z_prior, c_prior, weight, t, eps, eps_prior in ch11.objects_and_priors():

        def by_process(x, timestep, context, network=network, t=t):
            return network(x, t, context)

        first, second = (
            process.loss(by_process, x, context, t[:, 0], noise)
            for x, context, noise in ((z, c, eps), (z_prior, c_prior, eps_prior))
        )
        got = ch11.dreambooth_loss(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior)
        assert got.item() == pytest.approx((first + weight * second).item(), rel=1e-5)


def test_two_zero_factors_have_no_gradient():
    update = LowRank(torch.randn(4, 3), rank=2)
    nn.init.zeros_(update.A)
    (update() - torch.randn(4, 3)).square().sum().backward()
    assert not update.A.grad.any() and not update.B.grad.any()
    assert ch11.EXERCISES["11.4"].right == "c"


def test_the_capstone_begins_above_its_bound():
    model = load_pipeline("emoji-latent")
    z, context = ch11.blob_latents("new pairs", 80)
    with torch.no_grad():
        found = [
            model.unet(zt, model.process.timestep(t, zt), context)
            for t, zt, _ in ch11.fixed_draws(model.process, z)
        ]
    loss = ch11.blob_loss(torch.stack(found))
    assert ch11.BOUND + 0.04 < loss < ch11.BOUND + 0.06  # the chapter says 1.14


def untrained(unet, process, z, context, null):
    return unet.requires_grad_(False)


def everything(unet, process, z, context, null):
    return unet


def changed(unet, process, z, context, null):
    unet.requires_grad_(False)
    unet.conv_in.weight.mul_(1.01)
    unet.extra = nn.Parameter(torch.zeros(3))
    return unet


def a_function(unet, process, z, context, null):
    return lambda x, timestep, context: unet(x, timestep, context)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (untrained, "0 trainable numbers"),
        (everything, "trainable numbers, expected 1 to 300,000"),
        (changed, "weights have changed"),
        (a_function, "must return a network"),
    ],
)
def test_what_is_no_lora_is_told_why(answer, line):
    with pytest.raises(Unusable, match=line):
        ch11.adapted_predictions(answer)
