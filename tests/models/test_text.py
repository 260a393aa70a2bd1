"""Tokenizer, TextEncoder, ImageEncoder, CLIP: exactness, causality, refusals."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F

from course_lib.models import (
    CLIP,
    SD15_TEXT,
    ImageEncoder,
    TextEncoder,
    Tokenizer,
    clip_loss,
    retrieval,
)

CAPTIONS = [
    "a large red circle on a blue background",
    "on purple, one small green square near the top",
    "a large red circle left of a small blue square",
    "three small yellow rings",
]
TEXT, IMAGE = dict(dim=32, layers=2), dict(size=16, patch_size=2, channels=16, dim=32, layers=1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CAPTIONS, vocab_size=300, length=16)


@pytest.fixture
def clip(tokenizer):
    return CLIP(tokenizer.kwargs, TEXT, IMAGE, dim=24)


def test_captions_come_back(tokenizer):
    ids = tokenizer(CAPTIONS)
    assert ids.shape == (4, 16)
    assert ids.dtype == torch.int64
    assert tokenizer.decode(ids) == CAPTIONS
    assert tokenizer.decode(ids[1]) == CAPTIONS[1]
    assert torch.equal(tokenizer("  A Large RED circle   on a\tblue background "), ids[:1])


def test_common_words_are_one_token(tokenizer):
    shown = tokenizer.tokens("a red square")
    assert shown == ["<|startoftext|>", "a", "red", "square"] + ["<|endoftext|>"] * 12


def test_few_tokens_spell_the_same_words():
    spelling = Tokenizer.train(CAPTIONS, vocab_size=64, length=64)
    assert len(spelling) == 64
    assert len(spelling.encode(CAPTIONS[1])) > 12
    assert spelling.decode(spelling(CAPTIONS)) == CAPTIONS


def test_the_null_caption_is_start_and_ends(tokenizer):
    assert tokenizer("").tolist() == [[tokenizer.start] + [tokenizer.end] * 15]
    assert tokenizer.end == len(tokenizer) - 1
    assert tokenizer.decode(tokenizer("")) == [""]


def test_training_and_json_give_the_same_tokenizer(tokenizer):
    again = Tokenizer.train(CAPTIONS, vocab_size=300, length=16)
    assert again.kwargs == tokenizer.kwargs
    rebuilt = Tokenizer(**json.loads(json.dumps(tokenizer.kwargs)))
    assert torch.equal(rebuilt(CAPTIONS), tokenizer(CAPTIONS))
    assert torch.equal(copy.deepcopy(tokenizer)(CAPTIONS), tokenizer(CAPTIONS))


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a purpel circle", r"^unknown words: 'purpel' \(did you mean 'purple'\?\)$"),
        ("a red zqx, one zqx!", r"^unknown words: 'zqx'$"),
        ("<|endoftext|>", "unknown words"),
        ("red " * 20, r"^caption 'red red.*': expected at most 16 tokens .*, got 22$"),
    ],
)
def test_caption_refusals(tokenizer, caption, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(["a red circle", caption])


@pytest.mark.parametrize("end", [".", "!", "?!", "...", " .", "…", ",", ".\n", ";:"])
def test_final_punctuation_is_dropped(tokenizer, end):
    assert torch.equal(tokenizer("A red circle" + end), tokenizer("a red circle"))


def test_final_punctuation_that_training_knew_is_kept():
    """As in a reader's captions; CLIP, which accepts all words, keeps final punctuation."""
    own = Tokenizer.train(["the sea.", "the sand, at dusk"], vocab_size=100, length=16)
    assert own.decode(own("The sand.")) == ["the sand ."]
    assert torch.equal(own("the sea!"), own("the sea")) and torch.equal(own("sea,"), own("sea"))
    free = Tokenizer(**own.kwargs | {"words": None})
    assert free.encode("the sea.") != free.encode("the sea") == own.encode("the sea")


@pytest.mark.parametrize("caption", ["...", "!", "a red 🔴", 'a red"', "; a red"])
def test_other_punctuation_is_refused(tokenizer, caption):
    with pytest.raises(ValueError, match="unknown words"):
        tokenizer(caption)


def test_without_a_word_list_any_spelling_goes(tokenizer):
    free = Tokenizer(**tokenizer.kwargs | {"words": None, "length": 32})
    assert free.decode(free("a purpel circle")) == ["a purpel circle"]


def test_parameters_of_stable_diffusion():
    with torch.device("meta"):
        encoder = TextEncoder(**SD15_TEXT)
    assert sum(p.numel() for p in encoder.parameters()) == 123_060_480


def test_text_encoder_is_causal(tokenizer):
    encoder = TextEncoder(len(tokenizer), 16, **TEXT)
    ids = tokenizer("a large red circle")
    other = ids.clone()
    other[0, 4] = ids[0, 1]
    difference = (encoder(ids) - encoder(other)).abs().amax(2)[0]
    assert difference[:4].max() == 0
    assert difference[4:].min() > 0


def test_padding_changes_nothing_before_it(tokenizer):
    encoder = TextEncoder(len(tokenizer), 16, **TEXT)
    ids = tokenizer("a large red circle")
    short, long = encoder(ids[:, :6]), encoder(ids)
    torch.testing.assert_close(short, long[:, :6])
    torch.testing.assert_close(encoder.pool(ids[:, :6], short), encoder.pool(ids, long))


