"""DiT: patches, positions, modulation by time; inputs, outputs and refusals."""

import pytest
import torch

from course_lib.models import DiT, attention_maps, heat_map
from course_lib.models.dit import DiTBlock, patchify, positions, unpatchify
from tests.models.denoisers import PATCHES, PATCHES_AND_TEXT, PIXELS, inputs, stirred

KINDS = [PATCHES, PATCHES_AND_TEXT, PIXELS]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# patches and positions


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_picture_survives_its_patches_bit_by_bit(patch):
    x = torch.randn(2, 3, 8, 8)
    patches = patchify(x, patch)
    assert patches.shape == (2, (8 // patch) ** 2, 3 * patch**2)
    assert torch.equal(unpatchify(patches, patch, 8 // patch), x)


def test_a_token_is_a_square_of_pixels_and_tokens_go_row_by_row():
    x = torch.arange(2 * 4 * 6).view(1, 2, 4, 6).float()
    for number, token in enumerate(patchify(x, 2)[0]):
        row, column = divmod(number, 3)
        square = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(token, square.flatten())


def test_each_place_has_a_position_of_its_own_and_near_ones_are_alike():
    places = positions(8, 16).double()
    distances = torch.cdist(places, places).view(8, 8, 8, 8)
    assert (distances.flatten(2).flatten(0, 1) > 0.5).sum() == 64 * 63
    assert distances[3, 3, 3, 4] == pytest.approx(distances[3, 3, 4, 3])  # rows like columns
    assert distances[3, 3, 3, 4] < distances[3, 3, 3, 5] < distances[3, 3, 5, 5]


def test_without_positions_shuffled_patches_give_shuffled_answers():
    dit, (x, t, context) = stirred(DiT(**PATCHES_AND_TEXT)).double(), inputs(PATCHES_AND_TEXT)
    x, context, order = x.double(), context.double(), torch.randperm(16)

    def shuffled(picture):
        return unpatchify(patchify(picture, 2)[:, order], 2, 4)

    answers = dit(shuffled(x), t, context), shuffled(dit(x, t, context))
    assert not torch.allclose(*answers, rtol=1e-3)
    torch.nn.init.zeros_(dit.pos_embed)
    answers = dit(shuffled(x), t, context), shuffled(dit(x, t, context))
    torch.testing.assert_close(*answers)


# modulation


@pytest.mark.parametrize("keywords", KINDS)
def test_starts_at_zero_and_each_block_as_the_identity(keywords):
    dit, (x, t, context) = DiT(**keywords), inputs(keywords)
    assert dit(x, t, context).abs().max() == 0
    h, time = torch.randn(2, 16, 16), torch.randn(2, 16)
    for block in dit.transformer_blocks:
        assert torch.equal(block(h, time, context), h)
        assert not torch.equal(stirred(block)(h, time, context), h)


def test_a_gate_silences_its_branch_and_no_other():
    block = stirred(DiTBlock(16, context_dim=12))
    h, time, context = torch.randn(2, 7, 16), torch.randn(2, 16), torch.randn(2, 5, 12)
    other = context + 1
    assert not torch.allclose(block(h, time, context), block(h, time, other))
    with torch.no_grad():
        for parameter in block.attn2.modulation.parameters():
            parameter[32:] = 0  # shift, scale, gate: 16 each
    assert torch.equal(block(h, time, context), block(h, time, other))
    assert not torch.equal(block(h, time, context), h)


def test_shift_and_scale_are_what_the_layer_sees():
    branch = DiTBlock(16).double().ff
    h, time = torch.randn(2, 7, 16).double(), torch.randn(2, 16).double()
    with torch.no_grad():
        branch.modulation.bias.copy_(torch.tensor([0.3, 1.5, 2.0]).repeat_interleave(16))
    flat = (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(branch(h, time), h + 2 * branch.layer(2.5 * flat + 0.3))


# the whole


@pytest.mark.parametrize("keywords", KINDS)
def test_answers_have_the_shape_of_the_input(keywords):
    x = inputs(keywords)
    shape = (2, keywords.get("out_channels", 3), 8, 8)
    assert stirred(DiT(**keywords))(*x).shape == shape


@pytest.mark.parametrize("keywords", KINDS)
def test_every_parameter_learns(keywords):
    dit = stirred(DiT(**keywords))
    dit(*inputs(keywords)).square().sum().backward()
    silent = [name for name, p in dit.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_every_patch_reaches_every_other_in_one_block():
    dit, (x, t, context) = stirred(DiT(**PIXELS)).double(), inputs(PIXELS)
    x, context = x.double().requires_grad_(), context.double()
    dit(x, t, context)[0, :, 7, 7].sum().backward()  # the lowest corner, on the right
    assert (x.grad[0] != 0).any(dim=0).all()


def test_attention_maps_are_pictures():
    dit, x = stirred(DiT(**PIXELS)), inputs(PIXELS)
    with attention_maps(dit) as maps:
        dit(*x)
    name = "transformer_blocks.0.attn2.layer"
    assert {name: m[0].shape for name, m in maps.items()} == {name: (2, 4, 64, 5)}
    assert heat_map(maps, 16).shape == (2, 5, 16, 16)


# refusals

X, T, CONTEXT = torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, 5, 12)
READER = DiT(**PATCHES_AND_TEXT)
REFUSED = {
    "another width": (lambda: READER(X[:, :2], T, CONTEXT), "(B, 3, 8, 8)"),
    "whole numbers": (lambda: READER(X.int(), T, CONTEXT), "torch.int32"),
    "another precision": (lambda: READER(X.double(), T, CONTEXT), "torch.float64"),
    "a context of another precision": (lambda: READER(X, T, CONTEXT.double()), "torch.float64"),
    "half a patch": (lambda: READER(X[..., :7], T, CONTEXT), "(2, 3, 8, 7)"),
    "another size": (
        lambda: READER(X[..., :4], T, CONTEXT),
        "x: expected (B, 3, 8, 8) torch.float32 on cpu, got (2, 3, 8, 4)",
    ),
    "no context": (lambda: READER(X, T), "context: expected (2, L, 12)"),
    "a context for none": (lambda: DiT(**PATCHES)(X, T, CONTEXT), "context: expected None"),
    "a narrow context": (lambda: READER(X, T, CONTEXT[..., :7]), "expected (2, L, 12)"),
    "a context of another batch": (lambda: READER(X, T, CONTEXT[:1]), "expected (2, L, 12)"),
    "three times for two": (
        lambda: READER(X, torch.zeros(3), CONTEXT),
        "expected (2,), as many as x, got (3,)",
    ),
    "a size between patches": (lambda: DiT(size=9), "patches that divide 9, got 2"),
    "patches of nothing": (lambda: DiT(patch_size=0), "patches that divide 32, got 0"),
    "an odd width": (lambda: DiT(dim=18, heads=2), "got 18"),
    "heads that do not fit": (lambda: DiT(dim=16, heads=3), "3 heads, got 16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_misfits_are_refused_in_one_line(case):
    call, words = REFUSED[case]
    with pytest.raises(ValueError) as refused:
        call()
    assert words in str(refused.value) and "\n" not in str(refused.value)
