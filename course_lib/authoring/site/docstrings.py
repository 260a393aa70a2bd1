"""Our docstrings are plain text; Sphinx reads reStructuredText. This translates them.

Examples stay as they are. A parameter's line, "name: what it is", becomes an item of a list, an
indented or aligned block is shown as it stands, and everything else is a paragraph.
"""

import re
import textwrap
from collections.abc import Collection, Iterator

CODE = re.compile(r"`([^`]+)`")
MARKS = re.compile(r"([\\*_|])")  # that reStructuredText would take for markup
PARAMETER = re.compile(r"(\w+(?:, \w+)*):\s+(.+)")
ALIGNED = re.compile(r"\S {2,}\S")


def as_rst(lines: list[str], parameters: Collection[str] = ()) -> list[str]:
    """The docstring's lines as reStructuredText; `parameters` are the names it may explain.

    >>> as_rst(["Half of x.", "", "x: a number", "   above 0"], ["x"])
    ['Half of x.', '', '- **x**: a number above 0', '']
    """
    blocks = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    return [line for block in blocks for line in _block(block.split("\n"), parameters)]


def _block(lines: list[str], parameters: Collection[str]) -> Iterator[str]:
    if lines[0].lstrip().startswith(">>>"):
        yield from textwrap.dedent("\n".join(lines)).split("\n")
        yield ""
    elif all(line.startswith("    ") for line in lines):
        yield from ["::", "", *lines, ""]
    elif _is_table(lines, parameters):
        yield from [".. code-block:: text", "", *("    " + line for line in lines), ""]
    else:
        for item in _items(lines, parameters):
            yield from [item, ""]


def _is_table(lines: list[str], parameters: Collection[str]) -> bool:
    """Two columns that spaces align; a list of parameters is not one."""
    aligned = [line for line in lines if ALIGNED.search(line)]
    return len(aligned) > 1 and not any(_explained(line, parameters) for line in lines)


def _explained(line: str, parameters: Collection[str]) -> re.Match | None:
    """The line as names and text, if it explains parameters."""
    found = PARAMETER.fullmatch(line)
    return found if found and set(found[1].split(", ")) <= set(parameters) else None


def _items(lines: list[str], parameters: Collection[str]) -> list[str]:
    """Paragraphs and items of lists, each on one line."""
    items: list[str] = []
    for line in lines:
        in_list = bool(items) and items[-1].startswith("- ")
        if found := _explained(line, parameters):
            names = ", ".join(f"**{name}**" for name in found[1].split(", "))
            items.append(f"- {names}: {found[2]}")
        elif line.startswith("- "):
            items.append(line)
        elif items and (line.startswith(" ") or not in_list):
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    return [_inline(item) for item in items]


def _inline(text: str) -> str:
    """`code` with two backticks; the rest without markup, except for a parameter's name.

    >>> _inline("x_t of `x_t`s")
    'x\\\\_t of ``x_t``\\\\ s'
    """
    marked = re.match(r"- (\*\*.+?\*\*: )?", text)
    start = marked[0] if marked else ""
    pieces = CODE.split(text[len(start) :])
    for i, piece in enumerate(pieces):
        after = pieces[i + 1][:1] if i + 1 < len(pieces) else ""
        before = pieces[i - 1][-1:] if i else ""
        if i % 2 == 0:
            pieces[i] = MARKS.sub(r"\\\1", piece)
        else:
            glued = before.isalnum(), after.isalnum()
            pieces[i] = "\\ " * glued[0] + f"``{piece}``" + "\\ " * glued[1]
    return start + "".join(pieces)
