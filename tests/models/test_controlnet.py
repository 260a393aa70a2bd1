"""ControlNet: the identity at first, what it trains, and how it fits guidance, LoRA, batches."""

import copy

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.diffusion import Diffusion, guided
from course_lib.models import Controlled, ControlNet, LoRA, UNet
from course_lib.training import Optimizer, Training
from tests.models.denoisers import LABELS, PLAIN, TEXT, inputs, stirred

CASES = {
    "text": TEXT,
    "labels": LABELS,
    "plain": PLAIN,
    "one layer, film, positions": TEXT | dict(film=True, size=8, multipliers=(1, 1)),
    "two layers": TEXT | dict(layers_per_block=2, out_channels=5),
}
SMALL = dict(embedding_channels=(4, 8, 12))  # x is a quarter of the images' size


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=CASES)
def case(request):
    """A U-Net, its inputs, and images of four times the size."""
    keywords = CASES[request.param]
    return stirred(UNet(**keywords)), inputs(keywords), torch.rand(2, 3, 32, 32)


def trained(controlnet):
    """The ControlNet with random zero convolutions, as if it had been trained."""
    return stirred(controlnet)


def close(x, y, bound=1e-5):
    assert (x - y).abs().max() <= bound * y.abs().max()


def test_it_is_the_identity_at_the_start(case):
    """To the last bit, whatever the image and the scale."""
    unet, given, images = case
    controlnet = ControlNet.from_unet(unet, **SMALL)
    assert all(r.abs().max() == 0 for r in controlnet(*given, images))
    assert torch.equal(Controlled(unet, controlnet, images, scale=7.0)(*given), unet(*given))


def test_the_copy_is_the_unets_way_down(case):
    """Same names, same weights, its own memory; what it adds is named as in diffusers."""
    unet, _, _ = case
    controlnet = ControlNet.from_unet(unet, **SMALL)
    own, theirs = controlnet.state_dict(), unet.state_dict()
    added = {name for name in own if name.startswith("controlnet_")}
    up = {name for name in theirs if name.startswith(("up_blocks", "conv_norm_out", "conv_out"))}
    assert own.keys() - added == theirs.keys() - up
    for name in own.keys() - added:
        assert torch.equal(own[name], theirs[name])
        assert own[name].data_ptr() != theirs[name].data_ptr()


def test_what_it_adds_by_hand(case):
    """Figure 3: zero convolutions of the copy's skips and middle, which also saw the image."""
    unet, (x, t, context), images = case
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    hint = controlnet.controlnet_cond_embedding(images)
    assert hint.shape == (2, 16, 8, 8)

    skips, middle = [], []
    copied = UNet(**unet.kwargs)
    copied.load_state_dict(controlnet.state_dict(), strict=False)
    copied.conv_in.register_forward_hook(lambda _, given, h: h + hint)
    for block in copied.down_blocks:
        block.register_forward_hook(lambda _, given, h: skips.__setitem__(slice(None), given[3]))
    copied.mid_block.register_forward_hook(lambda _, given, h: middle.append(h))
    copied(x, t, context)

    zeros = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    expected = [zero(h) for zero, h in zip(zeros, [*skips, *middle], strict=True)]
    residuals = controlnet(x, t, context, images)
    assert all(torch.equal(r, e) for r, e in zip(residuals, expected, strict=True))


def test_the_residuals_are_added_to_the_skips_and_the_middle(case):
    """By hand, with hooks: the decoder reads skip + residual, and starts at middle + residual."""
    unet, given, images = case
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    answer = Controlled(unet, controlnet, images, scale=0.5)(*given)
    *to_skips, to_middle = (0.5 * r for r in controlnet(*given, images))

    def add(block, inputs):
        h, _, _, skips = inputs
        skips[:] = [skip + residual for skip, residual in zip(skips, to_skips, strict=True)]
        return h + to_middle, *inputs[1:]

    hook = unet.up_blocks[0].register_forward_pre_hook(add)
    expected = unet(*given)
    hook.remove()
    assert torch.equal(answer, expected)
    assert (answer - unet(*given)).abs().max() > 1e-2 * answer.abs().max()


def test_a_scale_of_zero_is_no_control(case):
    unet, given, images = case
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    assert torch.equal(Controlled(unet, controlnet, images, scale=0.0)(*given), unet(*given))


