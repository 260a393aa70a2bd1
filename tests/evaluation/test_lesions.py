"""The lesion detector: right on true phantoms, and it only detects small bright spots."""

import torch

from course_lib.datasets.phantoms import phantoms
from course_lib.evaluation.lesions import contrast, lesion_seen

DRAWN = phantoms(500, torch.Generator().manual_seed(0))


def test_true_phantoms_are_judged_right():
    assert lesion_seen(DRAWN.lesion, DRAWN.spot).float().mean() > 0.99
    assert lesion_seen(DRAWN.healthy, DRAWN.places).float().mean() < 0.01


def test_only_the_pixels_asked_for_count():
    elsewhere = DRAWN.places & ~DRAWN.spot
    for _ in range(2):  # two pixels more around the spot, where the disc still touches the lesion
        elsewhere &= torch.nn.functional.max_pool2d(DRAWN.spot.float(), 5, 1, 2) == 0
    assert lesion_seen(DRAWN.lesion, elsewhere).float().mean() < 0.01


def test_brightness_and_slopes_have_no_contrast():
    down, right = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for flat in (torch.full((32, 32), 0.7), down / 10, 0.3 - right / 5):
        assert contrast(flat[None, None])[..., 4:-4, 4:-4].abs().max() < 1e-5


def test_a_disc_of_its_size_has_its_height_as_contrast():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 14:17, 10:13] = 0.6  # the disc's pixels
    assert torch.isclose(contrast(image)[0, 0, 15, 11], torch.tensor(0.6))
