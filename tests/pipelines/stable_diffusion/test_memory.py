"""The memory estimate before loading: weights from the headers, the rest from the area."""

import pytest
import torch
from safetensors.torch import save_file

from course_lib.models import AutoencoderKL, TextEncoder, UNet
from course_lib.pipelines.stable_diffusion import memory
from course_lib.pipelines.stable_diffusion.checkpoint import (
    FOLDER_NAMES,
    FOLDERS,
    PREFIXES,
    Sizes,
    count_weights,
    file_names,
)
from course_lib.pipelines.stable_diffusion.key_map import renamed

SIZES = Sizes(
    unet=dict(in_channels=4, channels=16, multipliers=(1, 2), attention=(True, False), heads=4)
    | dict(context_dim=8, layers_per_block=1),
    vae=dict(
        channels=16,
        multipliers=(1, 2),
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.18215,
    ),
    text=dict(vocab_size=50, length=7, dim=8, layers=1, heads=2, mlp_ratio=2),
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks():
    made = UNet(**SIZES.unet), AutoencoderKL(**SIZES.vae), TextEncoder(**SIZES.text)
    return dict(zip(FOLDERS, made, strict=True))


@pytest.fixture(params=["folder", "single file"])
def path(request, networks, tmp_path):
    """The estimate is for the loaded weights, whatever the layout and the file's precision."""
    folder = request.param == "folder"
    maps = FOLDER_NAMES if folder else file_names(SIZES)
    weights = {
        part: {renamed(n, maps[part]): p.detach().half() for n, p in network.named_parameters()}
        for part, network in networks.items()
    }
    weights["text_encoder"]["embeddings.position_ids"] = torch.arange(7)  # counted, not learned
    if folder:
        for part, named in weights.items():
            (tmp_path / part).mkdir()
            save_file(named, tmp_path / part / "model.safetensors")
        return tmp_path
    whole = {PREFIXES[part] + n: w for part, named in weights.items() for n, w in named.items()}
    beside = {"betas": torch.rand(1000), "model_ema.decay": torch.rand(1)}
    save_file(whole | beside, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_weights_are_counted_as_they_will_be_loaded(path, networks, monkeypatch):
    expected = {
        part: sum(parameter.numel() for parameter in network.parameters())
        for part, network in networks.items()
    }
    assert count_weights(path) == expected
    small = 4 * (expected["vae"] + expected["text_encoder"])
    for units, size in ((True, 2), (False, 4)):
        monkeypatch.setattr(memory, "has_bf16", lambda device, now=units: now)
        assert memory.weight_bytes(path, CPU) == small + size * expected["unet"]


def test_a_controlnet_is_as_large_as_the_unet_makes_it(path, tmp_path, monkeypatch):
    """It is loaded in the U-Net's precision, whatever that of its file."""
    control = tmp_path / "control"
    control.mkdir()
    save_file({"a": torch.zeros(7, 100).half(), "b": torch.zeros(300)}, control / "w.safetensors")
    for units, size in ((True, 2), (False, 4)):
        monkeypatch.setattr(memory, "has_bf16", lambda device, now=units: now)
        alone = memory.weight_bytes(path, CPU)
        assert memory.weight_bytes(path, CPU, control) == alone + size * 1000


def test_the_line_says_what_is_needed_and_refuses_what_does_not_fit(path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8e9)
    line = memory.check_memory(path, 512, CPU)
    assert "1.2 GB to draw 512 × 512 pixels" in line and "8.0 GB are free" in line
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1.1e9)
    with pytest.raises(RuntimeError, match="try a smaller --size"):
        memory.check_memory(path, 512, CPU)
    assert "0.5 GB to draw 256 × 256" in memory.check_memory(path, 256, CPU)


@pytest.mark.parametrize(("size", "measured"), [(256, 0.44e9), (512, 1.08e9)])
def test_the_estimate_lies_a_little_above_what_was_measured(size, measured):
    assert measured < memory.work_bytes(size) < 1.3 * measured
