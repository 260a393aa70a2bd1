"""Chapter 17's equations, as the exercises have them, against the library and exact sums."""

import math

import pytest
import torch
from torch import nn

from course_lib.datasets.toy import ring_centres
from course_lib.evaluation.distances import frechet_distance, precision_recall
from course_lib.exercises.ch17 import EXERCISES, density_ratio, normalized
from course_lib.exercises.ch17_measures import EXERCISES as MEASURES
from course_lib.exercises.ch17_measures import TRUNCATION, VARIANCES, coverage, planted_recall
from course_lib.models.gan import normalize_spectrally
from course_lib.teaching.gan_data import Ring
from course_lib.teaching.gans import measure
from course_lib.training.adversarial import classification


def lowest_loss(data, generator):
    """Of the best discriminator, by gradient descent on its logits: a convex problem."""
    logits = torch.zeros(len(data), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def closure():
        optimizer.zero_grad()
        softplus = nn.functional.softplus
        loss = data @ softplus(-logits) + generator @ softplus(logits)
        loss.backward()
        return loss

    optimizer.step(closure)
    return closure().item(), logits.detach()


def test_the_best_discriminator_of_a_batch_knows_the_ratio_of_the_densities():
    p, q = (torch.tensor(x).double() for x in ((0.5, 0.3, 0.2), (0.1, 0.3, 0.6)))
    _, logits = lowest_loss(40 * p, 24 * q)
    torch.testing.assert_close(density_ratio(logits, 40, 24), p / q, rtol=1e-3, atol=0)


def test_the_lowest_loss_against_two_of_eight_modes():
    data = torch.full((8,), 1 / 8, dtype=torch.double)
    generator = torch.tensor([1 / 2] * 2 + [0.0] * 6, dtype=torch.double)
    loss, _ = lowest_loss(data, generator)
    exercise = EXERCISES["17.2"]
    assert exercise.right == pytest.approx(loss, abs=1e-3)
    divergence = exercise.misconceptions["the divergence"][0]
    middle = (data + generator) / 2
    kl = [torch.special.xlogy(x, x / middle).sum().item() / 2 for x in (data, generator)]
    assert divergence == pytest.approx(sum(kl))
    same = classification(torch.zeros(2), torch.zeros(2)).item()
    assert exercise.misconceptions["can't be told apart"][0] == pytest.approx(same)


def test_one_step_of_the_power_iteration_is_the_librarys():
    torch.manual_seed(0)
    layer = normalize_spectrally(nn.Conv2d(3, 5, 3))
    spectral = layer.parametrizations.weight
    u = spectral[0]._u.clone()
    kernel = spectral.original.detach()
    torch.testing.assert_close(normalized(kernel, u), layer.weight.detach())


def test_many_steps_find_the_largest_singular_value():
    torch.manual_seed(0)
    kernel, u = torch.randn(4, 2, 3, 3), torch.randn(4)
    for _ in range(100):
        matrix = kernel.flatten(1)
        u = matrix @ (matrix.T @ u)
        u = u / u.norm()
    after = torch.linalg.svdvals(normalized(kernel, u).flatten(1))
    assert after[0].item() == pytest.approx(1, abs=1e-4)


def test_a_few_strays_buy_recall_but_no_coverage():
    torch.manual_seed(0)
    real = Ring().real()[0][:600]
    one_mode = ring_centres(std=0.05)[:1] + 0.05 * torch.randn(290, 2)
    samples = torch.cat([one_mode, 6 * torch.randn(10, 2)])
    assert planted_recall(real, samples, 3) == pytest.approx(
        precision_recall(real, samples, 3)[1], abs=0.01
    )
    assert planted_recall(real, samples, 3) > 0.9
    assert coverage(real, samples, 3) < 0.2 and planted_recall(real, one_mode, 3) < 0.2


def four_models():
    """The samples of 17.5, by name, and the training points."""
    generator = torch.Generator().manual_seed(17)

    def noise(size, count=2000):
        return size * torch.randn(count, 2, generator=generator)

    def modes(count, among, every=1):
        return every * torch.randint(among, (count,), generator=generator)

    centres = ring_centres(std=Ring.std)
    training = centres[modes(40, 8)] + noise(0.05, 40)
    return training, {
        "P": centres[modes(2000, 4, every=2)] + noise(0.05),
        "Q": centres[modes(2000, 8)] + noise(0.2),
        "R": training[modes(2000, 40)] + noise(0.005),
        "S": centres[modes(2000, 8)] + noise(0.05),
    }


COLUMNS = ("modes", "right", "frechet", "precision", "recall", "copies")
PRECISE = {"modes": 0, "right": 0.006, "frechet": 6e-4, "precision": 0.006, "recall": 0.006}
TABLE = {  # as the exercise shows it
    "P": (4, 0.99, 0.001, 0.97, 0.48, 1.1),
    "Q": (8, 0.23, 0.002, 0.30, 0.98, 4.4),
    "R": (8, 1.00, 0.107, 0.98, 0.12, 0.13),
    "S": (8, 0.99, 0.000, 0.98, 0.98, 1.0),
}


def nearest(samples, training):
    return torch.cdist(samples, training).min(1).values.mean().item()


def test_the_four_models_of_the_diagnosis_measure_as_the_exercise_says():
    training, models = four_models()
    data = Ring()
    real = data.real()
    new = nearest(real[0], training)
    for name, samples in models.items():
        found = measure(data, samples, real)
        found["copies"] = nearest(samples, training) / new
        for key, value in zip(COLUMNS, TABLE[name], strict=True):
            assert found[key] == pytest.approx(value, abs=PRECISE.get(key, 0.05)), (name, key)


def test_truncation_of_a_linear_generator():
    torch.manual_seed(0)
    samples = torch.randn(200_000, 3, dtype=torch.double) * torch.tensor(VARIANCES).sqrt()
    distance = frechet_distance(samples, TRUNCATION * samples)
    assert MEASURES["17.6"].right == pytest.approx(distance, rel=0.01)
    assert MEASURES["17.6"].right == pytest.approx(5.25 * 0.09) and math.isfinite(distance)
