"""Exercise 9.7: right answers in several styles pass, and each known mistake is named."""

import pytest
import torch

from course_lib.diffusion import generators, initial_noise
from course_lib.exercises.ch09_capstone import EXERCISES, MISTAKES, LatentDiffusion, outcome
from course_lib.pipelines import text_to_image
from course_lib.recipes import load_pipeline

CAPSTONE = EXERCISES["9.7"]


class ByHand(LatentDiffusion):
    """The process's coefficients, two calls of the network and DDIM's steps, all written out."""

    def loss(self, images, captions, t, eps):
        z = self.vae.encode(images)
        alpha, sigma = self.process.at(t, z)
        a, b = self.process.coefficients(alpha, sigma)
        zt = alpha * z + sigma * eps
        context = self.clip.context(captions)
        prediction = self.unet(zt, self.process.timestep(t, zt), context)
        return torch.nn.functional.mse_loss(prediction, a * z + b * eps)

    def draw(self, captions, noise, scale, steps):
        context, null = self.clip.context(captions), self.clip.context([""] * len(captions))
        z = noise
        for n in range(steps):
            t, s = 1 - n / steps, 1 - (n + 1) / steps
            timestep = self.process.timestep(torch.tensor(t).double(), z)
            yes, no = (self.unet(z, timestep, each) for each in (context, null))
            z0, eps = self.process.x0_and_eps(no + scale * (yes - no), z, torch.tensor(t).double())
            z = self.process.add_noise(z0, torch.tensor(s).double(), eps)
        return torch.clip(self.vae.decode(z), -1, 1)


def test_the_reference_is_the_librarys_loss_and_the_pipeline():
    model = load_pipeline("scenes-latent")
    ours = LatentDiffusion(model.vae, model.clip, model.unet, model.process)
    captions = ["a large red circle on a blue background", "two small white rings on black"]
    noise = initial_noise(generators([3, 4]), model.latent)
    with torch.no_grad():
        drawn = ours.draw(captions, noise, 2.0, 4)
        expected = text_to_image(model, captions, [3, 4], scale=2.0, steps=4, sampler="ddim")
        t, context = torch.tensor([0.3, 0.8]).double(), model.clip.context(captions)
        z = model.vae.encode(drawn)
        loss = model.process.loss(model.unet, z, context, t=t, eps=noise)
    assert (drawn - expected).abs().mean() < 0.02  # the pipeline may compute in bf16
    torch.testing.assert_close(ours.loss(drawn, captions, t, noise).detach(), loss)


@pytest.mark.parametrize("answer", [LatentDiffusion, ByHand])
def test_right_answers_reach_the_target(answer):
    verdict = CAPSTONE.examine(answer)
    assert verdict.status == "right", verdict


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named(mistake):
    verdict = CAPSTONE.examine(mistake)
    assert (verdict.status, verdict.misconception) == ("wrong", mistake.__name__), verdict
    assert "\n" not in verdict.message


@pytest.mark.parametrize("method", ["loss", "draw"])
def test_on_the_tiny_parts_no_two_mistakes_are_alike(method):
    found = [outcome(each, method) for each in MISTAKES if method in vars(each)]
    found.append(outcome(LatentDiffusion, method))
    for i, one in enumerate(found):
        for other in found[:i]:
            assert not torch.allclose(one, other, rtol=1e-3)


class NotDecoded(LatentDiffusion):
    def draw(self, captions, noise, scale, steps):
        return noise


class OneStep(LatentDiffusion):
    def draw(self, captions, noise, scale, steps):
        return super().draw(captions, noise, scale, 1)


class LossOfASum(LatentDiffusion):
    def loss(self, images, captions, t, eps):
        return super().loss(images, captions, t, eps) * eps.numel()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (NotDecoded, "draw(...): expected a tensor of shape (2, 3, 64, 64), got (2, 12, 8, 8)"),
        (OneStep, "off by"),
        (LossOfASum, "the loss of a batch is"),
    ],
)
def test_other_failures_are_told_what_differs(answer, words):
    verdict = CAPSTONE.examine(answer)
    assert (verdict.status, verdict.misconception) == ("wrong", None)
    assert words in verdict.message and "\n" not in verdict.message


def test_gaps_left_open_are_no_attempt():
    class Open(LatentDiffusion):
        def loss(self, images, captions, t, eps):
            zt, target = ..., ...
            prediction = self.unet(zt, self.process.timestep(t, zt), self.clip.context(captions))
            return (prediction - target).square().mean()

    class HalfOpen(LatentDiffusion):
        def draw(self, captions, noise, scale, steps):
            return ...

    for answer in (..., None, Open, HalfOpen):
        assert CAPSTONE.examine(answer).status == "not attempted"
