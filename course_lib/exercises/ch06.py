"""Chapter 06: another tokenizer, windows of attention, pooling, SigLIP's loss, a stuck loss."""

from math import log, log2

import torch
import torch.nn.functional as F

from course_lib.teaching.check import Code, Number, with_gradients

# ---- 6.1 write: another tokenizer --------------------------------------------------------------


def longest_pieces(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        fitting = [piece for piece in vocabulary if word.startswith(piece, start)]
        pieces.append(max(fitting, key=len, default=word[start]))
        start += len(pieces[-1])
    return pieces


def first_that_fits(word, vocabulary):
    """You take the first piece of the vocabulary that fits. Take the longest one that fits,
    wherever it stands in the list."""
    pieces = []
    while word:
        pieces.append(next((piece for piece in vocabulary if word.startswith(piece)), word[0]))
        word = word[len(pieces[-1]) :]
    return pieces


def shortest_that_fits(word, vocabulary):
    """You take the shortest piece that fits, so words fall apart into letters. Take the longest."""
    pieces = []
    while word:
        fitting = [piece for piece in vocabulary if word.startswith(piece)]
        pieces.append(min(fitting, key=len, default=word[0]))
        word = word[len(pieces[-1]) :]
    return pieces


def from_the_end_of_the_word(word, vocabulary):
    """You cut from the end of the word. WordPiece cuts from the left: the longest piece that the
    word starts with comes first."""
    pieces = []
    while word:
        fitting = [piece for piece in vocabulary if word.endswith(piece)]
        pieces.insert(0, max(fitting, key=len, default=word[-1]))
        word = word[: -len(pieces[0])]
    return pieces


def letters_only(word, vocabulary):
    """You return single letters. At each position, look for the longest piece of the vocabulary."""
    return list(word)


def unknown_letters_left_out(word, vocabulary):
    """You drop letters that no piece starts with. Such a letter becomes a piece of its own, so the
    pieces joined together always give the word again."""
    pieces = []
    while word:
        fitting = [piece for piece in vocabulary if word.startswith(piece)]
        pieces += [max(fitting, key=len)] if fitting else []
        word = word[len(max(fitting, key=len, default=word[0])) :]
    return pieces


def stopped_after_one_piece(word, vocabulary):
    """You stopped after the first piece. Go on with the rest of the word until nothing is left."""
    return longest_pieces(word, vocabulary)[:1]


def words_and_pieces():
    return [
        ("green", ["g", "r", "gr", "e", "en"]),
        ("unstoppable", ["un", "u", "stop", "st", "able", "pable", "op", "p"]),
        ("redder", ["red", "de", "redd", "er", "der"]),
        ("oöööne", ["o", "one", "on", "ne"]),
        ("catalogs", ["cat", "alog", "at", "a", "s", "log"]),
    ]


def drawn_words():
    """Words of twelve letters, and pieces that were cut out of them."""
    cases = []
    for _ in range(3):
        word = "".join("abcd"[i] for i in torch.randint(4, (12,)))
        cuts = torch.randint(11, (8,)).tolist()
        cases.append((word, [word[i : i + 1 + n % 4] for n, i in enumerate(cuts)]))
    return cases


# ---- 6.2 write: a window of attention ----------------------------------------------------------


def window_attention(q, k, v, window):
    scores = q @ k.T / q.shape[1] ** 0.5
    ages = torch.arange(len(q))[:, None] - torch.arange(len(k))  # reader minus token
    hidden = (ages < 0) | (ages >= window)
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=1) @ v


def with_mask(q, k, v, hidden):
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=1) @ v


def ages_of(q, k):
    return torch.arange(len(q))[:, None] - torch.arange(len(k))


def forgot_the_mask(q, k, v, window):
    """Every token still reads all others: the mask is missing."""
    return (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1) @ v


def no_window(q, k, v, window):
    """You hide the future, but each token reads the whole past. It may read only the last `window`
    tokens, itself included."""
    return with_mask(q, k, v, ages_of(q, k) < 0)


def no_causal_mask(q, k, v, window):
    """You limit the past, but each token also reads everything after it. Hide the future, too."""
    return with_mask(q, k, v, ages_of(q, k) >= window)


