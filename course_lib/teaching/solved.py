"""Which exercises this reader has solved: one small file, theirs alone, that nothing depends on.

It is `data/progress.json`, which git ignores, or the file that COURSE_PROGRESS names. A reader
without it has solved nothing yet; one that is damaged or cannot be written costs one line of text
and is left as it is.
"""

import json
import linecache
import re
from types import FrameType

from IPython.core.getipython import get_ipython

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import PROGRESS

ADVICE = "`course progress --reset` starts a new one"


def solved() -> set[str]:
    """The numbers of the exercises solved so far; ValueError in one line for a damaged file."""
    try:
        numbers = json.loads(PROGRESS.read_text("utf-8"))["solved"]
        if not all(re.fullmatch(r"\d+\.\d+", number) for number in numbers):
            raise ValueError
        return set(numbers)
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{PROGRESS.name} is damaged: {ADVICE}") from None


def record(number: str) -> str:
    """Keep that the exercise is solved; '' or, where that could not be kept, why in one line."""
    try:
        before = solved()
        if number not in before:
            write(before | {number})
    except (ValueError, OSError) as error:
        return f"Your progress is not kept: {' '.join(str(error).split())}."
    return ""


def write(numbers: set[str]) -> None:
    ordered = sorted(numbers, key=lambda number: [int(n) for n in number.split(".")])
    make_folder(PROGRESS.parent)
    write_files({PROGRESS: (json.dumps({"solved": ordered}) + "\n").encode()})


def forget() -> None:
    """Begin anew: the file is removed, damaged or not."""
    PROGRESS.unlink(missing_ok=True)


def readers_own(cell: FrameType) -> bool:
    """Whether this frame runs a notebook's cell that the reader wrote: no solution, no script."""
    first = linecache.getline(cell.f_code.co_filename, 1)  # IPython keeps each cell's source there
    return get_ipython() is not None and not first.startswith("# Solution")
