"""Chapter 07: cross-attention, by hand. A layer of PyTorch's stands in for the block's own."""

import torch
from torch import nn

from course_lib.teaching.check import Choice, Code

# ---- 7.1 write: attention ----------------------------------------------------------------------


def read_words(q, k, v):
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return scores.softmax(dim=2) @ v


def scores_not_scaled(q, k, v):
    """The scores are not divided by √d. Their spread grows like √d, so in a wide layer the softmax
    picks one word and its gradient dies."""
    return (q @ k.transpose(1, 2)).softmax(dim=2) @ v


def divided_by_d(q, k, v):
    """You divided by d. The variance of a sum of d terms is d, so its spread is √d: divide by that,
    or wide layers read all words alike."""
    return (q @ k.transpose(1, 2) / q.shape[2]).softmax(dim=2) @ v


def pixels_compete_for_words(q, k, v):
    """Your softmax runs over the pixels, so each word shares itself out among them, and a pixel may
    get no word at all. Each pixel's weights over the words must sum to 1: the last dimension."""
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=1) @ v


def softmax_over_the_batch(q, k, v):
    """Your softmax runs over dim 0, the batch: pictures compete with each other for words. Each
    sample is by itself; the softmax belongs on the last dimension, the words."""
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=0) @ v


def no_softmax(q, k, v):
    """Without the softmax the weights can be negative and sum to anything."""
    return q @ k.transpose(1, 2) / q.shape[2] ** 0.5 @ v


def keys_as_values(q, k, v):
    """You averaged the keys. A key says what a word answers to; what it hands over is its value."""
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2) @ k


def questions_and_words():
    one = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[2.0, 1.0], [0.0, 1.0]]])
    few = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    return [(*one, torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])), few]


# ---- 7.2 write: splitting into heads -----------------------------------------------------------


def split_heads(x, heads):
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def reshaped_at_once(x, heads):
    """The shape is right and the numbers are in the wrong places: reshape never moves a number, so
    a head got whole pixels instead of a part of each. Split the last dimension first, then exchange
    two dimensions."""
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def channels_dealt_like_cards(x, heads):
    """You dealt the channels out in turn (0, 2, 4, … to the first head). Heads take neighbouring
    channels: the head's number comes before the channel within it."""
    return x.reshape(x.shape[0], x.shape[1], -1, heads).permute(0, 3, 1, 2)


def heads_after_pixels(x, heads):
    """You split the width, but the heads still stand behind the pixels. Attention works on the last
    two dimensions, so they must be the pixels and the head's width."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1)


def heads_before_the_batch(x, heads):
    """You put the heads in front of the batch. The order asked for is (B, heads, N, d)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(2, 0, 1, 3)


def widths():
    return [
        (torch.arange(8.0).reshape(1, 2, 4), 2),
        (torch.randn(2, 3, 8), 4),
        (torch.randn(3, 5, 6), 1),
    ]


# ---- 7.3 debug: the popular reader -------------------------------------------------------------


def read_mended(pixels, words, layer):
    q, kv = pixels.transpose(0, 1), words.transpose(0, 1)
    return layer(q, kv, kv)[0].transpose(0, 1)


def planted_batch_axis_and_one_token(pixels, words, layer):
    pooled = words.mean(1, keepdim=True).expand(-1, pixels.shape[1], -1)
    return layer(pixels, pooled, pooled)[0]


def still_a_single_token(pixels, words, layer):
    """The samples no longer read each other. But the words are still averaged into one before they
    are read, so every weight is the same whatever the pixel asks: hand all of them over."""
    return read_mended(pixels, words.mean(1, keepdim=True), layer)


def forgot_to_turn_back(pixels, words, layer):
    """What comes out is (N, B, D), as the layer gives it. Exchange the first two dimensions
    again."""
    q, kv = pixels.transpose(0, 1), words.transpose(0, 1)
    return layer(q, kv, kv)[0]


def reshaped_instead_of_transposed(pixels, words, layer):
    """You used reshape to exchange two dimensions. It keeps all numbers in their order in memory
    and cuts them anew, so pixels of different samples got mixed. Use transpose."""
    (batch, count, width), length = pixels.shape, words.shape[1]
    q, kv = pixels.reshape(count, batch, width), words.reshape(length, batch, width)
    return layer(q, kv, kv)[0].reshape(batch, count, width)


