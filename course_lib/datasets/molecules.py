"""Small drug-like molecules as SMILES, put together by a script of the course's own.

    smiles, properties = molecules("train")        # logP, QED, weight: (N, 3)
    ids = encode(smiles)                           # (N, 20)

A SMILES writes a molecule as a line: letters are atoms (small ones are aromatic), brackets are
branches, and a pair of equal digits closes a ring. Its tokens are pieces that often occur, such as
`c1ccccc1`. `data/molecules/README.md` says where the molecules and the tokens come from; nothing
here needs RDKit.
"""

import gzip
import re
from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor

from course_lib.common.checks import WHOLE, require
from course_lib.common.paths import ROOT
from course_lib.common.registry import choose

FOLDER = ROOT / "data" / "molecules"
FILE, TOKENS_FILE = FOLDER / "molecules.tsv.gz", FOLDER / "tokens.txt"
TEST_EVERY = 10
END = ""  # fills a sequence up to its length
TOKENS = [END, *TOKENS_FILE.read_text("utf-8").split()]
MASK = len(TOKENS)  # the id of a masked token
LENGTH = 20
LONGEST_FIRST = map(re.escape, sorted(TOKENS[1:], key=len, reverse=True))
PIECE = re.compile(f"(?:{'|'.join(LONGEST_FIRST)})(?!l)|.")  # none ends in the middle of Cl
PROPERTIES = ("logP", "QED", "weight")


def molecules(split: str | None = None) -> tuple[list[str], Tensor]:
    """SMILES, and logP, QED and weight of each (N, 3), as RDKit computed them.

    split: "train", "test" (each tenth), or None for all. ValueError for another.

    >>> smiles, properties = molecules("test")
    >>> len(smiles), properties.shape
    (4000, torch.Size([4000, 3]))
    """
    lines = gzip.decompress(FILE.read_bytes()).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    held_out = range(TEST_EVERY - 1, len(rows), TEST_EVERY)
    train = [i for i in range(len(rows)) if i not in held_out]
    kept = {"train": train, "test": held_out, None: range(len(rows))}
    if split is not None:
        choose("split", split, {name: name for name in kept if name})
    rows = [rows[i] for i in kept[split]]
    properties = torch.tensor([[float(number) for number in row[1:]] for row in rows])
    return [row[0] for row in rows], properties


def pieces(smiles: str) -> list[str]:
    """A SMILES cut into tokens: from the left, always the longest that fits.

    >>> pieces("Clc1ccccc1O")
    ['Cl', 'c1ccccc1', 'O']
    """
    return PIECE.findall(smiles)


def encode(smiles: Sequence[str], length: int = LENGTH) -> Tensor:
    """Token ids, filled up with ends: (N, length). ValueError for what has no place there.

    >>> decode(encode(["CCO", "c1ccccc1"], length=5))
    ['CCO', 'c1ccccc1']
    """
    place = {token: i for i, token in enumerate(TOKENS)}
    rows = [pieces(each) for each in smiles]
    for each, row in zip(smiles, rows, strict=True):
        require(len(row) <= length, f"SMILES {each!r}", f"at most {length} tokens", len(row))
        unknown = [token for token in row if token not in place]
        require(not unknown, f"SMILES {each!r}", "tokens of the training molecules", unknown)
    filled = [row + [END] * (length - len(row)) for row in rows]
    return torch.tensor([[place[token] for token in row] for row in filled])


def decode(ids: Tensor) -> list[str]:
    """The SMILES of ids (N, L), each up to its first end; "?" for a mask.

    >>> decode(torch.tensor([[TOKENS.index("C"), MASK, TOKENS.index("O"), 0, 1]]))
    ['C?O']
    """
    fits = ids.dim() == 2 and ids.dtype in WHOLE and ((ids >= 0) & (ids <= MASK)).all()
    require(fits, "ids", f"token ids (N, L), from 0 to {MASK}", ids)
    names = [*TOKENS, "?"]
    rows = [takewhile(bool, row) for row in ids.tolist()]
    return ["".join(names[i] for i in row) for row in rows]
