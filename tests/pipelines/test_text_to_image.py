"""The three components put together: the loop by hand, seeds, strength, masks, and refusals."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.common import devices
from course_lib.common.devices import pick_device
from course_lib.diffusion import Diffusion, generators, guided, initial_noise, trajectory
from course_lib.models import Controlled, ControlNet, TextUNet, Tokenizer
from course_lib.pipelines import image_to_image, inpaint, load_published, text_to_image
from course_lib.recipes import load_pipeline
from course_lib.recipes.scenes import ScenesLatent

CAPTIONS = ["a red circle", "a blue square"]
CLOSE = dict(atol=2e-4, rtol=0)  # float32 through three networks, in batches of other sizes


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Identities hold up to float32's rounding, not bf16's, so all machines use float32."""
    monkeypatch.setattr(devices, "fast_precision", lambda device: "no")


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def mask():
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 5:20, 10:22] = True
    return mask


@pytest.fixture
def batches(toy_pipeline):
    """The batch size of every call of the U-Net during the test."""
    seen = []
    hook = toy_pipeline.unet.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    yield seen
    hook.remove()


def test_without_a_number_of_steps_it_is_the_models_own(toy_pipeline, images, mask, batches):
    model = replace(toy_pipeline, steps=3)
    text_to_image(model, CAPTIONS)
    inpaint(model, images, mask, CAPTIONS)
    image_to_image(model, images, CAPTIONS, strength=2 / 3)
    assert batches == [4] * (3 + 3 + 2)  # each with guidance, for two captions


def test_text_to_image_is_the_four_lines_of_latent_diffusion(toy_pipeline):
    model = toy_pipeline
    context, null = model.clip.context(CAPTIONS), model.clip.context([""])
    noise = initial_noise(generators([5, 6]), (4, 8, 8))
    network = guided(model.unet, null, scale=3.0)
    *_, z = trajectory(model.process, network, noise, context, steps=3)
    by_hand = model.vae.decode(z).clamp(-1, 1)
    images = text_to_image(model, CAPTIONS, [5, 6], steps=3)
    assert images.shape == (2, 3, 32, 32)
    assert not images.requires_grad
    torch.testing.assert_close(images, by_hand)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpm++2m"])
def test_a_seed_gives_the_same_picture_in_any_batch(toy_pipeline, sampler):
    captions = [CAPTIONS[i % 2] for i in range(5)]
    many = text_to_image(toy_pipeline, captions, [9, 8, 7, 6, 5], steps=3, sampler=sampler)
    alone = text_to_image(toy_pipeline, captions[3:4], [6], steps=3, sampler=sampler)
    torch.testing.assert_close(alone, many[3:4], **CLOSE)
    assert (many[1] - many[3]).abs().max() > 0.01  # another seed, another picture


def test_guidance_is_one_call_on_twice_the_batch_and_scale_1_none(toy_pipeline, batches):
    text_to_image(toy_pipeline, CAPTIONS, steps=2)
    text_to_image(toy_pipeline, CAPTIONS, steps=2, scale=1)
    assert batches == [4, 4, 2, 2]


def test_a_negative_caption_takes_the_empty_ones_place(toy_pipeline):
    plain, against = (
        text_to_image(toy_pipeline, CAPTIONS, steps=2, negative=n) for n in ("", "a green circle")
    )
    # a negative prompt equal to the prompt: the difference vanishes, and so does guidance
    same = text_to_image(toy_pipeline, CAPTIONS[:1], steps=2, negative=CAPTIONS[0])
    unguided = text_to_image(toy_pipeline, CAPTIONS[:1], steps=2, scale=1)
    assert (plain - against).abs().max() > 1e-3
    torch.testing.assert_close(same, unguided, **CLOSE)


