"""Chapter 06: the exercises' right answers, and the mistakes people make."""

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Code, Number, with_gradients

# ---- 6.1 write: one merge ----------------------------------------------------------------------


def merge(pieces, pair):
    merged, i = [], 0
    while i < len(pieces):
        found = tuple(pieces[i : i + 2]) == tuple(pair)
        merged.append("".join(pieces[i : i + 1 + found]))
        i += 1 + found
    return merged


def only_the_first_place(pieces, pair):
    """You stopped after the first place where the pair stands. A merge is done wherever the pair
    occurs in the word: go on to its end."""
    for i in range(len(pieces) - 1):
        if tuple(pieces[i : i + 2]) == tuple(pair):
            return [*pieces[:i], "".join(pair), *pieces[i + 2 :]]
    return list(pieces)


def a_piece_used_twice(pieces, pair):
    """After a merge you go on with the next piece, which is already part of the merged one: in
    o o o the middle o is used twice. Skip two pieces after a merge."""
    merged, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == tuple(pair):
            merged.append("".join(pair))
            i += 1 + (i + 3 > len(pieces))
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def text_replaced_across_pieces(pieces, pair):
    """You joined the pieces with spaces and replaced text. That also finds the pair at the end of
    one piece and the beginning of another: bo n holds the text "o n", but its first piece is bo and
    not o. Compare whole pieces."""
    return " ".join(pieces).replace(" ".join(pair), "".join(pair)).split()


def pair_in_either_order(pieces, pair):
    """You also merge the pair the other way round: n o is not o n."""
    merged, i = [], 0
    while i < len(pieces):
        found = sorted(pieces[i : i + 2]) == sorted(pair)
        merged.append("".join(pieces[i : i + 1 + found]))
        i += 1 + found
    return merged


def second_piece_left_standing(pieces, pair):
    """You put the merged piece in the place of the first, and left the second where it was. Both
    are used up by a merge."""
    merged = [
        "".join(pair) if tuple(pieces[i : i + 2]) == tuple(pair) else pieces[i]
        for i in range(len(pieces))
    ]
    return merged


def words_in_pieces():
    return [
        (["g", "r", "e", "e", "n</w>"], ("r", "e")),
        (["o", "n", "n", "o", "o", "n", "o"], ("o", "n")),
        (["h", "o", "o", "o"], ("o", "o")),
        (["bo", "n", "o", "n"], ("o", "n")),
    ]


# ---- 6.2 write: causal attention ---------------------------------------------------------------


def causal_attention(q, k, v):
    scores = q @ k.T / q.shape[1] ** 0.5
    future = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=1) @ v


def forgot_the_mask(q, k, v):
    """Every token still reads all others, also those after it: the mask is missing."""
    return (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1) @ v


def masked_after_the_softmax(q, k, v):
    """You masked the weights after the softmax. What is left of a row no longer sums to 1, and its
    size still tells of the hidden tokens: mask the scores before the softmax."""
    weights = (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1)
    return weights.tril() @ v


def zeros_instead_of_minus_infinity(q, k, v):
    """You set the hidden scores to 0. But the softmax turns a score of 0 into the weight e⁰ = 1
    before it divides; only minus infinity becomes 0."""
    return (q @ k.T / q.shape[1] ** 0.5).tril().softmax(dim=1) @ v


def hidden_from_itself(q, k, v):
    """You also hid each token from itself. The first token then has nothing left to read, and its
    softmax is 0/0. Mask above the diagonal only: triu(1)."""
    scores = q @ k.T / q.shape[1] ** 0.5
    itself = torch.ones_like(scores).triu(0).bool()
    return scores.masked_fill(itself, -torch.inf).softmax(dim=1) @ v


def reading_the_future(q, k, v):
    """Your mask is upside down: each token reads itself and those after it. Row n is the reader, so
    what must go lies to the right of the diagonal: triu, not tril."""
    scores = q @ k.T / q.shape[1] ** 0.5
    past = torch.ones_like(scores).tril(-1).bool()
    return scores.masked_fill(past, -torch.inf).softmax(dim=1) @ v


def forgot_the_root(q, k, v):
    """The scores are not divided by √d. The wider the vectors, the larger their products, and the
    softmax then looks at a single token."""
    scores = q @ k.T
    future = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=1) @ v


