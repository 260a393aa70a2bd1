"""UNet and UNetBlock: inputs, outputs, devices and dtypes."""

import pytest
import torch

from course_lib.models import SD15_UNET, UNet, UNetBlock, attention_maps, heat_map
from tests.models.denoisers import LABELS, PLAIN, TEXT, inputs, stirred

KINDS = [TEXT, LABELS, PLAIN]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_parameters_of_stable_diffusion():
    with torch.device("meta"):
        unet = UNet(**SD15_UNET)
        prediction = unet(torch.zeros(2, 4, 64, 64), torch.zeros(2), torch.zeros(2, 77, 768))
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert prediction.shape == (2, 4, 64, 64)


@pytest.mark.parametrize("keywords", KINDS)
def test_starts_at_zero_and_every_parameter_learns(keywords):
    unet = UNet(**keywords)
    assert unet(*inputs(keywords)).abs().max() == 0  # zero-init of the last convolution
    unet = stirred(unet)
    unet(*inputs(keywords)).square().sum().backward()
    silent = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("keywords", KINDS)
def test_channels_last_gives_the_same_numbers(keywords):
    unet, (x, t, context) = stirred(UNet(**keywords)), inputs(keywords)
    expected = unet(x, t, context)
    unet, x = unet.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(unet(x, t, context), expected, rtol=1e-4, atol=1e-5)


def test_labels_and_the_null_class_differ():
    unet, (x, t, _) = stirred(UNet(**LABELS)), inputs(LABELS)
    x, t = x[:1].expand(11, -1, -1, -1), t[:1].expand(11)
    answers = unet(x, t, torch.arange(11)).flatten(1)
    assert torch.pdist(answers).min() > 1e-3


def test_time_and_labels_survive_the_norms():
    # one channel in a group, and group normalisation would erase what is added to that channel
    narrow = dict(channels=8, multipliers=(1,), layers_per_block=1, attention=(False,), classes=2)
    unet, (x, t, _) = stirred(UNet(**narrow)), inputs(narrow)
    answer, other = unet(x, t, torch.tensor([0, 1])), unet(x, t, torch.tensor([1, 0]))
    assert (answer - other).std() > 0.01 * answer.std()


def test_a_unet_that_knows_its_size_refuses_others():
    unet = UNet(channels=16, multipliers=(1, 2), attention=(False, True), size=8)
    assert unet(torch.zeros(1, 3, 8, 8), torch.zeros(1)).shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"x: expected \(B, 3, 8, 8\) .*, got \(1, 3, 16, 8\)"):
        unet(torch.zeros(1, 3, 16, 8), torch.zeros(1))


def test_other_numbers_of_channels_come_out():
    unet = UNet(in_channels=8, out_channels=16, **PLAIN)
    assert unet(torch.randn(1, 8, 12, 4), torch.zeros(1)).shape == (1, 16, 12, 4)


