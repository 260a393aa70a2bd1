"""Chapter 07: cross-attention, by hand. A PyTorch layer replaces that of the block."""

import torch
from torch import nn

from course_lib.teaching.check import ChangedInput, Choice, Code, with_gradients

# ---- 7.1 write: attention that skips the padding -----------------------------------------------


def read_words(q, k, v, lengths):
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5  # (B, N, L)
    padding = torch.arange(k.shape[1]) >= lengths[:, None, None]  # (B, 1, L)
    return scores.masked_fill(padding, -torch.inf).softmax(dim=2) @ v


def padding_of(k, lengths):
    return torch.arange(k.shape[1]) >= lengths[:, None, None]


def padding_read_too(q, k, v, lengths):
    """Padding is read as well: `lengths` isn't used. Set the scores of the padding to -∞ before the
    softmax."""
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2) @ v


def padding_masked_after_the_softmax(q, k, v, lengths):
    """You set the weights of the padding to 0 after the softmax, so the rest no longer sums to 1.
    Mask the scores, before the softmax."""
    weights = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2)
    return weights.masked_fill(padding_of(k, lengths), 0.0) @ v


def scores_of_the_padding_zero(q, k, v, lengths):
    """You set the scores of the padding to 0, but the softmax turns 0 into e⁰ = 1. Only -∞ becomes
    a weight of 0."""
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return scores.masked_fill(padding_of(k, lengths), 0.0).softmax(dim=2) @ v


def words_hidden_and_padding_read(q, k, v, lengths):
    """Your mask is inverted: it hides the words and keeps the padding."""
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return scores.masked_fill(~padding_of(k, lengths), -torch.inf).softmax(dim=2) @ v


def one_padding_token_read(q, k, v, lengths):
    """You hide one token too few: position `lengths` itself is the first padding token."""
    return read_words(q, k, v, (lengths + 1).clamp(max=k.shape[1]))


def last_word_hidden(q, k, v, lengths):
    """You hide one token too many: with lengths = 3, positions 0, 1 and 2 are read."""
    return read_words(q, k, v, (lengths - 1).clamp(min=1))


def longest_caption_for_all(q, k, v, lengths):
    """You used the longest length for the whole batch. Each caption has its own."""
    return read_words(q, k, v, lengths.max().expand(len(lengths)))


def scores_not_scaled(q, k, v, lengths):
    """The scores aren't divided by √d. Their spread grows like √d, so in a wide layer the softmax
    picks one word and its gradient vanishes."""
    return read_words(q * q.shape[2] ** 0.5, k, v, lengths)


def divided_by_d(q, k, v, lengths):
    """You divided by d. The variance of a sum of d products is d, so its spread is √d: divide by
    that, or wide layers read all words alike."""
    return read_words(q / q.shape[2] ** 0.5, k, v, lengths)


def pixels_compete_for_words(q, k, v, lengths):
    """Your softmax runs over the pixels, so each word distributes itself over them, and a pixel may
    get no word at all. Each pixel's weights over the words must sum to 1: the last dimension."""
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return scores.masked_fill(padding_of(k, lengths), -1e9).softmax(dim=1) @ v


def softmax_over_the_batch(q, k, v, lengths):
    """Your softmax runs over dim 0, the batch: pictures compete with each other for words. Take it
    over the last dimension, the words."""
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return scores.masked_fill(padding_of(k, lengths), -1e9).softmax(dim=0) @ v


def keys_as_values(q, k, v, lengths):
    """You averaged the keys. Keys are only compared with queries; what is read are the values."""
    return read_words(q, k, k, lengths)


def questions_and_words():
    one = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[2.0, 1.0], [0.0, 1.0], [1.0, 5.0]]])
    few = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 6)
    return [
        (*one, torch.tensor([[[1.0, 0.0], [0.0, 3.0], [7.0, 7.0]]]), torch.tensor([2])),
        (*few, torch.tensor([3, 5])),
        (*few[:2], few[1].flip(0), torch.tensor([4, 2])),
    ]


# ---- 7.2 write: queries, keys and values of all heads in one ----------------------------------


def split_qkv(qkv, heads):
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (B, N, 3, heads, d) before
    return q, k, v


def cut_up(qkv, heads):
    return [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2)]


def heads_cut_before_the_three(qkv, heads):
    """You cut into heads first and into queries, keys and values within each head. Here the first
    third of the channels holds the queries of all heads."""
    return tuple(qkv.unflatten(2, (heads, 3, -1)).permute(3, 0, 2, 1, 4))


def reshaped_at_once(qkv, heads):
    """The shapes are right, but the numbers are in the wrong positions: reshape never moves a
    number, so a head gets whole pixels instead of a part of each. Split the last dimension first,
    then exchange two dimensions."""
    batch, count, _ = qkv.shape
    return tuple(part.reshape(batch, heads, count, -1) for part in qkv.chunk(3, dim=2))


