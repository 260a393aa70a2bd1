"""Chapter 06's derivations, equation by equation, in float64."""

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from course_lib.datasets.scenes import Scenes
from course_lib.exercises import ch06
from course_lib.models import CLIP, TextEncoder, Tokenizer, clip_loss
from course_lib.models.attention import attend
from course_lib.models.text import EncoderLayer
from course_lib.models.tokenizer import WORD_END, split


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


def merged(pieces, pair):
    """The pieces after merging every such pair, from left to right."""
    result, i = [], 0
    while i < len(pieces):
        found = tuple(pieces[i : i + 2]) == pair
        result.append("".join(pieces[i : i + 1 + found]))
        i += 1 + found
    return result


@pytest.mark.parametrize("count", [10, 100])
def test_the_most_frequent_pair_is_merged_first(count):
    """(6.1): the library makes the same merges in the same order as the code by hand."""
    captions = [Scenes(64).caption(i) for i in range(count)]
    tokenizer = Tokenizer.train(captions, vocab_size=512)
    counts = Counter(word for caption in captions for word in split(caption))
    pieces = {word: [*word[:-1], word[-1] + WORD_END] for word in counts}
    numbers = {token: i for token, i in tokenizer.kwargs["vocabulary"].items()}
    merges = []
    while True:
        pairs = Counter()
        for word, times in counts.items():
            for pair in zip(pieces[word], pieces[word][1:], strict=False):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], -numbers[p[0]], -numbers[p[1]]))
        merges.append(best)
        pieces = {word: merged(cut, best) for word, cut in pieces.items()}
    assert merges == [tuple(pair) for pair in tokenizer.kwargs["merges"]]
    assert all(len(cut) == 1 for cut in pieces.values())


def test_wordpiece_is_the_tokenizers_librarys():
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = ["un", "u", "stop", "st", "able", "pable", "op", "p", "n", "a", "b", "l", "e", "t"]
    ids = {piece: i for i, piece in enumerate([*vocabulary, "[UNK]"])}
    theirs = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix="")
    )
    for word in ("unstoppable", "unable", "stop", "tablet", "notable"[1:]):
        expected = theirs.encode(word).tokens
        if "[UNK]" not in expected:
            assert ch06.longest_pieces(word, vocabulary) == expected


@pytest.mark.parametrize("window", [1, 3, 5])
def test_attention_in_a_window_is_pytorchs_with_that_mask(window):
    q, k, v = torch.randn(3, 5, 4, dtype=torch.float64)
    seen = torch.ones(5, 5).tril().triu(1 - window).bool()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(ch06.window_attention(q, k, v, window), expected)


def test_causal_attention_by_hand():
    """(6.2), for one head, and the exercise's answer with a window of all tokens."""
    q, k, v = torch.randn(3, 5, 4, dtype=torch.float64)
    scores = q @ k.T / math.sqrt(4)
    rows = [scores[n, : n + 1].softmax(0) @ v[: n + 1] for n in range(5)]
    torch.testing.assert_close(attend(q[None, None], k[None, None], v[None, None], True)[0, 0],
                               torch.stack(rows))  # fmt: skip
    torch.testing.assert_close(ch06.window_attention(q, k, v, 5), torch.stack(rows))


def test_a_block_is_attention_and_two_layers_each_normalised_before_and_around_a_skip():
    """(6.3)"""
    block, x = EncoderLayer(8, heads=2, causal=True).double(), torch.randn(2, 5, 8).double()
    for norm in (block.layer_norm1, block.layer_norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)

    def normalised(x, norm):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias

    y = x + block.self_attn(normalised(x, block.layer_norm1))
    h = F.linear(normalised(y, block.layer_norm2), block.mlp.fc1.weight, block.mlp.fc1.bias)
    h = h * torch.sigmoid(1.702 * h)
    expected = y + F.linear(h, block.mlp.fc2.weight, block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), expected)