def softmax_over_the_readers(q, k, v):
    """Your softmax runs over the queries, so the columns sum to 1. Each reader shares out its own
    attention: the rows must, dim=1."""
    scores = q @ k.T / q.shape[1] ** 0.5
    future = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=0) @ v


def three_tokens():
    return [
        (
            torch.tensor([[1.0, 0], [0, 2], [1, 1]]),
            torch.tensor([[1.0, 1], [0, 1], [2, 0]]),
            torch.tensor([[1.0, 0], [0, 1], [4, 4]]),
        ),
        (torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 4)),
    ]


# ---- 6.3 debug: pooling ------------------------------------------------------------------------


def pool(ids, context, end):
    first = (ids == end).int().argmax(dim=1)
    return context[torch.arange(len(ids)), first]


def planted_last_position(ids, context, end):
    return context[:, -1]


def pooled_at_the_start(ids, context, end):
    """That is the vector of the start token. Nothing stands before it, and the mask hides what
    comes after: it is the same for every caption in the world."""
    return context[:, 0]


def pooled_at_the_last_word(ids, context, end):
    """You are one position early: that is the last word, before the first end of text. argmax of
    `ids == end` gives the end's own position."""
    first = (ids == end).int().argmax(dim=1)
    return context[torch.arange(len(ids)), first - 1]


def averaged_over_all_positions(ids, context, end):
    """You averaged over all positions. Then the start and the padding count as much as the words,
    and a short caption is mostly padding."""
    return context.mean(dim=1)


def averaged_over_the_words(ids, context, end):
    """You averaged up to the end of text. Other encoders do that, but in this one the mask keeps
    all positions before the last word from having read the whole caption."""
    first = (ids == end).int().argmax(dim=1)
    known = (torch.arange(ids.shape[1]) <= first[:, None]).float()[:, :, None]
    return (context * known).sum(1) / known.sum(1)


def every_caption_at_every_end(ids, context, end):
    """`context[:, first]` takes each caption at the ends of *all* captions, so there is one
    dimension too many. Pair them up: context[torch.arange(B), first]."""
    first = (ids == end).int().argmax(dim=1)
    return context[:, first]


def the_largest_id(ids, context, end):
    """You look for the largest id and never at `end`. That works where the end of text stands last
    in the vocabulary, as CLIP's does, and only there."""
    return context[torch.arange(len(ids)), ids.argmax(dim=1)]


def padded_captions():
    ids = torch.tensor([[0, 2, 9, 9]])
    other = torch.tensor([[0, 7, 3, 3]])  # the end need not be the largest id
    longer = torch.tensor([[0, 4, 9, 9, 9, 9], [0, 3, 5, 1, 9, 9], [0, 9, 9, 9, 9, 9]])
    return [
        (ids, torch.tensor([[[1.0], [2.0], [3.0], [5.0]]]), 9),
        (other, torch.tensor([[[1.0], [2.0], [3.0], [5.0]]]), 3),
        (longer, torch.randn(3, 6, 4), 9),
    ]


# ---- 6.4 write: the contrastive loss -----------------------------------------------------------


def contrastive_loss(images, captions, logit_scale):
    images, captions = F.normalize(images, dim=1), F.normalize(captions, dim=1)
    logits = logit_scale.exp() * images @ captions.T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def forgot_to_normalise(images, captions, logit_scale):
    """You used the vectors at the length they came with. Then a long vector is similar to
    everything, and the network can lower its loss by growing: make them unit vectors first."""
    logits = logit_scale.exp() * images @ captions.T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def normalised_over_the_batch(images, captions, logit_scale):
    """You normalised along dim 0, so each feature has length 1 over the batch. What should have
    length 1 is each vector: dim 1."""
    images, captions = F.normalize(images, dim=0), F.normalize(captions, dim=0)
    logits = logit_scale.exp() * images @ captions.T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def scale_not_exponentiated(images, captions, logit_scale):
    """You multiplied by `logit_scale` itself. It is the logarithm of the inverse temperature, so
    that it stays positive whatever the optimiser does: take its exp."""
    logits = logit_scale * F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def divided_by_the_inverse_temperature(images, captions, logit_scale):
    """You divided by exp(logit_scale), but that is 1/τ already, and not τ: multiply."""
    logits = F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T / logit_scale.exp()
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def only_pictures_to_captions(images, captions, logit_scale):
    """You asked each picture for its caption, but no caption for its picture. Take the
    cross-entropy of the transposed logits as well, and average."""
    logits = logit_scale.exp() * F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))


