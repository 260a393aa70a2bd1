"""The ablation's networks: each lacks exactly the part in its name."""

import pytest
import torch

from course_lib.recipes.digits import DigitsDDPM, diffusion_loss
from course_lib.teaching.unet_variants import (
    VARIANTS,
    PixelMLP,
    loss_by_time,
    parameters,
    short_runs,
)

TINY = dict(
    in_channels=1, channels=16, multipliers=(1, 2), layers_per_block=1, attention=(False, True)
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def perturbed(name):
    """The variant with the same weights as the others, without branches that are zero."""
    torch.manual_seed(1)
    network = VARIANTS[name](**TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def predictions(name, timesteps=(3.0, 700.0)):
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return [perturbed(name)(x, torch.tensor([t])) for t in timesteps]


def test_every_prediction_has_the_shape_of_the_image():
    for name in VARIANTS:
        network, x = VARIANTS[name](**TINY), torch.randn(2, 1, 16, 16)
        assert network(x, torch.tensor([1.0, 2.0])).shape == x.shape


def test_switching_a_part_off_keeps_the_number_of_parameters():
    full = parameters(VARIANTS["full"](**TINY))
    for name in ("no time", "no skips", "no attention"):
        assert parameters(VARIANTS[name](**TINY)) == full


def test_only_the_network_without_time_ignores_the_time():
    for name in ("full", "no time", "no skips", "no attention"):
        early, late = predictions(name)
        assert torch.equal(early, late) == (name == "no time")


def test_each_part_that_is_switched_off_made_a_difference():
    (full,) = predictions("full", [3.0])
    for name in ("no time", "no skips", "no attention"):
        assert not torch.allclose(predictions(name, [3.0])[0], full, atol=1e-3)


def test_without_skips_everything_passes_through_the_middle():
    network = perturbed("no skips")
    network.mid_block.register_forward_hook(lambda module, inputs, output: 0 * output)
    a, b = (network(torch.randn(1, 1, 8, 8), torch.tensor([3.0])) for _ in range(2))
    assert torch.equal(a, b)


def test_the_bands_of_the_loss_by_time():
    """An untrained MLP predicts 0, so each band's loss is the variance of the noise, 1."""
    recipe = DigitsDDPM()
    bands = loss_by_time(recipe.process, PixelMLP(), recipe.test_images, bands=4)
    assert bands == pytest.approx([1.0] * 4, abs=0.02)  # standard error √(2 / 262,144) = 0.003


def test_short_runs_repeat_and_differ_by_seed_only():
    images, held_out = torch.rand(2, 40, 1, 8, 8)
    first, again = (short_runs("MLP", images, held_out, steps=3, seeds=(0, 4)) for _ in range(2))
    assert first.curve == again.curve and first.losses == again.losses
    assert first.losses[0] != first.losses[1] and len(first.curve) == 3
    process = DigitsDDPM.process
    assert first.losses == [diffusion_loss(process, n, held_out).value for n in first.networks]
    low, high = sorted(first.losses)
    assert first.mean == pytest.approx((low + high) / 2)
    assert str(first) == f"{first.mean:.3f} ± {(high - low) / 2**0.5:.3f}"
