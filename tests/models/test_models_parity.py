"""The same networks in diffusers and transformers, with the same weights, give the same numbers."""

from importlib import import_module

import psutil
import pytest
import torch

from course_lib.models import (
    SD15_TEXT,
    SD15_UNET,
    SD15_VAE,
    AutoencoderKL,
    DiT,
    TextEncoder,
    Tokenizer,
    UNet,
)
from course_lib.models.attention import Attention, TransformerBlock
from course_lib.models.dit import DiTBlock
from course_lib.models.layers import ResnetBlock
from course_lib.pipelines.stable_diffusion.key_map import (
    DIFFUSERS,
    TRANSFORMERS,
    renamed,
)
from tests.parity import agree

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


DIT = [(r"\.layer\.", "."), *DIFFUSERS]


def copy_weights(model, twin, names):
    """Copies the twin's weights by name; all names and all numbers of both must be used."""
    return set_weights(model, dict(twin.named_parameters()), names)


def set_weights(model, theirs, names):
    ours = {renamed(name, names): p for name, p in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(theirs[name].reshape(parameter.shape))  # 1×1 convolutions
    return model


def stirred(twin):
    """Random weights everywhere, including norms and biases."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return twin.eval()


def peer(module, name):
    return getattr(import_module(f"diffusers.models.{module}"), name)


@torch.inference_mode()
def test_residual_block_like_diffusers():
    twin = stirred(
        peer("resnet", "ResnetBlock2D")(
            in_channels=128, out_channels=256, temb_channels=64, groups=32, eps=1e-5
        )
    )
    block = copy_weights(ResnetBlock(128, 256, time_dim=64), twin, DIFFUSERS)
    x, time = torch.randn(2, 128, 8, 8), torch.randn(2, 64)
    agree(block(x, time), twin(x, time), 1e-5)


@pytest.mark.parametrize("context_dim", [None, 12])
@torch.inference_mode()
def test_attention_like_diffusers(context_dim):
    twin = stirred(
        peer("attention_processor", "Attention")(
            64, cross_attention_dim=context_dim, heads=4, dim_head=16
        )
    )
    layer = copy_weights(Attention(64, context_dim, heads=4), twin, DIFFUSERS)
    x, context = torch.randn(2, 9, 64), torch.randn(2, 7, context_dim or 64)
    agree(layer(x, context), twin(x, context if context_dim else None), 1e-5)


@torch.inference_mode()
def test_transformer_block_like_diffusers():
    twin = stirred(peer("attention", "BasicTransformerBlock")(64, 4, 16, cross_attention_dim=12))
    block = copy_weights(TransformerBlock(64, 4, context_dim=12), twin, DIFFUSERS)
    x, context = torch.randn(2, 9, 64), torch.randn(2, 7, 12)
    agree(block(x, context), twin(x, encoder_hidden_states=context), 1e-5)


def modulations(twin, emb):
    """The twin's weights, with its modulation layer split; `emb` makes the time embedding.

    The block in diffusers only modulates self-attention and feed-forward.
    """
    for module in twin.modules():
        if hasattr(module, "norm1"):
            module.norm1.emb = torch.nn.Module()
            module.norm1.emb.forward = lambda timestep, labels, hidden_dtype: emb(timestep)
    theirs = dict(twin.named_parameters())
    for name in [name for name in theirs if "norm1.linear" in name]:
        halves = theirs.pop(name).chunk(2)
        for part, half in zip(("attn1", "ff"), halves, strict=True):
            theirs[name.replace("norm1.linear", f"{part}.modulation")] = half
    return theirs


@pytest.mark.parametrize("context_dim", [None, 12])
@torch.inference_mode()
def test_dit_block_like_diffusers(context_dim):
    how = dict(norm_type="ada_norm_zero", num_embeds_ada_norm=10, norm_elementwise_affine=False)
    how |= dict(cross_attention_dim=context_dim, norm_eps=1e-6)
    twin = stirred(peer("attention", "BasicTransformerBlock")(64, 4, 16, **how))
    block, theirs = DiTBlock(64, 4, context_dim), modulations(twin, lambda time: time)
    if context_dim:  # which the twin does not modulate: no shift, no scale, a gate of 1
        theirs["attn2.modulation.weight"] = torch.zeros(3 * 64, 64)
        theirs["attn2.modulation.bias"] = torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(64)
    set_weights(block, theirs, DIT)
    x, time = torch.randn(2, 9, 64), torch.randn(2, 64)
    context = torch.randn(2, 7, context_dim) if context_dim else None
    agree(block(x, time, context), twin(x, encoder_hidden_states=context, timestep=time), 1e-5)


@pytest.mark.parametrize("patch", [1, 2])
@torch.inference_mode()
def test_dit_like_diffusers(patch):
    twin = stirred(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=4,
            attention_head_dim=16,
            in_channels=3,
            out_channels=5,
            num_layers=2,
            attention_bias=False,
            sample_size=8,
            patch_size=patch,
            activation_fn="geglu",
            norm_eps=1e-6,
        )
    )
    model = DiT(3, 5, size=8, patch_size=patch, dim=64, layers=2)
    theirs = modulations(twin, model.time_embedding)
    for ours, name in {"proj_in": "pos_embed.proj", "modulation": "proj_out_1"}.items():
        for kind in ("weight", "bias"):
            theirs[f"{ours}.{kind}"] = theirs.pop(f"{name}.{kind}")
    for kind in ("weight", "bias"):  # channels last in theirs, first in ours
        rows = theirs.pop(f"proj_out_2.{kind}").unflatten(0, (patch**2, 5))
        theirs[f"proj_out.{kind}"] = rows.transpose(0, 1).flatten(0, 1)
    theirs["pos_embed"] = twin.pos_embed.pos_embed
    embedding = model.time_embedding.named_parameters()
    theirs |= {f"time_embedding.{name}": p.clone() for name, p in embedding}
    set_weights(model, theirs, DIT)
    x, timestep = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 700.0])
    agree(model(x, timestep), twin(x, timestep, torch.zeros(2).long()).sample, 1e-5)


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


SMALL_UNET = dict(in_channels=4, channels=128, multipliers=(1, 2), layers_per_block=1, heads=4)
SMALL_UNET |= dict(attention=(True, False), context_dim=12)
SMALL_UNET_TWIN = dict(multipliers=(1, 2), attention=(True, False), layers_per_block=1)
SMALL_UNET_TWIN |= dict(attention_head_dim=4, cross_attention_dim=12)


@torch.inference_mode()
def test_unet_like_diffusers():
    twin = stirred(unet_twin(2, 128, **SMALL_UNET_TWIN))
    unet = copy_weights(UNet(**SMALL_UNET), twin, DIFFUSERS)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 721.5]), torch.randn(2, 7, 12)
    expected = twin(x, t, context).sample
    agree(unet(x, t, context), expected, 1e-5)


def test_stable_diffusion_unet_has_the_names_and_shapes_of_diffusers():
    with torch.device("meta"):
        unet = UNet(**SD15_UNET)
        keywords = {k: SD15_UNET[k] for k in ("multipliers", "attention")}
        twin = unet_twin(4, 320, attention_head_dim=8, cross_attention_dim=768, **keywords)
    copy_weights(unet, twin, DIFFUSERS)
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
    vae = AutoencoderKL(
        channels=128, multipliers=(1, 2), layers_per_block=1, scaling_factor=0.18215
    )
    copy_weights(vae, twin, DIFFUSERS)
    x = 2 * torch.rand(2, 3, 16, 16) - 1
    posterior = twin.encode(x).latent_dist
    mu, logvar = vae.encode_moments(x)
    agree(mu, posterior.mean, 1e-5)
    agree(logvar, posterior.logvar, 1e-5)
    agree(vae.encode(x), 0.18215 * posterior.mean, 1e-5)
    expected = twin.decode(posterior.mean).sample
    agree(vae.decode(0.18215 * posterior.mean), expected, 1e-5)


def test_stable_diffusion_autoencoder_has_the_names_and_shapes_of_diffusers():
    with torch.device("meta"):
        vae, twin = AutoencoderKL(**SD15_VAE), vae_twin((128, 256, 512, 512), 2)
    copy_weights(vae, twin, DIFFUSERS)
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
    encoder = copy_weights(TextEncoder(**keywords), twin, TRANSFORMERS)
    ids = torch.tensor([[48, 3, 7, 21, 49, 49], [48, 49, 49, 49, 49, 49]])
    expected = twin(ids)
    context = encoder(ids)
    agree(context, expected.last_hidden_state, 1e-5)
    pooled = encoder.pool(ids, context)
    agree(pooled, expected.pooler_output, 1e-5)


def test_stable_diffusion_text_encoder_has_the_names_and_shapes_of_transformers():
    with torch.device("meta"):
        encoder, twin = TextEncoder(**SD15_TEXT), text_twin(**SD15_TEXT)
    copy_weights(encoder, twin, TRANSFORMERS)
    assert len(encoder.state_dict()) == 196


FREE = psutil.virtual_memory().available / 1e9
at_full_size = pytest.mark.skipif(FREE < 8, reason=f"needs 8 GB of free memory, {FREE:.1f} are")


def sharing(model, twin, names):
    """`model`, built on the meta device, with the tensors of `twin`, filled at random."""
    torch.manual_seed(0)
    theirs = dict(twin.to_empty(device="cpu").eval().named_parameters())
    for name, parameter in theirs.items():
        parameter.normal_(float("norm" in name and "weight" in name), 0.02)
    state = {
        name: theirs[renamed(name, names)].reshape(parameter.shape)
        for name, parameter in model.named_parameters()
    }
    state |= {name: torch.ones(buffer.shape) for name, buffer in model.named_buffers()}
    model.load_state_dict(state, assign=True)
    ours, their = next(iter(state.values())), theirs[renamed(next(iter(state)), names)]
    assert ours.data_ptr() == their.data_ptr()
    return model.eval()


@at_full_size
@torch.inference_mode()
def test_stable_diffusion_unet_at_full_size():
    """All 859,520,964 weights, shared by the two models, not copied; one forward pass each."""
    with torch.device("meta"):
        unet = UNet(**SD15_UNET)
        keywords = {k: SD15_UNET[k] for k in ("multipliers", "attention")}
        twin = unet_twin(4, 320, attention_head_dim=8, cross_attention_dim=768, **keywords)
    unet = sharing(unet, twin, DIFFUSERS)
    x, t, context = torch.randn(1, 4, 16, 16), torch.tensor([721.0]), torch.randn(1, 77, 768)
    agree(unet(x, t, context), twin(x, t, context).sample, 1e-5)


@at_full_size
@torch.inference_mode()
def test_stable_diffusion_autoencoder_at_full_size():
    with torch.device("meta"):
        vae, twin = AutoencoderKL(**SD15_VAE), vae_twin((128, 256, 512, 512), 2)
    vae = sharing(vae, twin, DIFFUSERS)
    x, z = 2 * torch.rand(1, 3, 64, 64) - 1, torch.randn(1, 4, 8, 8)
    agree(vae.encode_moments(x)[0], twin.encode(x).latent_dist.mean, 1e-5)
    agree(vae.reconstruct(z), twin.decode(z).sample, 1e-5)


@at_full_size
@torch.inference_mode()
def test_stable_diffusion_text_encoder_at_full_size():
    encoder, twin = TextEncoder(**SD15_TEXT).eval(), stirred(text_twin(**SD15_TEXT))
    copy_weights(encoder, twin, TRANSFORMERS)
    ids = torch.randint(0, 49406, (1, 77))
    agree(encoder(ids), twin(ids).last_hidden_state, 1e-5)


def test_tokenizer_like_transformers():
    captions = ["a large red circle, on blue", "the artist's two (tiny) rings: 42 éclairs!", ""]
    ours = Tokenizer.train(captions, vocab_size=90, length=64)
    merges = [tuple(pair) for pair in ours.kwargs["merges"]]
    peer = transformers.CLIPTokenizer(vocab=ours.kwargs["vocabulary"], merges=merges)
    expected = peer(captions, padding="max_length", max_length=64)["input_ids"]
    assert ours(captions).tolist() == expected
