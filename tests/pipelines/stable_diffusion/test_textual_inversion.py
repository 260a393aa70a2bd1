"""Textual-inversion files, read and written, compared with diffusers."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.models import TextualInversion
from course_lib.pipelines.stable_diffusion import (
    load_stable_diffusion,
    load_textual_inversion,
    save_textual_inversion,
)
from tests.parity import agree
from tests.pipelines.stable_diffusion.test_checkpoint import (
    TOKENIZER,
    diffusers,
    folder,
    transformers,
    twins,
)

FIXTURES = (folder, twins)
CAPTIONS = ["two <toy> on a mat", "<toy>", "a red circle"]


@pytest.fixture(scope="module")
def model(folder):
    return load_stable_diffusion(folder)


def of_diffusers(twins, path):
    """The contexts of the captions after diffusers' `load_textual_inversion`."""
    words = dict(vocab=TOKENIZER.kwargs["vocabulary"])
    words |= dict(merges=[tuple(pair) for pair in TOKENIZER.kwargs["merges"]])
    pipe = diffusers.StableDiffusionPipeline(
        **dict(vae=None, unet=None, scheduler=None, safety_checker=None, feature_extractor=None),
        text_encoder=copy.deepcopy(twins["text_encoder"]),
        tokenizer=transformers.CLIPTokenizer(**words, model_max_length=77),
        requires_safety_checker=False,
    )
    pipe.load_textual_inversion(path, token="<toy>")
    prompts = [pipe.maybe_convert_prompt(caption, pipe.tokenizer) for caption in CAPTIONS]
    ids = pipe.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        return pipe.text_encoder(ids).last_hidden_state


FILES = {
    "diffusers": {"<toy>": torch.randn(32)},
    "several vectors": {"<toy>": torch.randn(3, 32)},
    "web UI": {"emb_params": torch.randn(2, 32)},
    "half": {"<toy>": torch.randn(1, 32).half()},
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_means_what_it_means_to_diffusers(model, twins, tmp_path, name):
    save_file(FILES[name], tmp_path / "<toy>.safetensors")
    clip = load_textual_inversion(tmp_path / "<toy>.safetensors", model)
    assert clip.word == "<toy>" and not any(p.requires_grad for p in clip.parameters())
    ours = clip.context(CAPTIONS)
    agree(ours, of_diffusers(twins, tmp_path / "<toy>.safetensors"), 1e-5)
    assert torch.equal(ours[2], model.clip.context(CAPTIONS[2:])[0])


def test_diffusers_reads_what_was_learned_here(model, twins, tmp_path):
    clip = TextualInversion(model.clip, "<toy>", torch.randn(2, 32))
    save_textual_inversion(tmp_path / "new" / "toy.safetensors", clip)
    agree(clip.context(CAPTIONS), of_diffusers(twins, tmp_path / "new" / "toy.safetensors"), 1e-5)
    again = load_textual_inversion(tmp_path / "new" / "toy.safetensors", model, "<cat>")
    assert torch.equal(again.vectors, clip.vectors) and again.word == "<cat>"
    assert list(load_file(tmp_path / "new" / "toy.safetensors")) == ["<toy>"]


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ({"<toy>": torch.ones(1024)}, r"expected \(N, 32\), got \(1, 1024\), as for .* 2$"),
        ({"<toy>": torch.ones(2, 31)}, r"got \(2, 31\), as for another model"),
        ({"<toy>": torch.ones(1, 2, 32)}, r"expected \(N, 32\), got \(1, 2, 32\)$"),
        ({"<toy>": torch.ones(0, 32)}, r"expected \(N, 32\), got \(0, 32\)"),
        ({"<toy>": torch.full((32,), torch.nan)}, "<toy>: not all finite"),
        ({"<toy>": torch.ones(32).int()}, "expected floats, got I32"),
        ({"<toy>": torch.ones(32), "<b>": torch.ones(32)}, "of one word, got 2 weights"),
        ({"clip_l": torch.ones(768), "clip_g": torch.ones(1280)}, "is for Stable Diffusion XL"),
    ],
)
def test_refuses_other_vectors(model, tmp_path, weights, line):
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=line):
        load_textual_inversion(tmp_path / "bad.safetensors", model)


def test_refuses_other_files(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no textual-inversion file"):
        load_textual_inversion(tmp_path, model)
    torch.save({"<toy>": torch.ones(32)}, tmp_path / "learned_embeds.bin")
    with pytest.raises(ValueError, match="run any code"):
        load_textual_inversion(tmp_path / "learned_embeds.bin", model)
    clip = TextualInversion(model.clip, "<toy>", torch.full((1, 32), torch.inf))
    with pytest.raises(ValueError, match="<toy>: not all finite"):
        save_textual_inversion(tmp_path / "toy.safetensors", clip)
    with pytest.raises(ValueError, match=r"expected a name in \.safetensors"):
        save_textual_inversion(tmp_path / "toy.pt", clip)