def pixels_read_pixels(pixels, words, layer):
    """The axes are right, but keys and values come from the pixels: that is self-attention, and the
    caption is never read."""
    return read_mended(pixels, pixels, layer)


def words_read_pixels(pixels, words, layer):
    """The words ask and the pixels answer, so one vector a word comes out, and not one a pixel."""
    return read_mended(words, pixels, layer)


def readers():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(2, 1)
    small = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[2.0, 0.0], [0.0, -2.0]]])
    return [
        (*small, layer),
        (torch.randn(2, 3, 2), torch.randn(2, 5, 2), layer),
        (torch.randn(3, 4, 8), torch.randn(3, 2, 8), nn.MultiheadAttention(8, 4)),
    ]


# ---- 7.4 write: how many tokens does a place read? ---------------------------------------------


def tokens_read(weights):
    entropy = -torch.xlogy(weights, weights).sum(-1)
    return entropy.mean(-1).exp()


def zero_times_minus_infinity(weights):
    """Some weights are exactly 0, and 0 · log 0 gives nan. Its limit is 0: use torch.xlogy, or
    clamp the weights before the logarithm."""
    return (-(weights * weights.log()).sum(-1)).mean(-1).exp()


def entropy_of_the_mean_map(weights):
    """You averaged the weights over the places first. A head in which each place reads one token,
    but another one, then looks like a head that reads all of them. First the entropy of each place,
    then the mean."""
    mean = weights.mean(2)
    return (-torch.xlogy(mean, mean).sum(-1)).exp()


def entropy_itself(weights):
    """That is the mean entropy in nats. Its exponential is the number of tokens: log L becomes
    L."""
    return (-torch.xlogy(weights, weights).sum(-1)).mean(-1)


def base_two_inside_e_outside(weights):
    """You took the logarithm to base 2 and raised e to it. Use one base for both."""
    return (-torch.xlogy(weights, weights).sum(-1) / torch.tensor(2.0).log()).mean(-1).exp()


def mean_of_the_exponentials(weights):
    """You took the exponential of each place and then the mean. Asked for is the exponential of the
    mean entropy: exp comes last."""
    return (-torch.xlogy(weights, weights).sum(-1)).exp().mean(-1)


def sign_forgotten(weights):
    """Logarithms of shares are negative, so the entropy needs a minus in front."""
    return torch.xlogy(weights, weights).sum(-1).mean(-1).exp()


def shares():
    hand_made = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]).reshape(1, 1, 4, 2)
    return [(hand_made,), (torch.randn(2, 3, 9, 5).mul(2).softmax(-1),)]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "7.1": Code(
        read_words,
        questions_and_words,
        "Equation (7.1) in two lines: who asks, who answers, what is handed over.",
        [
            scores_not_scaled,
            divided_by_d,
            pixels_compete_for_words,
            softmax_over_the_batch,
            no_softmax,
            keys_as_values,
        ],
    ),
    "7.2": Code(
        split_heads,
        widths,
        "Each head now has its own part of every pixel's width.",
        [
            reshaped_at_once,
            channels_dealt_like_cards,
            heads_after_pixels,
            heads_before_the_batch,
        ],
    ),
    "7.3": Code(
        read_mended,
        readers,
        "Both had to go: the axis that let samples read each other, and the pooling that left "
        "nothing to choose from.",
        [
            still_a_single_token,
            forgot_to_turn_back,
            reshaped_instead_of_transposed,
            pixels_read_pixels,
            words_read_pixels,
        ],
        given=planted_batch_axis_and_one_token,
    ),
    "7.4": Code(
        tokens_read,
        shares,
        "1 for a head that looks at one token, L for one that looks at all of them alike.",
        [
            zero_times_minus_infinity,
            entropy_of_the_mean_map,
            entropy_itself,
            base_two_inside_e_outside,
            mean_of_the_exponentials,
            sign_forgotten,
        ],
    ),
    "7.5": Choice(
        "c",
        {
            "a": "The text encoder hears the order, but it has run before you shuffle: each vector "
            "already carries what it knows of its neighbours, and takes it along.",
            "b": "The U-Net never learned that vector 7 is a colour: nothing in it knows which "
            "vector is the seventh. Nothing can be out of place where there are no places.",
            "c": "A sum over words does not depend on the order of its terms, and neither does a "
            "mean. Order entered before, in the text encoder, and each vector carries it along.",
            "d": "Padding reads the caption as any token does, and it too is only a vector in a "
            "set. Where it stands says nothing.",
        },
    ),
}