def test_a_caption_is_its_first_end_projected_and_normalised():
    """(6.4), and the exercise's answer with it."""
    captions = ["a red circle", "", "a large blue square on a white background"]
    tokenizer = Tokenizer.train(captions, vocab_size=200, length=16)
    clip = CLIP(
        tokenizer.kwargs, dict(dim=16), dict(size=16, patch_size=2, channels=8, dim=16), dim=12
    )
    ids = clip.ids(captions)
    context = clip.text_encoder(ids)
    pooled = torch.stack(
        [context[b, row.index(tokenizer.end)] for b, row in enumerate(ids.tolist())]
    )
    torch.testing.assert_close(ch06.pool(ids, context, tokenizer.end), pooled)
    projected = pooled @ clip.text_projection.weight.T
    expected = projected / projected.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(clip.embed_text(captions), expected)


def test_what_stands_later_cannot_be_heard_earlier():
    encoder = TextEncoder(50, 10, dim=16)
    ids = torch.randint(49, (1, 10))
    for changed in range(10):
        other = ids.clone()
        other[0, changed] = (ids[0, changed] + 1) % 49
        heard = (encoder(ids) - encoder(other)).abs().amax(2)[0] > 0
        assert heard.tolist() == [position >= changed for position in range(10)]


def test_the_exercises_loss_is_siglips():
    """Zhai et al. 2023, algorithm 1, pair by pair."""
    images, captions = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    scale, bias = torch.tensor(1.3).double(), torch.tensor(-2.0).double()
    total = 0.0
    for i, j in itertools.product(range(6), range(6)):
        cosine = F.cosine_similarity(images[i], captions[j], dim=0)
        logit = (1 if i == j else -1) * (scale.exp() * cosine + bias)
        total += math.log(1 + math.exp(-logit))
    assert ch06.sigmoid_loss(images, captions, scale, bias).item() == pytest.approx(total / 6)


@pytest.mark.parametrize("negatives", [0, 5, 96])
@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_a_model_that_tells_nothing_apart_starts_at_the_logarithm_of_the_choices(negatives, scale):
    """(6.6)"""
    same = unit(1, 8).expand(96, 8)
    loss = clip_loss(same, same, torch.tensor(scale).log(), same[:negatives] if negatives else None)
    assert loss.item() == pytest.approx((math.log(96 + negatives) + math.log(96)) / 2)


def test_the_loss_of_exercise_6_5_is_the_librarys():
    """40 pairs that can't be distinguished, with three hard negatives for each."""
    same = unit(1, 8).expand(120, 8)
    loss = clip_loss(same[:40], same[:40], torch.tensor(1.0), same)
    assert ch06.EXERCISES["6.5"].right == pytest.approx(loss.item(), abs=1e-6)


def test_random_logits_cost_half_their_variance_more():
    images, captions, scale = unit(400, 128), unit(400, 128), 10.0
    loss = clip_loss(images, captions, torch.tensor(scale).log())
    own = scale * (images * captions).sum(1).mean()  # 0 on average
    assert (loss + own).item() == pytest.approx(math.log(400) + scale**2 / 128 / 2, abs=0.02)


def test_the_gradient_is_the_shares_minus_the_pairs():
    """(6.7), with respect to the logits; and the temperature's."""
    images, captions = unit(5, 3), unit(5, 3)
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    logits = scale.exp() * images @ captions.T
    logits.retain_grad()
    pairs = torch.arange(5)
    loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    torch.testing.assert_close(loss, clip_loss(images, captions, scale))
    loss.backward()
    rows, columns = logits.softmax(1), logits.softmax(0)
    expected = (rows + columns - 2 * torch.eye(5)) / 10
    torch.testing.assert_close(logits.grad, expected.detach())
    torch.testing.assert_close(scale.grad, (expected * logits).sum().detach())


@pytest.mark.parametrize("scale", [0.5, 1.0, 5.0, 20.0])
def test_the_loss_has_a_floor_that_only_the_temperature_lowers(scale):
    """(6.8): the corners of a simplex reach the bound, and nothing is below it."""
    count, log_scale = 12, torch.tensor(scale, dtype=torch.float64).log()
    floor = math.log(1 + (count - 1) * math.exp(-scale * count / (count - 1)))
    corners = F.normalize(torch.eye(count, dtype=torch.float64) - 1 / count, dim=1)
    assert clip_loss(corners, corners, log_scale).item() == pytest.approx(floor)
    for images, captions in ((unit(count, 4), unit(count, 4)), (unit(count, 20),) * 2):
        assert clip_loss(images, captions, log_scale) > floor
    images = captions = torch.eye(count, dtype=torch.float64)
    assert clip_loss(images, captions, log_scale) > floor