def test_all_of_it_learns_after_the_zero_convolutions_do():
    """§3.1: at first only the zero convolutions have a gradient; after one step, all layers."""
    unet, given = stirred(UNet(**TEXT)).requires_grad_(False), inputs(TEXT)
    controlnet = ControlNet.from_unet(unet, **SMALL).requires_grad_(True)
    network = Controlled(unet, controlnet, torch.rand(2, 3, 32, 32))
    optimizer = torch.optim.SGD(controlnet.parameters(), lr=0.1)

    def learning():
        optimizer.zero_grad()
        network(*given).square().mean().backward()
        return {n for n, p in controlnet.named_parameters() if p.grad is not None and p.grad.any()}

    everything = {name for name, _ in controlnet.named_parameters()}
    zeros = {n for n in everything if n.startswith(("controlnet_down_", "controlnet_mid"))}
    embedding = {n for n in everything if n.startswith("controlnet_cond_embedding")}
    last = {n for n in embedding if ".conv_out." in n}
    assert learning() == zeros
    optimizer.step()
    assert learning() == everything - (embedding - last)  # behind a second zero convolution
    optimizer.step()
    assert learning() == everything
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_the_training_loop_trains_it_and_leaves_the_unet_alone():
    unet, given = stirred(UNet(**TEXT)).requires_grad_(False), inputs(TEXT)
    before, images = copy.deepcopy(unet.state_dict()), torch.rand(2, 3, 32, 32)
    goal = torch.randn(2, 3, 8, 8)

    def loss(controlnet, data):
        return (Controlled(unet, controlnet, images)(*data) - goal).square().mean()

    controlnet = ControlNet.from_unet(unet, **SMALL).requires_grad_(True)
    optimizer = Optimizer(lr=1e-2, warmup=1)
    losses = [
        step.loss
        for step in Training(controlnet, loss, lambda _: given, steps=20, optimizer=optimizer)
    ]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in unet.state_dict().items())


@pytest.mark.parametrize("case", ["text", "labels", "two layers"], indirect=True)
def test_guidance_shows_each_sample_its_own_image(case):
    """The batch holds every sample twice, with and without its condition."""
    unet, (x, t, context), images = case
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    null = 10 if unet.classes else torch.randn(1, 5, 12)
    both = guided(Controlled(unet, controlnet, images), null, 3.0)(x, t, context)
    for i in range(2):
        alone = Controlled(unet, controlnet, images[i : i + 1])
        expected = guided(alone, null, 3.0)(x[i : i + 1], t[i : i + 1], context[i : i + 1])
        close(both[i : i + 1], expected)
    assert (Controlled(unet, controlnet, images.flip(0))(x, t, context) - both).abs().max() > 0.01


def test_one_image_serves_all_samples(case):
    unet, given, images = case
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    one = Controlled(unet, controlnet, images[:1])(*given)
    close(one, Controlled(unet, controlnet, images[:1].expand(2, -1, -1, -1))(*given))


def filled(lora):
    for update in lora.low_rank:
        update.B.data = torch.randn_like(update.B) / 4
    return lora


def test_a_lora_and_a_controlnet_together():
    """A LoRA of the U-Net, merged or not, is steered; the ControlNet itself isn't adapted."""
    unet, given, images = stirred(UNet(**TEXT)), inputs(TEXT), torch.rand(2, 3, 32, 32)
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    plain = Controlled(unet, controlnet, images)(*given)
    lora = filled(LoRA(unet, rank=2))
    steered = Controlled(lora, controlnet, images)(*given)
    assert (steered - plain).abs().max() > 1e-2 * plain.abs().max()
    lora.merge()
    close(Controlled(unet, controlnet, images)(*given), steered)
    close(Controlled(lora, controlnet, images)(*given), steered)


def test_a_lora_of_a_controlnet():
    """A ControlNet is a network with linear layers as well."""
    unet, given, images = stirred(UNet(**TEXT)), inputs(TEXT), torch.rand(2, 3, 32, 32)
    controlnet = trained(ControlNet.from_unet(unet, **SMALL))
    network = Controlled(unet, controlnet, images)
    before = network(*given)
    filled(LoRA(controlnet, rank=2)).merge()
    assert (network(*given) - before).abs().max() > 1e-3 * before.abs().max()