def test_full_strength_on_a_path_that_ends_in_noise_is_text_to_image(toy_pipeline, images):
    new = image_to_image(toy_pipeline, images, CAPTIONS, [3, 4], strength=1.0, steps=4)
    torch.testing.assert_close(new, text_to_image(toy_pipeline, CAPTIONS, [3, 4], steps=4), **CLOSE)


def test_hardly_any_strength_leaves_the_reconstruction(toy_pipeline, images):
    new = image_to_image(toy_pipeline, images, CAPTIONS, strength=1e-4)
    torch.testing.assert_close(new, toy_pipeline.vae(images).clamp(-1, 1), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("strength", "steps", "calls"),
    [(0.5, 10, 5), (0.51, 10, 6), (0.01, 10, 1), (1.0, 10, 10), (0.07, 100, 7), (0.28, 25, 7)],
)
def test_strength_is_the_share_of_the_steps(toy_pipeline, images, batches, strength, steps, calls):
    image_to_image(toy_pipeline, images, CAPTIONS, strength=strength, steps=steps)
    assert len(batches) == calls


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_image_to_image_starts_as_noisy_as_its_first_step_expects(toy_pipeline, images, spacing):
    """On a table of 1000 times; the U-Net's timesteps are recorded."""
    model = replace(toy_pipeline, process=Diffusion("scaled_linear", "eps"), scale=1.0)
    given = []
    hook = model.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs[:2]))
    image_to_image(model, images, CAPTIONS, [0, 1], strength=0.4, steps=7, spacing=spacing)
    hook.remove()
    xt, timestep = given[0]
    noise = initial_noise(generators([0, 1]), (4, 8, 8))
    t = (timestep[0].item() + 1) / 1000
    torch.testing.assert_close(xt, model.process.add_noise(model.vae.encode(images), t, noise))
    assert t <= 0.4


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "heun"])
def test_inpainting_keeps_every_pixel_outside_the_mask(toy_pipeline, images, mask, sampler):
    new = inpaint(toy_pipeline, images, mask, CAPTIONS, steps=3, sampler=sampler)
    outside = ~mask.expand_as(images)
    assert torch.equal(new[outside], images[outside])
    assert (new - images).abs().amax((1, 2, 3)).min() > 0.1


def test_while_inpainting_the_known_part_is_an_exact_noising(toy_pipeline, images, mask):
    model = replace(toy_pipeline, scale=1.0)
    given = []
    hook = model.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs[:2]))
    inpaint(model, images, mask, CAPTIONS, [0, 1], steps=4)
    hook.remove()
    known, noise = model.vae.encode(images), initial_noise(generators([0, 1]), (4, 8, 8))
    cells = torch.zeros(8, 8, dtype=torch.bool)
    cells[1:5, 2:6] = True  # all that touch rows 5-19, columns 10-21, four pixels each
    for xt, timestep in given:
        noised = model.process.add_noise(known, timestep[0].item() / 1000, noise)
        torch.testing.assert_close(xt[..., ~cells], noised[..., ~cells], atol=1e-5, rtol=0)
    assert (given[-1][0] - noised)[..., cells].abs().min() > 0


def test_masks_of_all_and_of_nothing(toy_pipeline, images):
    everything, nothing = torch.ones(1, 1, 32, 32), torch.zeros(2, 1, 32, 32)
    new = inpaint(toy_pipeline, images, everything, CAPTIONS, steps=3)
    torch.testing.assert_close(new, text_to_image(toy_pipeline, CAPTIONS, steps=3), **CLOSE)
    assert torch.equal(inpaint(toy_pipeline, images, nothing, CAPTIONS, steps=1), images)


