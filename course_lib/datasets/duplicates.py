"""Copies among a reader's pictures, and a held-out tenth that has none of them.

A picture that was trained on proves nothing when it is drawn again, and neither does a copy of it:
saved again, made smaller, or with another exposure. So copies are found first, and then held out
or trained on together.

Two pictures are near duplicates if their thumbnails x and y, of 16 × 16 pixels, are nearly equal:

    2 x·y / (x·x + y·y) > 0.98

where each channel's mean has been subtracted, so that a cast of colour alone makes no two pictures
alike. It is 1 for equal thumbnails only, and less the more they differ in shape or in contrast
(the concordance of Lin 1989, without its term for the means). The limit comes from a measurement
(`tests/datasets/test_duplicates.py`): of 766 emoji and 200 squares of photographs, saved at half
the size as a JPEG of quality 75, all copies but one are above it. Of all pairs of different emoji
by the same studio a single one is: a woman who frowns and a woman who pouts. Copies that are
mirrored, cropped or much brighter are not found.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

NEAR = 0.98  # similarity
SIDE = 16  # pixels of a thumbnail


def checksums(pixels: Tensor) -> list[str]:
    """One for each picture of (N, 3, H, W) uint8: the same for the same pixels."""
    return [hashlib.sha256(picture.numpy().tobytes()).hexdigest() for picture in pixels]


def thumbnails(pixels: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 768): 16 × 16 pixels without the mean of each channel."""
    parts = [F.adaptive_avg_pool2d(part.float(), SIDE) for part in pixels.split(1000)]
    x = torch.cat(parts).flatten(2)  # (N, 3, 256)
    return (x - x.mean(2, keepdim=True)).flatten(1)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Of all pairs of thumbnails, (N, D) and (M, D): (N, M), at most 1."""
    squares = x.square().sum(1)[:, None] + y.square().sum(1)  # (N, M)
    return 2 * x @ y.T / (squares + SIDE**2)  # pictures of nearly one colour are like no other


def near_duplicates(pixels: Tensor, limit: float = NEAR) -> np.ndarray:
    """The group of each picture, (N,): copies, and copies of copies, are in the same group.

    Groups are numbered from 0. A picture without a copy is a group of its own. Pictures of a
    single colour are copies only if all their pixels are equal.

    >>> pixels = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    >>> pixels[1] = 9
    >>> near_duplicates(pixels).tolist()
    [0, 1, 0]
    """
    x = thumbnails(pixels)
    group = np.unique(checksums(pixels), return_inverse=True)[1]
    everyone = np.arange(len(x))
    for start in range(0, len(x), 256):
        i, j = np.nonzero((similarity(x[start : start + 256], x) > limit).numpy())
        first = np.unique(group, return_index=True)[1][group]  # the first picture of its group
        i, j = np.append(i + start, everyone), np.append(j, first)
        links = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(x), len(x)))
        group = connected_components(links, directed=False)[1]
    return group


def held_out(group: Sequence[int], keys: Sequence[str]) -> np.ndarray:
    """Whether each picture is held out, (N,): at most a tenth of them, in whole groups.

    Of fewer than 20 pictures none is, because a mean over a single one has no spread.
    Groups are taken in the order of their smallest key. Checksums as keys are as good as random
    numbers, and give the same tenth whatever the files are called and however they are sorted.

    >>> held_out([0, 0, 0, *range(1, 20)], list("abcdefghijklmnopqrstuv")).nonzero()
    (array([3, 4]),)
    """
    group = np.asarray(group)
    room = len(group) // 10 if len(group) >= 20 else 0
    chosen = np.zeros(len(group), bool)
    for number in dict.fromkeys(group[np.argsort(keys)].tolist()):
        members = group == number
        if members.sum() <= room:
            chosen |= members
            room -= members.sum()
        if not room:
            break
    return chosen
