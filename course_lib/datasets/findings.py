"""What `check_folder` says about pictures and captions, one line for each finding."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image

from course_lib.datasets.duplicates import NEAR, held_out

FEW = 200  # pictures


class Finding(NamedTuple):
    """One line about a folder: "fact", "note" or "fix"; what was found; the files that it is about.

    >>> print(Finding("note", "enlarged: 2 pictures", ["cat.png", "dog.png"]))
    note: enlarged: 2 pictures: cat.png; dog.png
    """

    kind: str
    text: str
    names: Sequence[str] = ()

    def line(self, most: int | None = 5) -> str:
        """The finding with at most so many names; None for all of them."""
        names = [shown(name, 200) for name in self.names[:most]]
        if len(self.names) > len(names):
            names.append(f"and {len(self.names) - len(names)} more")
        label = "" if self.kind == "fact" else f"{self.kind}: "
        return label + self.text + (f": {'; '.join(names)}" if names else "")

    def __str__(self) -> str:
        return self.line()


class Picture(NamedTuple):
    """What the check keeps of a picture: upright width and height, and pixels (size, size, 3)."""

    name: str
    caption: str
    width: int
    height: int
    colours: str
    transparent: bool
    turned: bool
    animated: bool
    pixels: np.ndarray


def about_files(pictures: list[Picture], size: int) -> Iterator[Finding]:
    """Sizes, shapes and colours, and what training makes of them."""
    yield Finding("fact", f"pictures: {len(pictures)}, each with a caption")
    if len(pictures) < FEW:
        text = f"few pictures: with fewer than {FEW}, a model soon knows them by heart; add more"
        yield Finding("note", text)
    areas = sorted((p.width * p.height, f"{p.width} × {p.height}") for p in pictures)
    ratios = [p.width / p.height for p in pictures]
    text = f"sizes: {areas[0][1]} to {areas[-1][1]} pixels; training sees {size} × {size}"
    yield Finding("fact", f"{text}; width / height: {min(ratios):.2f} to {max(ratios):.2f}")
    colours = Counter(p.colours for p in pictures).most_common()
    yield Finding("fact", f"colours: {', '.join(f'{n} {name}' for name, n in colours)}")
    for kind, text, applies in traits(size):
        if names := [p.name for p in pictures if applies(p)]:
            text = text.format(some(names, "picture"))
            yield Finding(kind, text, names if kind == "note" else ())


def traits(size: int) -> list[tuple[str, str, Callable[[Picture], bool]]]:
    """(kind, text, whether it applies to a picture)."""
    most = Image.MAX_IMAGE_PIXELS  # from here on Pillow warns, and at twice as many it refuses
    cut = "cut off: {} with over a third outside the middle square; crop them where it matters"
    small = f"enlarged: {{}} with a side under {size} pixels; use larger ones if you can"
    huge = f"huge: {{}} of over {most / 1e6:.0f} megapixels; make smaller copies of them"
    return [
        ("fact", "transparent: {}; white is put behind", lambda p: p.transparent),
        ("fact", "turned: {}; made upright, as the EXIF data says", lambda p: p.turned),
        ("fact", "not square: {}; training sees the middle", lambda p: p.width != p.height),
        ("note", cut, lambda p: 3 * min(p.width, p.height) < 2 * max(p.width, p.height)),
        ("note", small, lambda p: min(p.width, p.height) < size),
        ("note", "several frames: {}; training sees the first", lambda p: p.animated),
        ("note", huge, lambda p: p.width * p.height > most),
    ]


def about_captions(pictures: list[Picture], tokenizer) -> Iterator[Finding]:
    """Lengths, words, and captions that say the same about many pictures."""
    captions = [p.caption for p in pictures]
    words = [words_of(caption) for caption in captions]
    lengths = list(map(len, words))
    mean = sum(lengths) / len(lengths)
    text = f"captions: {min(lengths)} to {max(lengths)} words, {mean:.1f} on average"
    yield Finding("fact", f"{text}; {len(set(captions))} different captions")
    counts = Counter(chain(*words))
    once = [word for word, n in counts.items() if n == 1]
    yield Finding("fact", f"words: {len(counts)} different ones; {len(once)} occur only once", once)
    common, often = Counter(captions).most_common(1)[0]
    if often > max(1, len(captions) / 10):
        text = f"one caption for many: {often} pictures have {shown(common)!r}; say what differs"
        yield Finding("note", text)
    if tokenizer:
        yield from about_tokens(pictures, tokenizer([*captions]))


def about_tokens(pictures: list[Picture], tokenizer) -> Iterator[Finding]:
    counts = [tokenizer.count(p.caption) for p in pictures]
    text = f"tokens: {min(counts)} to {max(counts)} in a caption, with its start and end"
    yield Finding("fact", f"{text}; the model reads {tokenizer.length}")
    pairs = zip(pictures, counts, strict=True)
    if names := [f"{p.name} ({n} tokens)" for p, n in pairs if n > tokenizer.length]:
        text = f"too long: {some(names, 'caption')} of over {tokenizer.length} tokens to shorten"
        yield Finding("fix", text, names)


def about_copies(pictures: list[Picture], group: Sequence[int], sums: list[str]):
    """Exact copies and near duplicates."""
    exact = together(sums)
    near = [which for which in together(group) if len({sums[i] for i in which}) > 1]
    if exact:
        names = [" = ".join(pictures[i].name for i in which) for which in exact]
        extra = sum(len(which) - 1 for which in exact)
        text = f"exact copies: {extra} of other pictures; delete them, or training sees these more"
        yield Finding("note", text, names)
    if near:
        names = [" ~ ".join(pictures[i].name for i in which) for which in near]
        text = f"near duplicates: {sum(map(len, near))} pictures in {some(near, 'group')}"
        yield Finding("note", f"{text} (similarity above {NEAR}); keep the best of each", names)
    if names := [
        " / ".join(f"{pictures[i].name} {shown(pictures[i].caption)!r}" for i in which)
        for which in exact
        if len({pictures[i].caption for i in which}) > 1
    ]:
        yield Finding("note", "copies with different captions; fine if each of them is true", names)


def about_split(pictures: list[Picture], group: Sequence[int], sums: list[str]):
    """What is held out, and its words that training doesn't see."""
    out = held_out(group, sums)
    if not out.any():
        yield Finding("note", "split: nothing is held out, so evaluation uses training pictures")
        return
    text = f"split: {(~out).sum()} pictures to train on, {out.sum()} held out"
    yield Finding("fact", f"{text}; copies are on the same side")
    sides = {True: set(), False: set()}
    for picture, side in zip(pictures, out.tolist(), strict=True):
        sides[side].update(words_of(picture.caption))
    if new := sorted(sides[True] - sides[False]):
        text = f"words of held-out captions alone: {len(new)}; training can't teach them"
        yield Finding("note", text, new)


# --- words --------------------------------------------------------------------------------------


def words_of(caption: str) -> list[str]:
    """The words of a caption in lower case, without numbers and punctuation."""
    return re.findall(r"[^\W\d_]+", caption.lower())


def together(keys: Sequence) -> list[list[int]]:
    """The numbers of pictures with the same key, for each key that has several."""
    places = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    return [which for which in places.values() if len(which) > 1]


def some(things: Sequence, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def shown(text: str, most: int = 90) -> str:
    """On one line, without what a terminal would take for a command."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"