def test_every_pipeline_draws_with_a_controlnet(toy_pipeline, images, mask):
    """A new one changes no bit of a picture; a trained one changes every picture."""
    controlnet = ControlNet.from_unet(toy_pipeline.unet, embedding_channels=(4, 8, 12))
    steered = Controlled(toy_pipeline.unet, controlnet, (images + 1) / 2)
    model = replace(toy_pipeline, unet=steered.requires_grad_(False))
    draws = (
        lambda model: text_to_image(model, CAPTIONS, steps=2),
        lambda model: image_to_image(model, images, CAPTIONS, steps=2),
        lambda model: inpaint(model, images, mask, CAPTIONS, steps=2),
    )
    before = [draw(toy_pipeline) for draw in draws]
    assert all(torch.equal(draw(model), old) for draw, old in zip(draws, before, strict=True))
    torch.manual_seed(0)
    for weight in controlnet.parameters():
        weight += 0.1 * torch.randn_like(weight)
    for draw, old in zip(draws, before, strict=True):
        assert (draw(model) - old).abs().max() > 1e-3


def test_bf16_changes_a_picture_by_its_rounding_only(toy_pipeline, monkeypatch):
    """bf16 rounds to 1 part in 256; guidance of 3 and three steps add up a few such errors."""
    exact = text_to_image(toy_pipeline, CAPTIONS, steps=3)
    monkeypatch.setattr(devices, "fast_precision", lambda device: "bf16")
    fast = text_to_image(toy_pipeline, CAPTIONS, steps=3)
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).abs().mean() < 0.02


def test_bf16_converts_a_weight_once_for_all_steps(toy_pipeline, monkeypatch):
    """Autocast caches the conversion of trainable weights, as loaded checkpoints have them."""
    model = replace(toy_pipeline, unet=copy.deepcopy(toy_pipeline.unet).requires_grad_(True))
    weight, converted = model.unet.conv_in.weight, []

    class Conversions(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            converted.append(operation is torch.ops.aten._to_copy.default and args[0] is weight)
            return operation(*args, **(kwargs or {}))

    monkeypatch.setattr(devices, "fast_precision", lambda device: "bf16")
    with Conversions():
        text_to_image(model, CAPTIONS, steps=3)
    assert sum(converted) == 1


def test_a_pipeline_takes_every_name_of_a_device():
    assert load_pipeline("scenes-latent", "auto").device == pick_device("auto")
    for load in (load_pipeline, load_published):
        with pytest.raises(ValueError, match="unknown device 'gpu'"):
            load("scenes-latent", device="gpu")


REFUSED = [
    (dict(captions=[]), "no captions"),
    (dict(captions=["a purple circle"]), "unknown words: 'purple'"),
    (dict(seeds=[1]), "1 seeds were given for 2 captions"),
    (dict(scale=float("nan")), "scale: expected a finite number, got nan"),
    (dict(steps=0), "steps: expected .*at least 1"),
    (dict(sampler="dimm"), "unknown sampler 'dimm'; did you mean 'ddim'"),
    (dict(spacing="tailing"), "unknown spacing 'tailing'; did you mean 'trailing'"),
]


@pytest.mark.parametrize(("wrong", "line"), REFUSED)
def test_text_to_image_refuses(toy_pipeline, wrong, line):
    with pytest.raises(ValueError, match=line):
        text_to_image(toy_pipeline, **dict(captions=CAPTIONS) | wrong)


@pytest.mark.parametrize(
    ("change", "wrong", "line"),
    [
        (lambda x: x, dict(strength=0.0), r"strength must be in \(0, 1\], got 0"),
        (lambda x: x, dict(strength=1.5), "strength must be in"),
        (lambda x: x, dict(steps=0), "steps must be at least 1, got 0"),
        (lambda x: x[:1], {}, r"images are \(1, 3, 32, 32\), expected \(2, 3, 32, 32\)"),
        (lambda x: x[..., :16], {}, r"images are \(2, 3, 32, 16\), expected"),
        (lambda x: 127 * (x + 1), {}, r"expected values in \[-1, 1\]"),
        (lambda x: (x > 0).byte(), {}, "uint8"),
    ],
)
def test_image_to_image_refuses(toy_pipeline, images, change, wrong, line):
    with pytest.raises(ValueError, match=line):
        image_to_image(toy_pipeline, change(images), CAPTIONS, **wrong)


def test_inpaint_refuses_masks_that_do_not_fit(toy_pipeline, images, mask):
    with pytest.raises(ValueError, match=r"mask is \(32, 32\), expected \(2, 1, 32, 32\)"):
        inpaint(toy_pipeline, images, mask[0, 0], CAPTIONS)
    with pytest.raises(ValueError, match=r"holds 0 \(keep\) and 1 \(paint\), got values up to 255"):
        inpaint(toy_pipeline, images, 255 * mask.int(), CAPTIONS)


# --- what training never showed ----------------------------------------------------------------


@pytest.fixture
def warned(caplog):
    """The lines that the pipelines have logged so far."""
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def critical(toy_pipeline):
    """A model with a useful range of guidance, for which blue squares are unusual."""
    return replace(
        toy_pipeline,
        scales=(1.0, 6.0),
        review=lambda caption: "it is too square" if "square" in caption else None,
    )


UNUSUAL = "training showed nothing like 'a blue square': it is too square"
BEYOND = (
    "guidance 6.5 is outside the useful range of this model, 1 to 6: fewer pictures will be right"
)


def test_all_three_warn_once_of_each_thing(critical, images, mask, warned):
    captions = ["a red circle", "a blue square", "a blue square"]
    three = torch.cat([images, images[:1]])
    for draw in (
        lambda: text_to_image(critical, captions, steps=1, scale=6.5),
        lambda: image_to_image(critical, three, captions, steps=1, scale=6.5),
        lambda: inpaint(critical, three, mask, captions, steps=1, scale=6.5),
    ):
        before = len(warned())
        assert draw().isfinite().all()
        assert warned()[before:] == [UNUSUAL, BEYOND]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (dict(), []),
        (dict(scale=1), []),
        (dict(scale=6), []),
        (dict(scale=0.5), [BEYOND.replace("6.5", "0.5")]),
        (dict(negative="a blue square"), [UNUSUAL]),
        (dict(captions=["", ""], scale=6.5), []),  # the null caption can't be exaggerated
    ],
)
def test_what_is_usual_is_drawn_without_a_word(critical, options, lines, warned):
    text_to_image(critical, **dict(captions=["a red circle"], steps=1) | options)
    assert warned() == lines