def window_on_both_sides(q, k, v, window):
    """Your window reaches into the future as well. A token reads itself and what came before."""
    return with_mask(q, k, v, ages_of(q, k).abs() >= window)


def one_token_too_many(q, k, v, window):
    """Your window is one token too long. It includes the token itself: with window = 1, each token
    reads only itself."""
    return window_attention(q, k, v, window + 1)


def reading_the_future(q, k, v, window):
    """Your mask is mirrored: each token reads itself and those after it. Row n is the reader, so
    the future lies to the right of the diagonal."""
    return with_mask(q, k, v, (ages_of(q, k) > 0) | (ages_of(q, k) <= -window))


def masked_after_the_softmax(q, k, v, window):
    """You masked the weights after the softmax. What is left of a row no longer sums to 1, and it
    still depends on the hidden tokens: mask the scores before the softmax."""
    ages = ages_of(q, k)
    weights = (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1)
    return weights.masked_fill((ages < 0) | (ages >= window), 0.0) @ v


def zeros_instead_of_minus_infinity(q, k, v, window):
    """You set the hidden scores to 0. But the softmax turns a score of 0 into e⁰ = 1 before it
    normalises; only minus infinity becomes 0."""
    ages = ages_of(q, k)
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill((ages < 0) | (ages >= window), 0.0).softmax(dim=1) @ v


def forgot_the_root(q, k, v, window):
    """The scores aren't divided by √d. The wider the vectors, the larger their products, and the
    softmax then looks at a single token."""
    return window_attention(q * q.shape[1] ** 0.5, k, v, window)


def divided_by_d(q, k, v, window):
    """You divided the scores by d. The variance of a sum of d products is d, so divide by its
    square root, √d."""
    return window_attention(q / q.shape[1] ** 0.5, k, v, window)


def root_of_the_length(q, k, v, window):
    """You divided by the root of the length L. What makes scores grow is the number of products in
    each, the width d: q.shape[1]."""
    return window_attention(q * (q.shape[1] / q.shape[0]) ** 0.5, k, v, window)


def queries_and_keys_exchanged(q, k, v, window):
    """You exchanged queries and keys: row n of the scores must belong to query n, so q comes first,
    q @ k.T."""
    return window_attention(k, q, v, window)


def softmax_over_the_readers(q, k, v, window):
    """Your softmax runs over the queries, so the columns sum to 1. Each reader distributes its own
    attention, so the rows must sum to 1: dim=1."""
    ages = ages_of(q, k)
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill((ages < 0) | (ages >= window), -torch.inf).softmax(dim=0) @ v


def few_tokens():
    return [
        (
            torch.tensor([[1.0, 0], [0, 2], [1, 1]]),
            torch.tensor([[1.0, 1], [0, 1], [2, 0]]),
            torch.tensor([[1.0, 0], [0, 1], [4, 4]]),
            2,
        ),
        (torch.randn(6, 4), torch.randn(6, 4), torch.randn(6, 5), 3),
        (torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 2), 1),
    ]


# ---- 6.3 debug: pooling ------------------------------------------------------------------------


def pool(ids, context, end):
    first = (ids == end).int().argmax(dim=1)
    return context[torch.arange(len(ids)), first]


def planted_last_position(ids, context, end):
    return context[:, -1]


def pooled_at_the_start(ids, context, end):
    """That is the vector of the start token. Nothing comes before it, and the mask hides what comes
    after, so it is the same for every caption."""
    return context[:, 0]


def pooled_at_the_last_word(ids, context, end):
    """You are one position early, at the last word. argmax of `ids == end` gives the position of
    the first end of text itself."""
    first = (ids == end).int().argmax(dim=1)
    return context[torch.arange(len(ids)), first - 1]


def averaged_over_all_positions(ids, context, end):
    """You averaged over all positions. Then the start and the padding count as much as the words,
    and a short caption is mostly padding."""
    return context.mean(dim=1)


def averaged_over_the_words(ids, context, end):
    """You averaged up to the end of text. Other encoders do that, but here the mask prevents all
    positions before the last word from reading the whole caption."""
    first = (ids == end).int().argmax(dim=1)
    known = (torch.arange(ids.shape[1]) <= first[:, None]).float()[:, :, None]
    return (context * known).sum(1) / known.sum(1)