def channels_dealt_like_cards(qkv, heads):
    """You dealt the channels out in turn (0, 2, 4, … to the first head). A head takes neighbouring
    channels: the head's index comes before the channel within it."""
    return tuple(part.unflatten(2, (-1, heads)).permute(0, 3, 1, 2) for part in qkv.chunk(3, dim=2))


def heads_after_pixels(qkv, heads):
    """You split the width, but the heads still come after the pixels. Attention works on the last
    two dimensions, so these must be the pixels and the head's width: (B, heads, N, d)."""
    return tuple(part.unflatten(2, (heads, -1)) for part in qkv.chunk(3, dim=2))


def heads_before_the_batch(qkv, heads):
    """You put the heads in front of the batch. The order asked for is (B, heads, N, d)."""
    return tuple(part.transpose(0, 1) for part in cut_up(qkv, heads))


def values_before_keys(qkv, heads):
    """Your keys and values are exchanged: the three thirds are queries, keys, values."""
    q, k, v = cut_up(qkv, heads)
    return q, v, k


def one_stacked_tensor(qkv, heads):
    """You return one tensor that holds all three. Return three values: q, k, v."""
    return torch.stack(cut_up(qkv, heads))


def not_split_into_heads(qkv, heads):
    """You separated queries, keys and values, but each still has its full width. Split that into
    heads: (B, N, D) becomes (B, heads, N, D / heads)."""
    return tuple(qkv.chunk(3, dim=2))


def widths():
    return [
        (torch.arange(6.0).reshape(1, 1, 6), 2),
        (torch.randn(2, 3, 24), 4),
        (torch.randn(3, 5, 18), 3),
        (torch.randn(3, 5, 18), 2),
    ]


# ---- 7.3 debug: the popular reader -------------------------------------------------------------


def read_all_words(pixels, words, layer):
    q, kv = pixels.transpose(0, 1), words.transpose(0, 1)
    return layer(q, kv, kv)[0].transpose(0, 1)


def read_by(answer, pixels, words, layer):
    """What the answer returns; changing the layer is not allowed."""
    value = answer(pixels, words, layer)
    return ChangedInput() if layer.batch_first else value


def planted_batch_axis_and_one_token(pixels, words, layer):
    pooled = words.mean(1, keepdim=True).expand(-1, pixels.shape[1], -1)
    return layer(pixels, pooled, pooled)[0]


def still_a_single_token(pixels, words, layer):
    """The samples no longer read each other. But the words are still averaged into one before they
    are read, so every weight is 1 whatever the pixel's query is: pass all words."""
    return read_all_words(pixels, words.mean(1, keepdim=True), layer)


def samples_still_mixed(pixels, words, layer):
    """The words are no longer averaged. But the layer expects the sequence first, (N, B, D), and
    you pass the batch first, so samples read each other's captions: exchange two dimensions."""
    return layer(pixels, words, words)[0]


def layer_changed(pixels, words, layer):
    """You switched the layer to `batch_first`. That would be fine for a layer of your own, but this
    one isn't yours to change: leave it and exchange the dimensions of the inputs."""
    layer.batch_first = True
    return layer(pixels, words, words)[0]


def forgot_to_turn_back(pixels, words, layer):
    """What comes out is (N, B, D), as the layer gives it. Exchange the first two dimensions
    once more."""
    q, kv = pixels.transpose(0, 1), words.transpose(0, 1)
    return layer(q, kv, kv)[0]


def reshaped_instead_of_transposed(pixels, words, layer):
    """You used reshape to exchange two dimensions. It keeps all numbers in their order in memory
    and only regroups them, so pixels of different samples got mixed. Use transpose."""
    (batch, count, width), length = pixels.shape, words.shape[1]
    q, kv = pixels.reshape(count, batch, width), words.reshape(length, batch, width)
    return layer(q, kv, kv)[0].reshape(batch, count, width)


def pixels_read_pixels(pixels, words, layer):
    """The axes are right, but keys and values come from the pixels: that is self-attention, and the
    caption is never read."""
    return read_all_words(pixels, pixels, layer)


def words_read_pixels(pixels, words, layer):
    """You made queries from the words and keys from the pixels, so there is one output for each
    word instead of one for each pixel."""
    return read_all_words(words, pixels, layer)


def readers():
    layer = nn.MultiheadAttention(2, 1)
    small = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[2.0, 0.0], [0.0, -2.0]]])
    return [
        (*small, layer),
        (torch.randn(2, 3, 2), torch.randn(2, 3, 2), layer),
        (torch.randn(2, 3, 2), torch.randn(2, 5, 2), layer),
        (torch.randn(3, 4, 8), torch.randn(3, 2, 8), nn.MultiheadAttention(8, 4)),
    ]


