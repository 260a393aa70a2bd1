"""Twins from diffusers and transformers with the same weights give the same numbers."""

import pytest
import torch

from course_lib.models import (
    SD15_TEXT,
    SD15_UNET,
    SD15_VAE,
    AutoencoderKL,
    TextEncoder,
    Tokenizer,
    UNet,
)
from course_lib.stable_diffusion.names import (
    DIFFUSERS_TEXT,
    DIFFUSERS_UNET,
    diffusers_vae,
    renamed,
)

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


def copy_weights(model, twin, names):
    """Copies the twin's weights by name; every name and every number of the two must be used."""
    theirs = dict(twin.named_parameters())
    ours = {renamed(name, names): p for name, p in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(theirs[name].reshape(parameter.shape))  # 1×1 convolutions
    return model


def stirred(twin):
    """Random weights all over, norms and biases too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return twin.eval()


def unet_twin(stages, width, **keywords):
    widths = tuple(width * m for m in keywords.pop("multipliers"))
    attention = keywords.pop("attention")
    return diffusers.UNet2DConditionModel(
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]],
        in_channels=4,
        out_channels=4,
        **keywords,
    )


SMALL_UNET = dict(in_channels=4, channels=128, multipliers=(1, 2), blocks=1, heads=4)
SMALL_UNET |= dict(attention=(True, False), context_dim=12)
SMALL_UNET_TWIN = dict(multipliers=(1, 2), attention=(True, False), layers_per_block=1)
SMALL_UNET_TWIN |= dict(attention_head_dim=4, cross_attention_dim=12)


@torch.inference_mode()
def test_unet_like_diffusers():
    twin = stirred(unet_twin(2, 128, **SMALL_UNET_TWIN))
    unet = copy_weights(UNet(**SMALL_UNET), twin, DIFFUSERS_UNET)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.5]), torch.randn(2, 7, 12)
    expected = twin(x, t, context).sample
    torch.testing.assert_close(unet(x, t, context), expected, rtol=0, atol=1e-5)


def test_stable_diffusion_unet_has_the_names_and_shapes_of_diffusers():
    with torch.device("meta"):
        unet = UNet(**SD15_UNET)
        keywords = {k: SD15_UNET[k] for k in ("multipliers", "attention")}
        twin = unet_twin(4, 320, attention_head_dim=8, cross_attention_dim=768, **keywords)
    copy_weights(unet, twin, DIFFUSERS_UNET)
    assert len(unet.state_dict()) == 686


def vae_twin(widths, blocks):
    return diffusers.AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        layers_per_block=blocks,
        latent_channels=4,
    )


@torch.inference_mode()
def test_autoencoder_like_diffusers():
    twin = stirred(vae_twin((128, 256), 1))
    vae = AutoencoderKL(channels=128, multipliers=(1, 2), blocks=1, scaling_factor=0.18215)
    copy_weights(vae, twin, diffusers_vae(2, 1))
    x = 2 * torch.rand(2, 3, 16, 16) - 1
    posterior = twin.encode(x).latent_dist
    mu, logvar = vae.encode_moments(x)
    torch.testing.assert_close(mu, posterior.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, posterior.logvar, rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.encode(x), 0.18215 * posterior.mean, rtol=0, atol=1e-5)
    expected = twin.decode(posterior.mean).sample
    torch.testing.assert_close(vae.decode(0.18215 * posterior.mean), expected, rtol=0, atol=1e-5)


def test_stable_diffusion_autoencoder_has_the_names_and_shapes_of_diffusers():
    with torch.device("meta"):
        vae, twin = AutoencoderKL(**SD15_VAE), vae_twin((128, 256, 512, 512), 2)
    copy_weights(vae, twin, diffusers_vae(4, 2))
    assert len(list(vae.parameters())) == 248


def text_twin(vocab_size, length, dim, layers, heads):
    config = transformers.CLIPTextConfig(
        vocab_size=vocab_size,
        max_position_embeddings=length,
        hidden_size=dim,
        intermediate_size=4 * dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act="quick_gelu",
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
    )
    return transformers.CLIPTextModel(config)


@torch.inference_mode()
def test_text_encoder_like_transformers():
    keywords = dict(vocab_size=50, length=12, dim=32, layers=2, heads=4)
    twin = stirred(text_twin(**keywords))
    encoder = copy_weights(TextEncoder(**keywords), twin, DIFFUSERS_TEXT)
    ids = torch.tensor([[48, 3, 7, 21, 49, 49], [48, 49, 49, 49, 49, 49]])
    expected = twin(ids)
    context = encoder(ids)
    torch.testing.assert_close(context, expected.last_hidden_state, rtol=0, atol=1e-5)
    pooled = encoder.pool(ids, context)
    torch.testing.assert_close(pooled, expected.pooler_output, rtol=0, atol=1e-5)


def test_stable_diffusion_text_encoder_has_the_names_and_shapes_of_transformers():
    with torch.device("meta"):
        encoder, twin = TextEncoder(**SD15_TEXT), text_twin(**SD15_TEXT)
    copy_weights(encoder, twin, DIFFUSERS_TEXT)
    assert len(encoder.state_dict()) == 196


def test_tokenizer_like_transformers():
    captions = ["a large red circle, on blue", "the artist's two (tiny) rings: 42 éclairs!", ""]
    ours = Tokenizer.train(captions, vocab_size=90, length=64)
    merges = [tuple(pair) for pair in ours.kwargs["merges"]]
    peer = transformers.CLIPTokenizer(vocab=ours.kwargs["vocabulary"], merges=merges)
    expected = peer(captions, padding="max_length", max_length=64)["input_ids"]
    assert ours(captions).tolist() == expected