def every_caption_at_every_end(ids, context, end):
    """`context[:, first]` takes each caption at the ends of *all* captions, so there is one
    dimension too many. Pair them up: context[torch.arange(B), first]."""
    first = (ids == end).int().argmax(dim=1)
    return context[:, first]


def the_largest_id(ids, context, end):
    """You look for the largest id and never use `end`. That works only where the end of text is the
    last entry of the vocabulary, as in CLIP."""
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


# ---- 6.4 write: another contrastive loss -------------------------------------------------------


def sigmoid_loss(images, captions, logit_scale, bias):
    images, captions = F.normalize(images, dim=1), F.normalize(captions, dim=1)
    logits = logit_scale.exp() * images @ captions.T + bias
    signs = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def of_logits(logits):
    signs = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def cosines(images, captions):
    return F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T


def forgot_to_normalise(images, captions, logit_scale, bias):
    """You used the vectors at the length they came with. Then a long vector is similar to
    everything, and the network can lower its loss by growing: make them unit vectors first."""
    return of_logits(logit_scale.exp() * images @ captions.T + bias)


def normalised_over_the_batch(images, captions, logit_scale, bias):
    """You normalised along dim 0, so each feature has length 1 over the batch. Each vector should
    have length 1: dim 1."""
    images, captions = F.normalize(images, dim=0), F.normalize(captions, dim=0)
    return of_logits(logit_scale.exp() * images @ captions.T + bias)


def scale_not_exponentiated(images, captions, logit_scale, bias):
    """You multiplied by `logit_scale` itself. It is the logarithm of the inverse temperature, so
    that it stays positive whatever the optimiser does: take its exp."""
    return of_logits(logit_scale * cosines(images, captions) + bias)


def divided_by_the_inverse_temperature(images, captions, logit_scale, bias):
    """You divided by exp(logit_scale), but that is already 1/τ, not τ: multiply."""
    return of_logits(cosines(images, captions) / logit_scale.exp() + bias)


def bias_forgotten(images, captions, logit_scale, bias):
    """You left the bias out. Nearly all pairs are wrong ones, so without it the loss starts with a
    large gradient that only says "everything is less similar"."""
    return of_logits(logit_scale.exp() * cosines(images, captions) + 0 * bias)


def bias_scaled_too(images, captions, logit_scale, bias):
    """You added the bias before you multiplied by the scale. It is added to the logits: last."""
    return of_logits(logit_scale.exp() * (cosines(images, captions) + bias))


def mean_over_all_pairs(images, captions, logit_scale, bias):
    """You averaged over all B² pairs. The paper sums over them and divides by B, so that each
    picture counts once."""
    return sigmoid_loss(images, captions, logit_scale, bias) / len(images)


def summed_over_all_pairs(images, captions, logit_scale, bias):
    """You summed over all pairs. Divide by B, or a larger batch means a larger loss."""
    return sigmoid_loss(images, captions, logit_scale, bias) * len(images)


def right_pairs_only(images, captions, logit_scale, bias):
    """You used the diagonal only. The loss would be lowest if all vectors were the same: the wrong
    pairs must be pushed apart, too."""
    logits = logit_scale.exp() * cosines(images, captions) + bias
    return -F.logsigmoid(logits.diag()).mean()


def wrong_pairs_with_a_plus(images, captions, logit_scale, bias):
    """All your pairs have the sign +1, so wrong pairs are pulled together as well. Off the diagonal
    the sign is -1."""
    logits = logit_scale.exp() * cosines(images, captions) + bias
    return -F.logsigmoid(logits).sum() / len(logits)


def signs_turned(images, captions, logit_scale, bias):
    """Your signs are reversed: right pairs, on the diagonal, have +1, wrong ones -1."""
    return of_logits_turned(logit_scale.exp() * cosines(images, captions) + bias)


