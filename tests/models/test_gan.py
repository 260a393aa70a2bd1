"""Generator and discriminator: what they depend on, spectral norms, and refusals."""

import copy

import pytest
import torch
from torch import nn

from course_lib.models import GAN, Discriminator, Generator
from course_lib.models.gan import normalize_spectrally
from tests.models.denoisers import stirred

SMALL = dict(size=8, channels=(8, 8), classes=3)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("channels", [(8,), (8, 12), (16, 8, 8)])
def test_the_generator_grows_by_two_between_blocks(channels):
    generator = Generator(out_channels=2, size=16, channels=channels, latent=4)
    assert generator.smallest == (channels[0], 16 // 2 ** (len(channels) - 1))
    images = generator(torch.randn(3, 4))
    assert images.shape == (3, 2, 16, 16) and images.abs().max() < 1


def test_both_read_the_label_and_each_sample_by_itself():
    z, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    generator = stirred(Generator(1, latent=4, **SMALL))
    images = generator(z, labels)
    torch.testing.assert_close(generator(z[1:2], labels[1:2]), images[1:2])
    assert (generator(z, labels.flip(0))[[0, 2]] - images[[0, 2]]).abs().amax((1, 2, 3)).min() > 0
    discriminator = Discriminator(1, **SMALL)
    logits = discriminator(images, labels)
    torch.testing.assert_close(discriminator(images[1:2], labels[1:2]), logits[1:2])
    assert (discriminator(images, labels.flip(0)) != logits).tolist() == [True, False, True]


def test_the_label_projects_the_features():
    """Miyato & Koyama 2018, eq. 4: the logits of two labels differ by (v_a - v_b)·features."""
    discriminator, x = Discriminator(1, **SMALL), torch.rand(5, 1, 8, 8)
    a, b = torch.full((5,), 0), torch.full((5,), 2)
    rows = discriminator.class_embedding.weight
    difference = discriminator.features(x) @ (rows[0] - rows[2])
    torch.testing.assert_close(discriminator(x, a) - discriminator(x, b), difference)


def test_every_layer_has_spectral_norm_one():
    discriminator, x = Discriminator(1, spectral=True, **SMALL), torch.rand(2, 1, 8, 8)
    for _ in range(200):
        discriminator(x, torch.tensor([0, 1]))
    layers = [each for each in discriminator.modules() if hasattr(each, "parametrizations")]
    assert len(layers) == 6  # two convolutions, one that halves, two linear ones, the embedding
    for layer in layers:
        norm = torch.linalg.svdvals(layer.weight.flatten(1))[0].item()
        assert norm == pytest.approx(1, abs=2e-3)


def test_such_a_network_of_points_is_no_steeper_than_one():
    network = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16))
    network = normalize_spectrally(network.append(nn.LeakyReLU(0.2)).append(nn.Linear(16, 1)))
    for layer in network:
        if hasattr(layer, "weight"):
            layer.parametrizations.weight.original.data *= 30
    for _ in range(200):
        network(torch.zeros(1, 2))
    x, y = 3 * torch.randn(500, 2), 3 * torch.randn(500, 2)
    steepness = (network(x) - network(y)).abs().squeeze(1) / (x - y).norm(dim=1)
    assert 0.01 < steepness.max() <= 1.001


def test_evaluation_leaves_the_spectral_estimate_alone():
    discriminator = Discriminator(1, spectral=True, **SMALL).eval()
    before = copy.deepcopy(discriminator.state_dict())
    x, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    assert torch.equal(discriminator(x, labels), discriminator(x, labels))
    assert all(torch.equal(before[name], x) for name, x in discriminator.state_dict().items())


def test_a_gan_is_called_as_its_generator():
    generator = Generator(1, latent=4, **SMALL)
    z, labels = torch.randn(2, 4), torch.tensor([0, 2])
    gan = GAN(generator, Discriminator(1, **SMALL), latent=4)
    assert torch.equal(gan(z, labels), generator(z, labels))


@pytest.mark.parametrize(
    "labels, line",
    [
        (None, "None"),
        (torch.tensor([0, 3]), r"values in \[0, 2\], got \[0, 3\]"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([0]), r"labels: expected \(2,\)"),
    ],
)
def test_wrong_labels_are_refused(labels, line):
    generator, discriminator = Generator(1, latent=4, **SMALL), Discriminator(1, **SMALL)
    for call in (
        lambda: generator(torch.randn(2, 4), labels),
        lambda: discriminator(torch.rand(2, 1, 8, 8), labels),
    ):
        with pytest.raises(ValueError, match=line):
            call()