def test_attention_maps_of_a_whole_unet():
    unet, x = UNet(**TEXT | {"attention": (True, True)}), inputs(TEXT)
    with attention_maps(unet) as maps:
        unet(*x)
        unet(*x)
    assert len(maps) == 7  # 1 + 1 down, 1 in the middle, 2 + 2 up
    assert all(len(calls) == 2 for calls in maps.values())
    pictures = heat_map(maps, size=32)  # (B, L, 32, 32)
    assert pictures.shape == (2, 5, 32, 32)
    torch.testing.assert_close(pictures.sum(1), torch.ones(2, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.zeros(2, 4, 8, 8)), r"x: expected \(B, 3, 2h, 2w\) .*, got \(2, 4, 8, 8\)"),
        (dict(x=torch.zeros(2, 3, 7, 8)), r"x: expected \(B, 3, 2h, 2w\) .*, got \(2, 3, 7, 8\)"),
        (
            dict(x=torch.zeros(2, 3, 8, 8, dtype=torch.uint8)),
            "x: expected .* torch.float32 .*torch.uint8",
        ),
        (dict(timestep=torch.zeros(3)), r"timestep: expected \(2,\), as many as x, got \(3,\)"),
        (dict(context=None), r"context: expected \(2, L, 12\) .*, got None"),
        (dict(context=torch.zeros(2, 5, 7)), r"context: expected \(2, L, 12\) .*, got \(2, 5, 7\)"),
        (
            dict(context=torch.zeros(1, 5, 12)),
            r"context: expected \(2, L, 12\) .*, got \(1, 5, 12\)",
        ),
        (dict(context=torch.zeros(2, 12)), r"context: expected \(2, L, 12\) .*, got \(2, 12\)"),
    ],
)
def test_refusals(change, message):
    x, timestep, context = inputs(TEXT)
    with pytest.raises(ValueError, match=message):
        UNet(**TEXT)(**dict(x=x, timestep=timestep, context=context) | change)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"context: expected \(2,\) torch.int32 or torch.int64 .*, got None"),
        (torch.tensor([0, 11]), r"context: expected values in \[0, 10\], got \[0, 11\]"),
        (torch.tensor([-1, 0]), r"context: .*, got \[-1, 0\]"),
        (torch.tensor([1]), r"context: .*, got \(1,\)"),
        (torch.zeros(2), r"context: .*, got \(2,\) torch.float32"),
    ],
)
def test_label_refusals(labels, message):
    x, timestep, _ = inputs(LABELS)
    with pytest.raises(ValueError, match=message):
        UNet(**LABELS)(x, timestep, labels)


def test_a_plain_unet_refuses_a_context():
    x, timestep, _ = inputs(PLAIN)
    with pytest.raises(ValueError, match=r"context: expected None, .*, got \(2, 5, 12\)"):
        UNet(**PLAIN)(x, timestep, torch.zeros(2, 5, 12))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(multipliers=(1, 2)), r"attention: expected 2 resolutions, got \(False"),
        (dict(context_dim=8, classes=3), "context_dim: expected None beside classes, got 8"),
        (
            dict(context_dim=8, attention=(False,) * 3),
            "attention: expected True to read context",
        ),
        (dict(channels=15), "a multiple of 4 heads, got 30"),
    ],
)
def test_keyword_refusals(keywords, message):
    with pytest.raises(ValueError, match=message):
        UNet(**keywords)


def test_block_returns_the_maps_of_many_tokens():
    block = stirred(UNetBlock(6, 16, 32, 12))
    x, time, text = torch.randn(2, 6, 8, 8), torch.randn(2, 32), torch.randn(2, 5, 12)
    h, maps = block(x, time, text, return_maps=True)
    assert h.shape == (2, 16, 8, 8)
    assert maps.shape == (2, 4, 64, 5)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, 64))
    assert torch.equal(h, block(x, time, text))


def test_block_starts_as_its_skip_and_reads_everything_later():
    block = UNetBlock(16, 16, 32, 12)
    x, time, text = torch.randn(2, 16, 8, 8), torch.randn(2, 32), torch.randn(2, 5, 12)
    assert torch.equal(block(x, time, text), x)
    block = stirred(block)
    answer = block(x, time, text)
    assert not torch.allclose(block(x, time + 1, text), answer)
    assert not torch.allclose(block(x, time, text.flip(0)), answer)
    torch.testing.assert_close(block(x, time, text.flip(1)), answer)  # a set of words, no order


def test_block_refusals():
    block, x, time = UNetBlock(6, 16, 32, 12), torch.zeros(2, 6, 8, 8), torch.zeros(2, 32)
    with pytest.raises(ValueError, match=r"text: expected \(2, L, 12\) .*, got \(2, 12\)"):
        block(x, time, torch.zeros(2, 12))  # one pooled token, its axis lost
    with pytest.raises(ValueError, match=r"x: expected \(B, 6, H, W\) .*, got \(2, 5, 8, 8\)"):
        block(x[:, :5], time, torch.zeros(2, 3, 12))
