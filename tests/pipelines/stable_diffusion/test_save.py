"""diffusers and transformers can read the folder that `save_stable_diffusion` writes."""

import json

import pytest
import torch

from course_lib.diffusion import Diffusion, cosine, scaled_linear
from course_lib.models import AutoencoderKL, PromptEncoder, TextEncoder, Tokenizer, UNet
from course_lib.pipelines.stable_diffusion import (
    StableDiffusion,
    load_stable_diffusion,
    save_stable_diffusion,
)
from tests.parity import agree


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red circle", "two cats on a mat"], 60, 77)
    unet = UNet(4, None, 128, (1, 2), 1, (True, False), 4, 32)
    vae = AutoencoderKL(3, 4, 128, (1, 1), 1, scaling_factor=0.18215)
    clip = PromptEncoder(tokenizer, TextEncoder(len(tokenizer), 77, 32, 2, 4))
    with torch.no_grad():
        for parameter in [*unet.parameters(), *vae.parameters(), *clip.parameters()]:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return StableDiffusion(Diffusion(scaled_linear(), "v"), unet, vae, clip)


def test_what_was_written_is_read_back(parts, tmp_path):
    save_stable_diffusion(parts, tmp_path / "new" / "folder")
    again = load_stable_diffusion(tmp_path / "new" / "folder")
    assert again.process.prediction == "v"
    for ours, read in zip(parts[1:], again[1:], strict=True):
        weights = dict(read.named_parameters())
        assert weights.keys() == dict(ours.named_parameters()).keys()
        assert all(torch.equal(weight, weights[name]) for name, weight in ours.named_parameters())
    caption = ["two cats"]
    assert torch.equal(parts.clip.context(caption), again.clip.context(caption))
    assert again.vae.scaling_factor.unique().item() == pytest.approx(0.18215)


def test_the_classes_of_diffusers_and_transformers_predict_the_same(parts, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    save_stable_diffusion(parts, tmp_path)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.0])
    context, ids = torch.randn(2, 77, 32), parts.clip.tokenizer(["a red circle", ""])
    with torch.inference_mode():
        twin = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet")
        agree(parts.unet(x, t, context), twin(x, t, context).sample, 1e-5)
        twin = diffusers.AutoencoderKL.from_pretrained(tmp_path / "vae")
        agree(parts.vae.decode(0.18215 * x), twin.decode(x).sample, 1e-5)
        twin = transformers.CLIPTextModel.from_pretrained(tmp_path / "text_encoder")
        agree(parts.clip.text_encoder(ids), twin(ids).last_hidden_state, 1e-5)
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    agree(scheduler.alphas_cumprod.double(), scaled_linear().alpha_bars, 1e-5)


def test_a_checkpoint_is_written_twice_without_leftovers(parts, tmp_path):
    for _ in range(2):
        save_stable_diffusion(parts, tmp_path)
    assert len(list(tmp_path.rglob("*.*"))) == 9
    assert json.loads((tmp_path / "vae" / "config.json").read_text())["latent_channels"] == 4


@pytest.mark.parametrize("schedule", [cosine(), lambda t: (1 - t, t)])
def test_another_noise_schedule_is_refused(parts, tmp_path, schedule):
    other = parts._replace(process=Diffusion(schedule, "eps"))
    with pytest.raises(ValueError, match="schedule: expected scaled_linear"):
        save_stable_diffusion(other, tmp_path / "nowhere")
    assert not any(tmp_path.iterdir())