def of_logits_turned(logits):
    signs = 1 - 2 * torch.eye(len(logits))
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def a_softmax_after_all(images, captions, logit_scale, bias):
    """That is CLIP's loss, (6.5), with a softmax over the batch. Here each pair is judged on its
    own by a sigmoid."""
    logits = logit_scale.exp() * cosines(images, captions) + bias
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def minus_forgotten(images, captions, logit_scale, bias):
    """You return the log-likelihood. A loss is lower when the model is better: put a minus in
    front."""
    return -sigmoid_loss(images, captions, logit_scale, bias)


def cut_from_the_graph(images, captions, logit_scale, bias):
    """The value is right, but no gradient comes out of it: after detach, item or no_grad nothing
    can be learned from a loss."""
    return sigmoid_loss(images, captions, logit_scale, bias).detach()


def few_pairs():
    return [
        (
            torch.tensor([[2.0, 0.0], [1.0, 1.0]]),
            torch.tensor([[1.0, 0.5], [0.0, 3.0]]),
            torch.tensor(0.7),
            torch.tensor(-1.5),
        ),
        (torch.randn(5, 3), torch.randn(5, 3), torch.tensor(1.5), torch.tensor(-2.0)),
    ]


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "6.1": Code(
        longest_pieces,
        words_and_pieces,
        "That is how BERT's tokenizer, WordPiece, cuts words.",
        [
            first_that_fits,
            shortest_that_fits,
            from_the_end_of_the_word,
            letters_only,
            unknown_letters_left_out,
            stopped_after_one_piece,
        ],
        more=drawn_words,
    ),
    "6.2": Code(
        window_attention,
        few_tokens,
        "With a window as long as the caption it is (6.2). Long-context models use such windows.",
        [
            forgot_the_mask,
            no_window,
            no_causal_mask,
            window_on_both_sides,
            one_token_too_many,
            reading_the_future,
            masked_after_the_softmax,
            zeros_instead_of_minus_infinity,
            forgot_the_root,
            divided_by_d,
            root_of_the_length,
            queries_and_keys_exchanged,
            softmax_over_the_readers,
        ],
        run=with_gradients("y", q=0, k=1, v=2),
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
        sigmoid_loss,
        few_pairs,
        "That is SigLIP's loss: no softmax, so no picture has to wait for the whole batch.",
        [
            forgot_to_normalise,
            normalised_over_the_batch,
            scale_not_exponentiated,
            divided_by_the_inverse_temperature,
            bias_forgotten,
            bias_scaled_too,
            mean_over_all_pairs,
            summed_over_all_pairs,
            right_pairs_only,
            wrong_pairs_with_a_plus,
            signs_turned,
            a_softmax_after_all,
            minus_forgotten,
            cut_from_the_graph,
        ],
        run=with_gradients("loss", images=0, captions=1, logit_scale=2, bias=3),
    ),
    "6.5": Number(
        (log(160) + log(40)) / 2,
        "A picture chooses among 40 + 120 captions, a caption among 40 pictures: the mean of "
        "log 160 and log 40. A loss that stays there has learned nothing, however long it ran.",
        within=0.005,
        misconceptions={
            "hard negatives forgotten": (
                log(40),
                "That is log 40. It holds for the captions, which choose among 40 pictures. But a "
                "picture also has the 120 hard negatives to choose from.",
            ),
            "hard negatives in both directions": (
                log(160),
                "That is log 160. It holds for the pictures, which choose among 160 captions. But "
                "a hard negative belongs to no picture, so only the 40 true captions choose, among "
                "40 pictures; then take the mean.",
            ),
            "its own hard negatives only": (
                (log(43) + log(40)) / 2,
                "You gave each picture only its own three hard negatives. All pictures share all "
                "120 of them: each chooses among 160 captions.",
            ),
            "one hard negative each": (
                (log(80) + log(40)) / 2,
                "That would be right for one hard negative for each picture. Here there are three.",
            ),
            "the mean inside the logarithm": (
                log(100),
                "That is log 100. The loss is the mean of two logarithms, not the logarithm of "
                "the mean.",
            ),
            "counted in bits": (
                (log2(160) + log2(40)) / 2,
                "That is the right number in bits: log to the base 2. PyTorch's cross-entropy uses "
                "the natural logarithm.",
            ),
        },
    ),
}
