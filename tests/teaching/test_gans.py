"""Chapter 17's data, networks and measurements: equal sizes, and judges that know the truth."""

import pytest
import torch
from torch import nn

from course_lib.datasets.digits import digits
from course_lib.datasets.toy import ring_centres
from course_lib.teaching import gans
from course_lib.teaching.gan_data import DATA, Digits, Ring, Singles, different
from course_lib.teaching.gans import (
    PROCESS,
    begin_diffusion,
    begin_gan,
    diffusion_draw,
    drawn,
    floors,
    gan_draw,
    measure,
    train_for,
)


def size_of(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("name", DATA)
def test_the_generator_has_the_size_of_the_denoiser(name):
    data = DATA[name]()
    generator, denoiser = size_of(data.gan().generator), size_of(data.denoiser())
    assert generator == pytest.approx(denoiser, rel=0.1)
    assert size_of(data.gan().discriminator) < 1.1 * denoiser


@pytest.mark.parametrize("name", DATA)
def test_spectral_norm_adds_no_weight_and_is_on_every_layer_of_the_discriminator(name):
    plain, spectral = DATA[name]().gan(), DATA[name]().gan(spectral=True)
    assert size_of(plain) == size_of(spectral)
    for gan, expected in ((plain, False), (spectral, True)):
        kinds = nn.Linear | nn.Conv2d | nn.Embedding
        layers = [each for each in gan.discriminator.modules() if isinstance(each, kinds)]
        assert len(layers) > 3
        assert all(hasattr(layer, "parametrizations") == expected for layer in layers)
        assert not any(hasattr(layer, "parametrizations") for layer in gan.generator.modules())


def test_the_ring_counts_the_modes_of_the_mixture():
    data, centres = Ring(), ring_centres(std=Ring.std)
    at = centres[[2, 2, 5]] + torch.tensor([[0.0, 0.14], [0.0, 0.16], [0.0, 0.0]])
    assert data.modes(at) == [2, None, 5]  # 0.15 is three standard deviations
    (real,) = data.real()
    shown = data.modes(real)
    assert different(shown) == 8
    share = sum(mode is not None for mode in shown) / len(shown)
    assert share == pytest.approx(1 - torch.tensor(-4.5).exp().item(), abs=0.007)  # 4 std. errors


def test_the_rings_picture_has_x_to_the_right_and_y_upwards():
    picture = Ring().pictures_of(torch.tensor([[1.9, 1.9], [1.9, 1.9], [-1.9, 0.1]]))[0, 0, 0]
    assert picture[1, 62] == 1 and picture[30, 1] == pytest.approx(2 * 0.5**0.5 - 1)
    assert (picture > -1).sum() == 2


def test_digits_show_the_digit_of_their_nearest_image_and_noise_shows_none():
    data, (images, labels) = Digits(), digits(16, "test")
    shown = data.modes(images)
    right = sum(mode == label for mode, label in zip(shown, labels.tolist(), strict=True))
    assert right / len(labels) > 0.95
    assert data.modes(2 * torch.rand(5, 1, 16, 16) - 1) == [None] * 5


def test_the_oracle_reads_the_pairs_that_the_labels_name():
    data = Singles()
    images, labels = data.pictures(40, seed=5)
    shown = data.modes(images, labels)
    assert None not in shown and different(shown) > 30
    assert data.modes(images, (labels + 1) % data.classes) == [None] * 40
    ((thing,), background), name = shown[0], data.name_of(labels[0].item())
    assert name == f"{thing.colour} {thing.shape}" and background != thing.colour
    assert len(data.pairs) == data.classes == 42 == len(set(data.pairs))


def test_a_wrong_colour_leaves_the_number_and_the_shape_right():
    data = Singles()
    images, labels = data.pictures(40, seed=5)
    assert data.properties(images, labels) == {"number": 1, "colour": 1, "shape": 1}
    pairs = [data.pairs[label] for label in labels.tolist()]
    other = [
        next(i for i, (shape, colour) in enumerate(data.pairs) if shape == s and colour != c)
        for s, c in pairs
    ]
    found = data.properties(images, torch.tensor(other))
    assert found == {"number": 1, "colour": 0, "shape": 1}


def test_measurements_of_real_samples_and_of_a_collapsed_model():
    data = Ring()
    real = data.real()
    best = floors(data, data.count, real)
    assert best["modes of real"] == 8 and best["diversity of real"] == pytest.approx(1, abs=0.05)
    assert abs(best["kernel of real"]) < 4 * best["kernel spread of real"]
    one = ring_centres(std=data.std)[:1] + data.std * torch.randn(data.count, 2)
    found = measure(data, one, real)
    assert found["modes"] == 1 and found["right"] > 0.97
    assert found["precision"] > 0.9 and found["recall"] < 0.2
    assert found["diversity"] < 0.1
    # the mean is sqrt(2) away, and the covariance differs
    assert found["frechet"] > 2 > 100 * best["frechet of real"]


def test_labels_of_the_samples_are_those_of_the_first_real_ones():
    data = Singles()
    data.count = 12
    images, labels = data.pictures(24, seed=1)
    found = measure(data, images[:12], (images, labels))
    assert found["right"] == found["colour"] == 1.0
    assert measure(data, images[:12].flip(0), (images, labels))["right"] < 0.5


def test_a_sample_depends_on_its_seed_alone(monkeypatch):
    data = Ring()
    gan = data.gan()
    whole, _ = drawn(gan_draw(gan), 20)
    monkeypatch.setattr(gans, "BATCH", 7)
    torch.testing.assert_close(drawn(gan_draw(gan), 20)[0], whole)
    assert drawn(gan_draw(gan), 3)[0].shape == (3, 2)


def test_truncation_zero_always_draws_the_same_and_one_is_the_model():
    gan = Ring().gan()
    samples = gan_draw(gan, truncation=0.0)(range(5))
    torch.testing.assert_close(samples, gan(torch.zeros(1, 8)).expand(5, 2))
    assert gan_draw(gan)(range(5)).std(0).min() > 0


def test_guidance_one_asks_the_network_once_per_step_and_two_twice():
    sizes, data = [], Singles()

    def network(x, timestep, labels):
        sizes.append(len(x))
        return PROCESS.target(torch.zeros_like(x), x, 0.5) * labels.view(-1, 1, 1, 1) / 100

    labels = torch.tensor([3, 7])
    one = diffusion_draw(network, data, 1.0, steps=4)(range(2), labels)
    assert sizes == [2] * 4 and one.shape == (2, 3, 32, 32)
    two = diffusion_draw(network, data, 2.0, steps=4)(range(2), labels)
    assert sizes[4:] == [4] * 4 and not torch.equal(one, two)


def test_a_training_ends_with_its_time_and_continues_where_it_was(tmp_path):
    training = begin_diffusion(Ring(), seed=0, folder=tmp_path)
    training.folder.save_every = 3
    while training.done < 4:
        training.advance()
    again = begin_diffusion(Ring(), seed=0, folder=tmp_path)
    assert again.done == 3 and 0 < again.cpu_seconds < training.cpu_seconds
    assert train_for(again, again.cpu_seconds) is None and again.done == 3  # nothing left
    assert train_for(again, again.cpu_seconds + 1e-9) is None and again.done == 4
    for ours, theirs in zip(again.model.parameters(), training.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_diverged_training_says_so():
    training = begin_gan(Ring(), seed=0)
    with torch.no_grad():
        next(training.model.discriminator.parameters()).fill_(float("nan"))
    assert "the loss is nan at step 1" in train_for(training, 1.0)
