"""Textual inversion (Gal et al. 2022): a new word, whose embedding is all that is learned.

clip = TextualInversion(model.clip, "<toy>", start="circle")    # trains clip.vectors only
context = clip.context(["a large <toy>"])                       # as model.clip is called
drawing = replace(model, clip=clip)                             # every pipeline knows the word
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from course_lib.common.checks import check_tensor, require
from course_lib.common.registry import short
from course_lib.models.text import PromptEncoder


class TextualInversion(PromptEncoder):
    """A PromptEncoder that knows one more word (Gal et al. 2022, §4.1); all else is frozen.

    word: as it is written in captions, such as "<toy>".
    start: a word of the tokenizer, whose vectors the new word's `vectors` (N, dim) start as; or
    those vectors. With N vectors, the word takes N tokens of a caption. ValueError for captions
    that are too long.

    >>> from course_lib.models import TextEncoder, Tokenizer
    >>> tokenizer = Tokenizer.train(["a red circle"], length=8)
    >>> clip = PromptEncoder(tokenizer, TextEncoder(len(tokenizer), length=8, dim=8))
    >>> new = TextualInversion(clip, "<toy>", start="circle")
    >>> torch.equal(new.context(["a red <toy>"]), clip.context(["a red circle"]))
    True
    """

    def __init__(self, clip: PromptEncoder, word: str, start: str | Tensor):
        super().__init__(clip.tokenizer, clip.text_encoder.requires_grad_(False))
        table = clip.text_encoder.token_embedding.weight  # (V, dim)
        if isinstance(start, str):
            start = table[clip.tokenizer.encode(start)[1:-1]]  # without the start and end of text
        check_tensor("start", start, ("N", table.shape[1]), table)
        self.word, self.vectors = word, nn.Parameter(start.detach().clone())

    def ids(self, captions: str | Sequence[str]) -> Tensor:
        captions = [captions] if isinstance(captions, str) else captions
        rows = [self.encode(caption) for caption in captions]
        device = self.vectors.device
        return torch.tensor(rows, dtype=torch.long, device=device).view(-1, self.tokenizer.length)

    def encode(self, caption: str) -> list[int]:
        """Ids of one caption, padded; the new word's are those after the vocabulary."""
        words, length = self.tokenizer, self.tokenizer.length
        vocab_size = self.text_encoder.vocab_size
        ids = [words.start]
        for i, piece in enumerate(words.without_final(caption).split(self.word)):
            words.check_words(piece)
            ids += range(vocab_size, vocab_size + len(self.vectors)) if i else []
            ids += words.bpe.encode(piece, add_special_tokens=False).ids
        ids.append(words.end)
        require(len(ids) <= length, short(caption), f"at most {length} tokens", len(ids))
        return ids + [words.end] * (length - len(ids))

    def context(self, captions: str | Sequence[str]) -> Tensor:
        """What the U-Net's cross-attention reads: (B, L, dim)."""
        table = torch.cat([self.text_encoder.token_embedding.weight, self.vectors])  # (V + N, dim)
        weights = {"token_embedding.weight": table}
        return functional_call(self.text_encoder, weights, (self.ids(captions),))
