"""The prior of phantoms: trained, published and loaded; its card holds; it reconstructs."""

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.datasets.phantoms import phantoms
from course_lib.evaluation.lesions import lesion_seen
from course_lib.evaluation.metrics import from_card
from course_lib.models import UNet
from course_lib.pipelines import Operator, fourier, frequency_mask
from course_lib.recipes.phantoms import EITHER, HEALTHY, LESION, NOISE_STD, PhantomPrior, labelled
from course_lib.training import Scale

RECIPE = PhantomPrior()


def shipped():
    return load_checkpoint(UNet, "phantoms").requires_grad_(False)


def test_a_few_steps_published_and_loaded(tmp_path):
    run = RECIPE.begin(steps=2, folder=tmp_path, device="cpu", scale=Scale())
    losses = [step.loss for step in run]
    again = PhantomPrior().begin(steps=2, device="cpu", scale=Scale())
    assert [step.loss for step in again] == losses
    path = RECIPE.publish(run, tmp_path / "phantoms", count=6)
    metrics = {metric.property: metric for metric in from_card(load_checkpoint(UNet, path).card)}
    assert metrics["right_class"].count == 6 and metrics["test_loss"].value > 0
    images, titles = RECIPE.samples(run.ema)
    assert len(images) == len(titles) and images.shape[1:] == (1, 32, 32)


def test_a_batch_is_half_healthy_and_half_not():
    images, labels = labelled(100, torch.Generator().manual_seed(0))
    assert labels.sum() == 50
    places = phantoms(1, torch.Generator().manual_seed(0)).places.expand(100, -1, -1, -1)
    assert (lesion_seen(images, places) == (labels == LESION)).float().mean() > 0.95


def test_the_shipped_priors_card_tells_the_truth():
    model = shipped()
    said = {metric.label: metric.value for metric in from_card(model.card)}
    measured = {metric.label: metric for metric in RECIPE.measure(model, 64)}
    assert measured["test_loss"].value == pytest.approx(said["test_loss"], rel=0.02)
    room = 3 * (max(said["right_class"] * (1 - said["right_class"]), 0.01) / 64) ** 0.5
    assert abs(measured["right_class"].value - said["right_class"]) < room


def test_samples_explain_the_measurements_that_a_wrong_scan_would_not():
    """The residual is about as large as the noise, and many times smaller than without y."""
    generator = torch.Generator().manual_seed(5)
    truth = phantoms(4, generator).healthy
    operator = fourier(frequency_mask(32, 4, generator))
    y = operator(truth) + NOISE_STD * torch.randn(4, operator.count, generator=generator)
    found = RECIPE.reconstruct(shipped(), operator, y, HEALTHY, samples=2)
    assert found.shape == (2, 4, 1, 32, 32)
    residual = operator(found.flatten(0, 1)) - y.repeat(2, 1)
    others = operator(found.flatten(0, 1)) - y.roll(1, 0).repeat(2, 1)
    assert residual.square().mean() < 4 * NOISE_STD**2 < others.square().mean() / 10


def test_with_all_pixels_measured_the_prior_has_no_say():
    """A lesion survives even with the prior that was trained without any."""
    drawn = phantoms(4, torch.Generator().manual_seed(6))
    whole = Operator(torch.eye(1024), (1, 32, 32))
    for label in (HEALTHY, LESION, EITHER):
        for images, expected in ((drawn.lesion, True), (drawn.healthy, False)):
            found = RECIPE.reconstruct(shipped(), whole, images.flatten(1), label)[0]
            assert (lesion_seen(found, drawn.spot) == expected).all()
