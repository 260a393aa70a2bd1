"""Shared by all tests: no network, no windows, and a tiny text-to-image model."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import matplotlib
import pytest
import torch

matplotlib.use("agg")


def pytest_addoption(parser):
    parser.addoption("--parity", action="store_true", help="write tests/PARITY.md")
    parser.addoption("--refusals", action="store_true", help="write tests/REFUSALS.md")
    parser.addoption("--editions", action="store_true", help="run all of the student edition")
    parser.addoption("--site", action="store_true", help="look at every page of the website")


def pytest_configure(config):
    if config.getoption("--refusals"):
        from tests import refusals

        pytest.raises = refusals.counting(pytest.raises)


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("--parity") and exitstatus == 0:
        from importlib.metadata import version

        from tests import parity

        peers = ", ".join(
            f"{name} {version(name)}" for name in ("diffusers", "transformers", "peft")
        )
        parity.PAGE.write_text(parity.page(f"{peers}, torch {torch.__version__}, on the CPU."))
    if session.config.getoption("--refusals") and exitstatus == 0:
        from tests import refusals

        refusals.PAGE.write_text(refusals.page())


CAPTIONS = ["a red circle", "a blue square", "two large green rings on a white background"]


@pytest.fixture(scope="session")
def toy_pipeline():
    """All three components with random non-zero weights: 32×32 pictures, 4×8×8 latents.

    A new U-Net's last layer is zero, which would hide most mistakes.
    """
    from course_lib.diffusion import Diffusion
    from course_lib.models import CLIP, AutoencoderKL, Tokenizer, UNet
    from course_lib.pipelines import LatentDiffusion

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet(4, channels=16, multipliers=(1, 2), attention=(False, True), context_dim=16)
        vae = AutoencoderKL(channels=16, multipliers=(1, 2), patch_size=2, attention=False)
        tokenizer = Tokenizer.train(CAPTIONS, vocab_size=80, length=16).kwargs
        small = dict(dim=16, layers=1, heads=2)
        clip = CLIP(tokenizer, text=small, image=small | dict(size=32), dim=16)
        for parameter in unet.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        vae.shift_factor += torch.randn(4)
        vae.scaling_factor *= 1 + torch.rand(4)
    models = [model.eval().requires_grad_(False) for model in (unet, vae, clip)]
    return LatentDiffusion(Diffusion("straight", "flow"), *models, size=32, scale=3.0)