def test_the_process_and_its_loss_call_it_like_any_network():
    unet, (x, _, context), images = stirred(UNet(**TEXT)), inputs(TEXT), torch.rand(2, 3, 32, 32)
    network = Controlled(unet, ControlNet.from_unet(unet, **SMALL), images)
    process, t, eps = Diffusion("cosine", "v"), torch.tensor([0.3, 0.6]), torch.randn_like(x)
    assert process.loss(network, x, context, t, eps) == process.loss(unet, x, context, t, eps)


def test_a_checkpoint_is_read_back(tmp_path):
    controlnet = trained(ControlNet.from_unet(UNet(**TEXT), **SMALL))
    path = save_checkpoint(tmp_path / "edges", controlnet, seed=0, steps=1)
    again, given = load_checkpoint(ControlNet, path), inputs(TEXT)
    images = torch.rand(2, 3, 32, 32)
    pairs = zip(again(*given, images), controlnet(*given, images), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_it_compiles_in_one_graph():
    unet, given, images = stirred(UNet(**TEXT)), inputs(TEXT), torch.rand(2, 3, 32, 32)
    network = Controlled(unet, trained(ControlNet.from_unet(unet, **SMALL)), images)
    with torch.no_grad():
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        assert torch.equal(compiled(*given), network(*given))


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        (dict(context_dim=20), r"context: expected \(2, L, 20\) .*, got \(2, 5, 12\)"),
        (dict(context_dim=None, classes=3), r"context: expected \(2,\) .*, got \(2, 5, 12\)"),
        (dict(in_channels=4), r"x: expected \(B, 4, 2h, 2w\) .*, got \(2, 3, 8, 8\)"),
        (dict(multipliers=(1, 3)), r"residuals: expected those of the skips and the middle, \[\(2"),
        (dict(multipliers=(1, 2, 2), attention=(False, True, True)), "residuals: expected"),
        (dict(layers_per_block=2), "residuals: expected"),
        (dict(channels=32), r"residuals: .*, got \[\(2, 32, 8, 8\)"),
    ],
)
def test_refuses_the_controlnet_of_another_unet(keywords, words):
    network = Controlled(
        UNet(**TEXT), ControlNet(TEXT | keywords, **SMALL), torch.rand(1, 3, 32, 32)
    )
    with pytest.raises(ValueError, match=words):
        network(*inputs(TEXT))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(1, 1, 32, 32), r"images: expected \(B, 3, H, W\) .*, got \(1, 1, 32"),
        (torch.rand(3, 32, 32), r"got \(3, 32, 32\)"),
        (2 * torch.rand(1, 3, 32, 32) - 1, r"images: expected values in \[0, 1\], got \[-"),
        (255 * torch.rand(1, 3, 32, 32), r"expected values in \[0, 1\]"),
        (torch.zeros(1, 3, 32, 32).byte(), "torch.uint8"),
        (torch.full((1, 3, 32, 32), torch.nan), r"got \[nan, nan\]"),
        (torch.rand(1, 3, 32, 16), r"1 or B, 4 times x's size, got \(1, 3, 32, 16\)"),
        (torch.rand(1, 3, 64, 64), r"4 times x's size, got \(1, 3, 64, 64\)"),
        (torch.rand(4, 3, 32, 32), r"images: expected 1 or B, .*, got \(4, 3, 32, 32\)"),
    ],
)
def test_refuses_images_that_do_not_fit(images, words):
    unet, given = UNet(**TEXT), inputs(TEXT)
    with pytest.raises(ValueError, match=words):
        Controlled(unet, ControlNet.from_unet(unet, **SMALL), images)(*given)


def test_refuses_other_scales_and_residuals():
    unet, given, images = UNet(**TEXT), inputs(TEXT), torch.rand(1, 3, 32, 32)
    controlnet = ControlNet.from_unet(unet, **SMALL)
    with pytest.raises(ValueError, match="scale of control: expected a finite number, got nan"):
        Controlled(unet, controlnet, images, scale=torch.nan)
    with pytest.raises(ValueError, match="residuals: expected those of the skips and"):
        unet(*given, *controlnet(*given, images)[1:])