def test_a_pipeline_that_knows_no_grammar_never_warns(toy_pipeline, warned):
    """Stable Diffusion, or any other model."""
    text_to_image(toy_pipeline, ["two circle", "a blue square"], steps=1, scale=40, negative="a")
    assert warned() == []


def test_what_is_refused_is_not_warned_of(critical, warned):
    with pytest.raises(ValueError, match="unknown words: 'purple'"):
        text_to_image(critical, ["a blue square", "a purple square"], scale=40)
    assert warned() == []


def test_the_shipped_model_is_reviewed_and_one_of_other_words_is_not():
    shipped = load_pipeline()
    with pytest.raises(ValueError, match=r"unknown words: 'pink'; colours: red, .*; counts: a/one"):
        text_to_image(shipped, ["a pink circle"])
    assert "relation" in shipped.review("a red circle, a blue square")
    assert shipped.scales[0] <= shipped.scale <= shipped.scales[1] < 40

    sea = Tokenizer.train(["a red circle", "a circle at sea"])
    recipe = ScenesLatent()
    recipe.clip.tokenizer = sea
    own = recipe.pipeline(TextUNet(ScenesLatent.unet, shipped.clip.text_encoder.kwargs))
    assert own.review("a circle circle") is None and own.review("a pink circle") is None
    assert own.scales == (-math.inf, math.inf)


def test_load_pipeline_refuses_other_names():
    with pytest.raises(ValueError, match="unknown text-to-image model 'scenes-latnt'"):
        load_pipeline("scenes-latnt")
