"""Prompt-to-prompt: what is unchanged, which maps are used, and for how many steps."""

from math import nan

import pytest
import torch

from course_lib.common import devices
from course_lib.models import UNet, attention_maps, edited_attention
from course_lib.models.attention import cross_attention
from course_lib.pipelines import prompt_to_prompt, text_to_image
from course_lib.pipelines.prompt_to_prompt import attention_edit, matched
from tests.models.denoisers import TEXT, inputs, stirred

RED, BLUE = ["a red circle"], ["a blue circle"]
CLOSE = dict(atol=2e-4, rtol=0)  # float32 in batches of other sizes, and attention in two forms


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(devices, "fast_precision", lambda device: "no")


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_an_unchanged_caption_gives_the_same_picture(toy_pipeline, sampler):
    """To the last bit, with fresh noise in each step, too."""
    captions = [*RED, "two large green rings on a white background"]
    before, after = prompt_to_prompt(
        toy_pipeline, captions, captions, [3, 4], steps=3, sampler=sampler
    )
    assert torch.equal(before, after)
    drawn = text_to_image(toy_pipeline, captions, [3, 4], steps=3, sampler=sampler)
    torch.testing.assert_close(before, drawn, **CLOSE)


def test_the_original_is_drawn_as_ever_and_without_injection_so_is_the_edited(toy_pipeline):
    before, after = prompt_to_prompt(toy_pipeline, RED, BLUE, [5], steps=3, share=0)
    torch.testing.assert_close(before, text_to_image(toy_pipeline, RED, [5], steps=3), **CLOSE)
    torch.testing.assert_close(after, text_to_image(toy_pipeline, BLUE, [5], steps=3), **CLOSE)
    again, _ = prompt_to_prompt(toy_pipeline, RED, BLUE, [5], steps=3, share=1)
    torch.testing.assert_close(again, before, **CLOSE)


def test_the_injected_maps_change_the_edited_picture(toy_pipeline):
    """With strong guidance, because the maps of this untrained model are all nearly uniform."""
    how = dict(seeds=[5], steps=3, scale=30)
    before, without = prompt_to_prompt(toy_pipeline, RED, BLUE, share=0, **how)
    _, injected = prompt_to_prompt(toy_pipeline, RED, BLUE, share=1, **how)
    assert (injected - without).abs().max() > 1e-3 < (injected - before).abs().max()


@pytest.mark.parametrize(
    ("share", "steps", "count"), [(0, 3, 0), (0.5, 4, 2), (0.5, 3, 2), (0.28, 25, 7), (1, 2, 2)]
)
def test_the_share_is_that_of_the_first_steps(toy_pipeline, share, steps, count):
    (layer, *_), seen = cross_attention(toy_pipeline.unet).values(), []
    hook = layer.register_forward_pre_hook(lambda *_: seen.append(len(layer._forward_hooks)))
    prompt_to_prompt(toy_pipeline, RED, BLUE, share=share, steps=steps)
    hook.remove()
    assert seen == [1] * count + [0] * (steps - count)


def test_the_maps_of_matched_tokens_are_the_originals(toy_pipeline):
    """By hand: a word swap uses all maps of the original, a longer caption those it can."""
    words = toy_pipeline.clip.tokenizer
    captions, edited = ["a red circle", "a circle"], ["a blue circle", "a large circle"]
    maps = torch.randn(8, 2, 9, words.length)  # conditional 2 + 2, unconditional 2 + 2
    new = attention_edit(words, captions, edited, {}, maps.device)(maps)
    assert torch.equal(new[:2], maps[:2]) and torch.equal(new[4:], maps[4:])
    assert torch.equal(new[2], maps[0])
    tokens, longer = words.tokens(captions[1]), words.tokens(edited[1])
    for j, token in enumerate(longer[: longer.index("<|endoftext|>")]):
        expected = maps[1, ..., tokens.index(token)] if token in tokens else maps[3, ..., j]
        assert torch.equal(new[3, ..., j], expected), token
    without = attention_edit(words, captions, edited, {}, maps.device)(maps[:4])  # no guidance
    assert torch.equal(without, new[:4])


def test_a_weight_multiplies_the_maps_of_its_word(toy_pipeline):
    words = toy_pipeline.clip.tokenizer
    maps, edited = torch.randn(4, 2, 9, words.length), ["a blue circle", "a circle"]
    plain = attention_edit(words, edited, edited, {}, maps.device)(maps)
    heavy = attention_edit(words, edited, edited, {"blue": 2.5}, maps.device)(maps)
    factors = torch.ones(4, words.length)
    factors[2, [i for i, token in enumerate(words.tokens(edited[0])) if token == "blue"]] = 2.5
    assert factors.max() == 2.5
    assert torch.equal(heavy, factors[:, None, None] * plain)


def test_weights_of_one_change_nothing_and_others_do(toy_pipeline):
    _, plain = prompt_to_prompt(toy_pipeline, RED, BLUE, steps=2)
    _, same = prompt_to_prompt(toy_pipeline, RED, BLUE, steps=2, weights={"blue": 1})
    _, other = prompt_to_prompt(toy_pipeline, RED, BLUE, steps=2, weights={"blue": -3})
    assert torch.equal(plain, same) and (plain - other).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("before", "after", "sources"),
    [
        ("a b c", "a b c", [0, 1, 2]),
        ("a b c", "a x c", [0, 1, 2]),  # a swap
        ("a b c", "a x y c", [0, -1, -1, 2]),
        ("a b b c", "a x c", [0, -1, 3]),
        ("a c . .", "a b c .", [0, -1, 1, 2]),  # as padding ends captions
        ("a b", "x y", [0, 1]),
    ],
)
def test_tokens_are_matched_in_order(before, after, sources):
    assert matched(before.split(), after.split()) == sources


def test_attention_with_its_own_maps_is_attention():
    torch.manual_seed(0)
    unet, given = stirred(UNet(**TEXT)), inputs(TEXT)
    with attention_maps(unet) as collected:
        expected = unet(*given)
    seen = []
    with edited_attention(unet, lambda maps: seen.append(maps) or maps):
        torch.testing.assert_close(unet(*given), expected)
    assert torch.equal(unet(*given), expected)  # and afterwards nothing is left of it
    assert [m.shape for m in seen] == [m.shape for calls in collected.values() for m in calls]
    torch.testing.assert_close(seen[0], next(iter(collected.values()))[0])


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(edited=BLUE * 2), "edited captions: expected 1, got 2"),
        (dict(edited=["a purple circle"]), "unknown words: 'purple'"),
        (dict(share=1.5), "share: expected a share of the steps, from 0 to 1, got 1.5"),
        (dict(share=nan), "share: .*got nan"),
        (dict(weights={"blue": nan}), "weight of 'blue': expected a finite number, got nan"),
        (dict(weights={"red": 2}), "weights: expected words of the edited captions, got 'red'"),
        (dict(weights={"": 2}), "weights: expected words of the edited captions, got ''"),
        (dict(seeds=[1, 2]), "seeds: expected 1, one a caption, got 2"),
        (dict(steps=0), "steps: expected a whole number, at least 1"),
    ],
)
def test_what_it_refuses(toy_pipeline, wrong, line):
    with pytest.raises(ValueError, match=line):
        prompt_to_prompt(toy_pipeline, **dict(captions=RED, edited=BLUE) | wrong)
