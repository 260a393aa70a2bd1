"""Tokenizer: from a caption to token ids of one fixed length, and back."""

import json

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from course_lib.common.registry import FINAL, near, short, unknown_words

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
WORD = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


class Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) in CLIP's dress, at one fixed length.

    A caption becomes start, its tokens, end, and ends again up to `length`; "" is the null
    caption. Lower-case. ValueError for a caption that is too long or has words that are not among
    `words` (which BPE could spell, but no network has seen); `words=None` allows any. Punctuation
    at the end that is not among `words` is dropped.
    vocabulary: {token: id}, start and end last; merges: pairs of tokens, the earliest first.
    """

    def __init__(self, vocabulary, merges, words=None, length=77):
        self.kwargs = dict(vocabulary=vocabulary, merges=merges, words=words, length=length)
        self.words, self.length = None if words is None else set(words), length
        self.start, self.end = vocabulary[START], vocabulary[END]
        pairs = [tuple(pair) for pair in merges]
        self.bpe = bpe(models.BPE(vocabulary, pairs, end_of_word_suffix=WORD_END, unk_token=END))

    @classmethod
    def train(cls, captions, vocab_size=512, length=24):
        """A tokenizer that knows the words of these captions, in `vocab_size` tokens or fewer.

        It has more where the letters alone are more: none is left out.
        """
        captions = list(captions)
        words = sorted({word for caption in captions for word in split(caption)})
        model = bpe(models.BPE(end_of_word_suffix=WORD_END))
        last = {model.pre_tokenizer.pre_tokenize_str(word)[-1][0][-1] for word in words}
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=sorted(letter + WORD_END for letter in last),  # else in random order
            end_of_word_suffix=WORD_END,
            show_progress=False,
        )
        model.train_from_iterator(captions, trainer)
        learned = json.loads(model.to_str())["model"]
        vocabulary = {token: i for i, token in enumerate([*learned["vocab"], START, END])}
        return cls(vocabulary, learned["merges"], words, length)

    def __len__(self):
        return len(self.kwargs["vocabulary"])

    def encode(self, caption):
        """Ids of one caption, start to end, not padded: list of int."""
        caption = self.without_final(caption)
        self.check_words(caption)
        ids = [self.start, *self.bpe.encode(caption, add_special_tokens=False).ids, self.end]
        if len(ids) > self.length:
            raise ValueError(
                f"caption has {len(ids)} tokens with its start and end, but the limit is "
                f"{self.length}: {short(caption)!r}"
            )
        return ids

    def __call__(self, captions):
        """Ids of one caption or a list of them, padded: LongTensor (B, length)."""
        captions = [captions] if isinstance(captions, str) else captions
        rows = [self.encode(caption) for caption in captions]
        rows = [row + [self.end] * (self.length - len(row)) for row in rows]
        return torch.tensor(rows, dtype=torch.long).view(-1, self.length)

    def tokens(self, caption):
        """What stands at each of the `length` positions, to label attention maps: list of str."""
        names = [self.bpe.id_to_token(i) for i in self(caption)[0].tolist()]
        return [name.removesuffix(WORD_END) for name in names]

    def decode(self, ids):
        """The caption of a row of ids (L,), or the list of captions of (B, L)."""
        ids = torch.as_tensor(ids)
        if ids.ndim not in (1, 2) or ids.is_floating_point():
            raise ValueError(
                f"ids are {tuple(ids.shape)} {ids.dtype}, expected whole, (L,) or (B, L)"
            )
        if ids.ndim == 2:
            return [self.decode(row) for row in ids]
        kept = [i for i in ids.tolist() if i not in (self.start, self.end)]
        return self.bpe.decode(kept).replace(WORD_END, " ").replace(" ,", ",").strip()

    def without_final(self, caption):
        """The caption without its final punctuation, unless captions in training had it."""
        start = caption.rstrip(FINAL)
        end = caption[len(start) :].strip()
        known = self.words is None or (end in self.words and end != ",")  # none ends in a comma
        return caption if known or not start else start

    def check_words(self, caption):
        if self.words is None:
            return
        unknown = dict.fromkeys(word for word in split(caption) if word not in self.words)
        if unknown:
            meant = {word: found[0] for word in unknown if (found := near(word, self.words))}
            raise ValueError(unknown_words(unknown, meant))


def bpe(model):
    """CLIP's way from text to pieces and back around a BPE model of the `tokenizers` library."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = NORMALIZER
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([SPLIT, pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split(caption):
    """Lower-case words and punctuation of a caption, as the tokenizer sees them."""
    pieces = SPLIT.pre_tokenize_str(NORMALIZER.normalize_str(caption))
    return [piece for piece, _ in pieces]


SPLIT = pre_tokenizers.Split(WORD, behavior="removed", invert=True)
NORMALIZER = normalizers.Sequence(
    [
        normalizers.NFC(),
        normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
        normalizers.Lowercase(),
    ]
)
