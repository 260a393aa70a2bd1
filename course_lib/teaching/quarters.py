"""Chapter 07's toy task: each colour must appear in the quarter that the caption says.

A picture has four quarters, each in one of six colours, and its caption lists them in any order:
"red upper left, blue lower right, ...". There is no noise and no time, only words, a block, and a
picture.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.scenes.grammar import COLOURS

NAMES = ["red", "yellow", "green", "blue", "black", "white"]
QUARTERS = ["upper left", "upper right", "lower left", "lower right"]
WORDS = NAMES + QUARTERS  # a word's id is its place in this list
RGB = 2 * torch.tensor([COLOURS[name] for name in NAMES]) - 1  # (6, 3) in [-1, 1]


def examples(count: int, named: int = 4, seed: int | torch.Generator = 7) -> tuple[Tensor, Tensor]:
    """Captions (B, 2·named) as ids, colour, quarter, colour, quarter, ..., and their pictures.

    Pictures are (B, 3, 6, 6) in [-1, 1], grey in the quarters that the caption doesn't mention.

    >>> ids, pictures = examples(500, named=2)
    >>> ids.shape, pictures.shape
    (torch.Size([500, 4]), torch.Size([500, 3, 6, 6]))
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    quarter = torch.rand(count, 4, generator=generator).argsort(1)[:, :named]  # in any order
    colour = torch.randint(len(NAMES), (count, named), generator=generator)
    picture = torch.zeros(count, 4, 3)
    picture.scatter_(1, quarter[..., None].expand(-1, -1, 3), RGB[colour])
    picture = picture.unflatten(1, (2, 2)).permute(0, 3, 1, 2)  # (B, 3, 2, 2)
    ids = torch.stack([colour, quarter + len(NAMES)], 2).flatten(1)
    return ids, F.interpolate(picture, (6, 6))


def caption_of(ids: Tensor) -> str:
    """The caption with these ids (2·named,) in words.

    >>> caption_of(torch.tensor([0, 6, 3, 9]))
    'red upper left, blue lower right'
    """
    words = [WORDS[i] for i in ids.tolist()]
    return ", ".join(map(" ".join, zip(words[::2], words[1::2], strict=True)))


class ToyModel(nn.Module):
    """Words in, a picture out. `make` builds the block in between: block(x, time, context).

    previous: each word's vector also contains the previous word, as a causal text encoder could
    learn to do. Without it, the context is a bag of words.
    pooled: the block gets the mean of all words' vectors, one token.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        previous: bool = True,
        pooled: bool = False,
        width: int = 32,
    ):
        super().__init__()
        self.block, self.pooled = make(), pooled
        self.word = nn.Embedding(len(WORDS), width)
        self.previous = nn.Embedding(len(WORDS) + 1, width) if previous else None
        self.position = nn.Parameter(torch.randn(1, width, 6, 6))  # the only input of a pixel
        self.to_rgb = nn.Conv2d(width, 3, 1)

    def context(self, ids: Tensor) -> Tensor:
        context = self.word(ids)  # (B, L, width)
        if self.previous is not None:
            context = context + self.previous(F.pad(ids[:, :-1], (1, 0), value=len(WORDS)))
        return context

    def forward(self, ids: Tensor, context: Tensor | None = None) -> Tensor:
        context = self.context(ids) if context is None else context
        context = context.mean(1, keepdim=True) if self.pooled else context
        x = self.position.expand(len(ids), -1, -1, -1)  # (B, width, 6, 6), the same for all
        return self.to_rgb(self.block(x, x.new_zeros(len(ids), 4), context))  # (B, 3, 6, 6)


def train(
    make: Callable[[], nn.Module],
    previous: bool = True,
    pooled: bool = False,
    named: int = 4,
    seed: int = 0,
    steps: int = 150,
) -> tuple[ToyModel, list[float]]:
    """A trained model, and its mean squared error at each step as a share of the variance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, generator = ToyModel(make, previous, pooled), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    variance, curve = examples(500, named)[1].var(0).mean(), []
    for _ in range(steps):
        ids, pictures = examples(32, named, generator)
        loss = (model(ids) - pictures).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        curve.append((loss / variance).item())
    return model.eval(), curve


@torch.no_grad()
def residual(model: nn.Module, named: int = 4, count: int = 500) -> float:
    """The mean squared error on new examples as a share of their variance: 1 is the mean picture.

    >>> residual(lambda ids: examples(500)[1])
    0.0
    """
    ids, pictures = examples(count, named)
    return ((model(ids) - pictures).square().mean() / pictures.var(0).mean()).item()