# ---- 7.4 write: how many positions read a token? -----------------------------------------------


def positions_reached(weights):
    shares = weights / weights.sum(2, keepdim=True)  # of each token, over the positions
    return (-torch.xlogy(shares, shares).sum(2)).exp()


def not_normalised(weights):
    """You used the weights as they are. They sum to 1 over the tokens, but you need shares that sum
    to 1 over the positions: divide each token's column by its sum."""
    return (-torch.xlogy(weights, weights).sum(2)).exp()


def tokens_read_by_positions(weights):
    """That is (7.7): how many tokens a position reads. Here it's the other way round: normalise
    over the positions, for each token, and sum over them."""
    return (-torch.xlogy(weights, weights).sum(-1)).mean(-1).exp()


def zero_times_minus_infinity(weights):
    """Some weights are exactly 0, and 0 · log 0 gives nan. Its limit is 0: use torch.xlogy, or
    clamp the shares before the logarithm."""
    shares = weights / weights.sum(2, keepdim=True)
    return (-(shares * shares.log()).sum(2)).exp()


def entropy_itself(weights):
    """That is the entropy in nats. Take its exponential: log N becomes N."""
    shares = weights / weights.sum(2, keepdim=True)
    return -torch.xlogy(shares, shares).sum(2)


def base_two_inside_e_outside(weights):
    """You took the logarithm to base 2 and raised e to it. Use one base for both."""
    shares = weights / weights.sum(2, keepdim=True)
    return (-torch.xlogy(shares, shares).sum(2) / torch.tensor(2.0).log()).exp()


def sign_forgotten(weights):
    """Logarithms of shares are negative, so the entropy needs a minus in front."""
    shares = weights / weights.sum(2, keepdim=True)
    return torch.xlogy(shares, shares).sum(2).exp()


def softmax_over_the_positions(weights):
    """You took a softmax over the positions. But these are weights, not scores: divide by the sum
    instead."""
    shares = weights.softmax(2)
    return (-torch.xlogy(shares, shares).sum(2)).exp()


def averaged_over_the_tokens(weights):
    """You averaged over the tokens at the end. One number for each token is asked for: (B, heads,
    L)."""
    return positions_reached(weights).mean(-1)


def shares_of_positions():
    hand_made = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]).reshape(1, 1, 4, 2)
    return [(hand_made,), (torch.randn(2, 3, 9, 5).mul(2).softmax(-1),)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "7.1": Code(
        read_words,
        questions_and_words,
        "Equation (7.1) with a mask. Stable Diffusion has none: there, pixels read padding, too.",
        [
            padding_read_too,
            padding_masked_after_the_softmax,
            scores_of_the_padding_zero,
            words_hidden_and_padding_read,
            one_padding_token_read,
            last_word_hidden,
            longest_caption_for_all,
            scores_not_scaled,
            divided_by_d,
            pixels_compete_for_words,
            softmax_over_the_batch,
            keys_as_values,
        ],
        run=with_gradients("y", q=0, k=1, v=2),
    ),
    "7.2": Code(
        split_qkv,
        widths,
        "One matrix product instead of three: many libraries store self-attention like this.",
        [
            heads_cut_before_the_three,
            reshaped_at_once,
            channels_dealt_like_cards,
            heads_after_pixels,
            heads_before_the_batch,
            values_before_keys,
            one_stacked_tensor,
            not_split_into_heads,
        ],
    ),
    "7.3": Code(
        read_all_words,
        readers,
        "You fixed both: the axis that let samples read each other, and the pooling that left "
        "nothing to choose from.",
        [
            still_a_single_token,
            samples_still_mixed,
            layer_changed,
            forgot_to_turn_back,
            reshaped_instead_of_transposed,
            pixels_read_pixels,
            words_read_pixels,
        ],
        given=planted_batch_axis_and_one_token,
        run=read_by,
    ),
    "7.4": Code(
        positions_reached,
        shares_of_positions,
        "1 for a token that a single position reads, N for one that all positions read alike.",
        [
            not_normalised,
            tokens_read_by_positions,
            zero_times_minus_infinity,
            entropy_itself,
            base_two_inside_e_outside,
            sign_forgotten,
            softmax_over_the_positions,
            averaged_over_the_tokens,
        ],
    ),
    "7.5": Choice(
        "c",
        {
            "a": "The text encoder uses the order, but it has run before you shuffle: each vector "
            "already contains what it knows about its neighbours.",
            "b": "The U-Net never learned that vector 7 is a colour: nothing in it depends on "
            "which vector is the seventh, so no vector can be out of place.",
            "c": "A sum over words doesn't depend on the order of its terms, and neither does a "
            "mean. The order entered earlier, in the text encoder, and each vector contains it.",
            "d": "Padding reads the caption as any token does, and it too is only one vector of a "
            "set. Its position means nothing.",
        },
    ),
}
