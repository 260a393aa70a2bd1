"""Text that a user typed, on a figure: in fonts that have its letters, or else with a note."""

import re
import unicodedata
from functools import cache

from matplotlib import rcParams
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font

JOINERS = "\u200d\ufe0f"  # between the parts of an emoji


def drawable(text: str) -> str:
    """The text, with a note for characters without a font: "a [no font for 2 characters]"."""
    text = "".join(" " if letter.isspace() else letter for letter in text)
    missing = {letter for letter in text if font_for(letter) is None}
    hidden = {letter for letter in missing if unicodedata.category(letter) in ("Cf", "Mn")}
    text = "".join(letter for letter in text if letter not in hidden)  # they only join others
    if not (missing := missing - hidden):
        return text

    def note(found: re.Match) -> str:
        count = sum(letter in missing for letter in found.group())
        return f"[no font for {count} character{'s' * (count > 1)}]"

    some = "[" + "".join(map(re.escape, missing)) + "]"
    return re.sub(f"{some}(?:[ {JOINERS}]*{some})*", note, text)


def families(text: str) -> list[str]:
    """matplotlib's default fonts, then fonts for the letters that those don't have."""
    others = {name for letter in set(text) if (name := font_for(letter))}
    return [*rcParams["font.family"], *sorted(others)]


def columns(text: str) -> int:
    """The width of a line in letters of normal width: 猫 and emoji count as two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


@cache
def font_for(letter: str) -> str | None:
    """The name of a font that has this letter; "" is the default font, None means no font."""
    code = ord(letter)
    if code in letters(findfont(FontProperties())):
        return ""
    named = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal"}
    fits = (name for name, path in sorted(named.items()) if code in letters(path))
    return next((name for name in fits if "Last Resort" not in name and inks(name, code)), None)


@cache
def letters(path: str) -> frozenset[int]:
    """The code points that a font maps to glyphs."""
    return frozenset(get_font(path).get_charmap())


def inks(name: str, code: int) -> bool:
    """Whether the font has an outline for it; in fonts of coloured emoji all outlines are empty."""
    try:
        return FT2Font(findfont(FontProperties(family=name))).load_char(code).width > 0
    except RuntimeError:  # FreeType can't load it
        return False