def test_pool_takes_the_first_end(tokenizer):
    encoder = TextEncoder(len(tokenizer), 16, **TEXT)
    ids = tokenizer(["", "a large red circle"])
    context = encoder(ids)
    assert torch.equal(encoder.pool(ids, context), torch.stack([context[0, 1], context[1, 5]]))


def test_words_in_another_order_mean_something_else(clip):
    swapped = ["a large red circle left of a small blue square"]
    swapped += ["a small blue square left of a large red circle"]
    one, other = clip.embed_text(swapped)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 17).long(), r"token ids: expected at most 16 in a row, got \(1, 17\)"),
        (torch.zeros(3).long(), r"token ids: expected \(B, L\) .*, got \(3,\)"),
        (torch.zeros(1, 3), "token ids: .* torch.float32"),
        (torch.full((1, 3), 50), r"token ids: expected values in \[0, 49\], got \[50, 50\]"),
    ],
)
def test_text_encoder_refusals(ids, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(50, 16, **TEXT)(ids)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 32, 32), r"images: expected \(B, 3, 16, 16\) .*, got \(1, 3, 32, 32\)"),
        (torch.zeros(1, 1, 16, 16), r"images: expected \(B, 3, 16, 16\) .*, got \(1, 1, 16, 16\)"),
        (
            torch.full((1, 3, 16, 16), 255.0),
            r"images: expected values in \[-1, 1\], got \[255, 255\]",
        ),
    ],
)
def test_image_encoder_refusals(images, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(**IMAGE)(images)


def test_features_are_unit_vectors_and_context_has_its_shape(clip):
    images = 2 * torch.rand(4, 3, 16, 16) - 1
    for features in (clip.embed_image(images), clip.embed_text(CAPTIONS)):
        assert features.shape == (4, 24)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(4))
    assert clip.context(CAPTIONS).shape == (4, 16, 32)
    assert clip.context("").shape == (1, 16, 32)


def test_rebuilds_from_its_keywords(clip):
    twin = CLIP(**json.loads(json.dumps(clip.kwargs)))
    twin.load_state_dict(clip.state_dict())
    assert torch.equal(twin.embed_text(CAPTIONS), clip.embed_text(CAPTIONS))
    assert torch.equal(copy.deepcopy(clip).context(CAPTIONS), clip.context(CAPTIONS))


def test_clip_loss_by_hand():
    images = F.normalize(torch.randn(3, 5), dim=1).double()
    captions = F.normalize(torch.randn(3, 5), dim=1).double()
    negatives = F.normalize(torch.randn(2, 5), dim=1).double()
    rows = (2.0 * images @ torch.cat([captions, negatives]).T).softmax(1).diag()
    columns = (2.0 * images @ captions.T).softmax(0).diag()
    expected = -(rows.log().mean() + columns.log().mean()) / 2
    scale = torch.tensor(2.0).double().log()
    torch.testing.assert_close(clip_loss(images, captions, scale, negatives), expected)
    # symmetric without negatives, and capped at an inverse temperature of 100
    torch.testing.assert_close(
        clip_loss(images, captions, scale), clip_loss(captions, images, scale)
    )
    hot = [clip_loss(images, captions, torch.tensor(s).double().log()) for s in (100.0, 1000.0)]
    torch.testing.assert_close(*hot)


def test_a_caption_like_the_right_one_costs_more_than_any_other():
    features = torch.eye(4)
    scale = torch.tensor(1.0)
    far, near = -torch.ones(1, 4) / 2, F.normalize(torch.tensor([[1.0, 0.1, 0, 0]]), dim=1)
    assert clip_loss(features, features, scale, near) > clip_loss(features, features, scale, far)


def test_retrieval_counts_both_ways():
    images, captions = torch.eye(4), torch.eye(4)
    assert retrieval(images, captions) == (1.0, 1.0)
    captions = torch.eye(4)[[1, 0, 2, 3]]
    assert retrieval(images, captions) == (0.5, 0.5)
    captions = torch.eye(4)
    captions[0] = torch.tensor([3.0, 2, 0, 0])  # caption 0 draws image 1 away, but stays itself
    assert retrieval(images, captions) == (0.75, 1.0)


def test_clip_learns_and_every_parameter_with_it(clip):
    images = (2 * torch.rand(4, 3, 16, 16) - 1).round()
    wrong = ["a small blue square left of a large red circle"]
    optimiser = torch.optim.AdamW(clip.parameters(), lr=3e-3)
    for _ in range(25):
        loss = clip.loss(images, CAPTIONS, wrong)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    silent = [name for name, p in clip.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert retrieval(clip.embed_image(images), clip.embed_text(CAPTIONS)) == (1.0, 1.0)


def test_double_autocast_channels_last_and_compile(clip):
    images, ids = 2 * torch.rand(2, 3, 16, 16) - 1, clip.ids(CAPTIONS)
    context, features = clip.text_encoder(ids), clip.image_encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert clip.loss(images, CAPTIONS[:2]).isfinite()
    for part, data, expected in [
        (clip.text_encoder, ids, context),
        (clip.image_encoder, images, features),
    ]:
        compiled = torch.compile(part, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(data), expected, rtol=1e-4, atol=1e-5)
    clip.to(memory_format=torch.channels_last)
    last = clip.image_encoder(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, features, rtol=1e-4, atol=1e-5)
    clip.double()
    assert (
        clip.text_encoder(ids).dtype == clip.image_encoder(images.double()).dtype == torch.float64
    )
    torch.testing.assert_close(clip.text_encoder(ids).float(), context, rtol=1e-4, atol=1e-5)
