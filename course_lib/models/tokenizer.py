"""Tokenizer: from a caption to a fixed number of token ids, and back."""

import json
from collections.abc import Iterable, Sequence

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from course_lib.common.checks import require
from course_lib.common.registry import FINAL, near, short, unknown_words

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
WORD = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


class Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) as in CLIP, padded to one fixed length.

    A caption becomes the start token, its tokens in lower case, and end tokens up to `length`; ""
    is the null caption. ValueError for a caption that is too long or has words that are not in
    `words` (BPE could spell them, but no network was trained on them); `words=None` allows any.
    Final punctuation that is not in `words` is dropped.
    vocabulary: {token: id}, start and end last; merges: pairs of tokens, the earliest first.

    >>> tokenizer = Tokenizer.train(["a red circle", "a blue circle"], length=8)
    >>> tokenizer.decode(tokenizer("a red circle")[0])
    'a red circle'
    """

    def __init__(
        self,
        vocabulary: dict[str, int],
        merges: Sequence[Sequence[str]],
        words: Iterable[str] | None = None,
        length: int = 77,
    ):
        self.kwargs = dict(vocabulary=vocabulary, merges=merges, words=words, length=length)
        self.words, self.length = None if words is None else set(words), length
        self.start, self.end = vocabulary[START], vocabulary[END]
        pairs = [tuple(pair) for pair in merges]
        self.bpe = bpe(models.BPE(vocabulary, pairs, end_of_word_suffix=WORD_END, unk_token=END))

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int = 512, length: int = 24) -> "Tokenizer":
        """A tokenizer for the words of these captions, with at most `vocab_size` tokens.

        It has more only if the captions contain more different letters than that.
        """
        captions = list(captions)
        words = sorted({word for caption in captions for word in split(caption)})
        model = bpe(models.BPE(end_of_word_suffix=WORD_END))
        last = {model.pre_tokenizer.pre_tokenize_str(word)[-1][0][-1] for word in words}
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            special_tokens=sorted(letter + WORD_END for letter in last),  # or the order is random
            end_of_word_suffix=WORD_END,
            show_progress=False,
        )
        model.train_from_iterator(captions, trainer)
        learned = json.loads(model.to_str())["model"]
        vocabulary = {token: i for i, token in enumerate([*learned["vocab"], START, END])}
        return cls(vocabulary, learned["merges"], words, length)

    def __len__(self) -> int:
        return len(self.kwargs["vocabulary"])

    def encode(self, caption: str) -> list[int]:
        """Ids of one caption, start to end, not padded."""
        caption = self.without_final(caption)
        self.check_words(caption)
        ids = [self.start, *self.bpe.encode(caption, add_special_tokens=False).ids, self.end]
        limit = f"at most {self.length} tokens with its start and end"
        require(len(ids) <= self.length, f"caption {short(caption)!r}", limit, len(ids))
        return ids

    def __call__(self, captions: str | Sequence[str]) -> Tensor:
        """Ids of one caption or a list of them, padded: LongTensor (B, length)."""
        captions = [captions] if isinstance(captions, str) else captions
        rows = [self.encode(caption) for caption in captions]
        rows = [row + [self.end] * (self.length - len(row)) for row in rows]
        return torch.tensor(rows, dtype=torch.long).view(-1, self.length)

    def count(self, caption: str) -> int:
        """The number of tokens of a caption with its start and end, also where it is too long."""
        caption = self.without_final(caption)
        return len(self.bpe.encode(caption, add_special_tokens=False).ids) + 2

    def tokens(self, caption: str) -> list[str]:
        """The token at each of the `length` positions, as labels for attention maps."""
        names = [self.bpe.id_to_token(i) for i in self(caption)[0].tolist()]
        return [name.removesuffix(WORD_END) for name in names]

    def decode(self, ids: Tensor | Sequence[int]) -> str | list[str]:
        """The caption of a row of ids (L,), or the list of captions of (B, L)."""
        ids = torch.as_tensor(ids)
        whole = ids.ndim in (1, 2) and not ids.is_floating_point()
        require(whole, "token ids", "whole numbers (L,) or (B, L)", ids)
        if ids.ndim == 2:
            return [self.decode(row) for row in ids]
        kept = [i for i in ids.tolist() if i not in (self.start, self.end)]
        return self.bpe.decode(kept).replace(WORD_END, " ").replace(" ,", ",").strip()

    def without_final(self, caption: str) -> str:
        """The caption without its final punctuation, unless training captions had it."""
        start = caption.rstrip(FINAL)
        end = caption[len(start) :].strip()
        known = self.words is None or (end in self.words and end != ",")  # none ends in a comma
        return caption if known or not start else start

    def check_words(self, caption: str) -> None:
        if self.words is None:
            return
        if unknown := dict.fromkeys(word for word in split(caption) if word not in self.words):
            meant = {word: found[0] for word in unknown if (found := near(word, self.words))}
            raise ValueError(unknown_words(unknown, meant))


def bpe(model: models.BPE) -> tokenizers.Tokenizer:
    """A tokenizer of the `tokenizers` library that normalises and splits text as CLIP does."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = NORMALIZER
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([SPLIT, pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split(caption: str) -> list[str]:
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
