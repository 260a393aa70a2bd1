"""The patch denoiser against the mixture that it is, its padding, and the seam error by hand."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.diffusion import Diffusion, GaussianMixture, sample
from course_lib.diffusion.patches import PatchDenoiser, seam_error

PROCESS = Diffusion("straight", "flow")


def photograph(side=12, channels=1):
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_is_the_centre_of_a_mixtures_posterior_mean(channels):
    """(12.6), with the patches as points of equal weight; the pixel is at the corner."""
    network, t = PatchDenoiser(PROCESS, photograph(channels=channels), size=3), 0.6
    points = network.patches
    mixture = GaussianMixture(PROCESS, points, torch.zeros(len(points)))
    x = torch.randn(2, channels, 5, 6)
    noisy = x.roll((1, 1), (2, 3))[..., :3, :3].flatten(1)  # wrapped around
    expected = mixture.x0(noisy, t).view(2, channels, 3, 3)[..., 1, 1]
    torch.testing.assert_close(network.x0(x, t)[..., 0, 0], expected)


def test_moving_a_tile_moves_the_estimate_only_with_circular_padding():
    x = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(2))
    for padding, same in (("circular", True), ("reflect", False)):
        network = PatchDenoiser(PROCESS, photograph(), size=3, padding=padding)
        moved = network.x0(x.roll((2, 3), (2, 3)), 0.5)
        assert torch.allclose(moved, network.x0(x, 0.5).roll((2, 3), (2, 3)), atol=1e-5) == same


def test_little_noise_gives_back_the_photographs_own_pixels():
    picture = photograph(9)
    network = PatchDenoiser(PROCESS, picture, size=3, padding="reflect")
    found = network.x0(0.99 * picture, 0.01)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], picture[..., 1:-1, 1:-1])


def test_a_sampler_uses_it_like_any_network():
    network = PatchDenoiser(PROCESS, photograph(), size=3)
    noise = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    tile = sample(PROCESS, network, noise, steps=8)
    assert tile.shape == (1, 1, 6, 6)
    centres = network.centres[:, 0]
    away = (tile.flatten()[:, None] - centres).abs().amin(1)
    assert away.median() < 1e-3  # at the end most pixels are pixels of the photograph


def test_count_keeps_some_of_the_patches():
    every = F.unfold(photograph(), 3)[0].T
    some = PatchDenoiser(PROCESS, photograph(), size=3, count=10).patches
    assert some.shape == (10, 9)
    assert all((each == every).all(1).any() for each in some)


def test_the_seam_error_by_hand():
    """(12.7): steps of 1, 3 and 2 to the right, back by 6; of 0.5 downwards, back by 1."""
    row = torch.tensor([0.0, 1.0, 4.0, 6.0])  # steps 1, 3, 2, and back by 6
    tile = row.expand(1, 1, 3, 4) + torch.tensor([0.0, 0.5, 1.0])[:, None]  # steps 0.5, 0.5, 1
    torch.testing.assert_close(seam_error(tile), torch.tensor([[3.0, 2.0]]))


def test_a_line_that_is_no_seam_has_an_error_around_1():
    tiles = torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    errors = seam_error(tiles)
    assert abs(errors.mean() - 1) < 0.03 and errors.std() < 0.3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (dict(size=4), "size and count: expected an odd number of pixels"),
        (dict(size=13), "size and count: expected an odd number .* at most the photograph's"),
        (dict(size=3, count=0), "and 1 or more, got \\(3, 0\\)"),
        (dict(size=3, padding="zeros"), "padding: expected circular or reflect"),
    ],
)
def test_bad_settings_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        PatchDenoiser(PROCESS, photograph(), **options)


def test_bad_pictures_are_refused():
    for bad in (torch.zeros(2, 1, 9, 9), torch.zeros(9, 9), torch.full((1, 1, 9, 9), torch.nan)):
        with pytest.raises(ValueError, match="photograph"):
            PatchDenoiser(PROCESS, bad, size=3)
    with pytest.raises(ValueError, match="at least 3 pixels wide"):
        PatchDenoiser(PROCESS, photograph(), size=3)(torch.zeros(1, 1, 2, 5), torch.tensor([500.0]))
    with pytest.raises(ValueError, match="tile"):
        seam_error(torch.zeros(4, 4))