def only_captions_to_pictures(images, captions, logit_scale):
    """You asked each caption for its picture, but no picture for its caption. Take the
    cross-entropy of the logits as they stand as well, and average."""
    logits = logit_scale.exp() * F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    return F.cross_entropy(logits.T, torch.arange(len(logits)))


def both_directions_summed(images, captions, logit_scale):
    """You added the two directions. Take their mean, or an untrained model starts at 2 log B."""
    return 2 * contrastive_loss(images, captions, logit_scale)


def softmax_twice(images, captions, logit_scale):
    """You took a softmax and gave it to `F.cross_entropy`, which takes one itself. Give it the
    logits."""
    logits = logit_scale.exp() * F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T
    pairs = torch.arange(len(logits))
    rows, columns = logits.softmax(1), logits.T.softmax(1)
    return (F.cross_entropy(rows, pairs) + F.cross_entropy(columns, pairs)) / 2


def cut_from_the_graph(images, captions, logit_scale):
    """The value is right, but no gradient comes out of it: after detach, item or no_grad nothing
    learns from a loss."""
    return contrastive_loss(images, captions, logit_scale).detach()


def few_pairs():
    return [
        (
            torch.tensor([[2.0, 0.0], [1.0, 1.0]]),
            torch.tensor([[1.0, 0.5], [0.0, 3.0]]),
            torch.tensor(0.7),
        ),
        (torch.randn(5, 3), torch.randn(5, 3), torch.tensor(1.5)),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "6.1": Code(
        merge,
        words_in_pieces,
        "Run it over all words, count again, and you have byte-pair encoding.",
        [
            only_the_first_place,
            a_piece_used_twice,
            text_replaced_across_pieces,
            pair_in_either_order,
            second_piece_left_standing,
        ],
    ),
    "6.2": Code(
        causal_attention,
        three_tokens,
        "The first row is v's first row: the first token has only itself to read.",
        [
            forgot_the_mask,
            masked_after_the_softmax,
            zeros_instead_of_minus_infinity,
            hidden_from_itself,
            reading_the_future,
            forgot_the_root,
            softmax_over_the_readers,
        ],
    ),
    "6.3": Code(
        pool,
        padded_captions,
        "The first end has read every word and no padding, so the length of the padding is free.",
        [
            pooled_at_the_start,
            pooled_at_the_last_word,
            averaged_over_all_positions,
            averaged_over_the_words,
            every_caption_at_every_end,
            the_largest_id,
        ],
        given=planted_last_position,
    ),
    "6.4": Code(
        contrastive_loss,
        few_pairs,
        "That is the whole objective of CLIP; only the encoders are missing.",
        [
            forgot_to_normalise,
            normalised_over_the_batch,
            scale_not_exponentiated,
            divided_by_the_inverse_temperature,
            only_pictures_to_captions,
            only_captions_to_pictures,
            both_directions_summed,
            softmax_twice,
            cut_from_the_graph,
        ],
        run=with_gradients("loss", images=0, captions=1),
    ),
    "6.5": Number(
        4.911,
        "A picture chooses among 192 captions, a caption among 96 pictures: the mean of log 192 "
        "and log 96. A loss that stays there has learned nothing, however long it ran.",
        within=0.01,
        misconceptions={
            "the_lies_forgotten": (
                4.564,
                "That is log 96. It holds for the captions, which choose among 96 pictures. But a "
                "picture also has the 96 lies to choose from.",
            ),
            "lies_in_both_directions": (
                5.257,
                "That is log 192. It holds for the pictures, which choose among 192 captions. But "
                "the lies belong to no picture, so only the 96 true captions choose, among 96 "
                "pictures; then take the mean.",
            ),
            "the_mean_inside_the_logarithm": (
                4.970,
                "That is log 144. The loss is the mean of two logarithms, not the logarithm of "
                "the mean.",
            ),
            "counted_in_bits": (
                7.085,
                "That is the right number in bits: log to the base 2. PyTorch's cross-entropy uses "
                "the natural logarithm.",
            ),
        },
    ),
}
