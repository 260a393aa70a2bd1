"""Which exercises this reader has solved, in one small file that nothing else depends on.

The file is `data/progress.json`, which git ignores, or the file COURSE_PROGRESS. If there is none,
nothing is solved yet. If it is damaged or can't be written, the reader gets a one-line message, and
the file stays unchanged.
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
    """The numbers of the exercises solved so far; ValueError in one line if the file is damaged."""
    try:
        numbers = json.loads(PROGRESS.read_text("utf-8"))["solved"]
        if not all(re.fullmatch(r"\d+[a-z]?\.\d+", number) for number in numbers):
            raise ValueError
        return set(numbers)
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{PROGRESS.name} is damaged: {ADVICE}") from None


def record(number: str) -> str:
    """Save that the exercise is solved; '', or why that failed, in one line."""
    try:
        before = solved()
        if number not in before:
            write(before | {number})
    except (ValueError, OSError) as error:
        return f"Your progress is not saved: {' '.join(str(error).split())}."
    return ""


def write(numbers: set[str]) -> None:
    make_folder(PROGRESS.parent)
    write_files({PROGRESS: (json.dumps({"solved": sorted(numbers, key=_place)}) + "\n").encode()})


def _place(number: str) -> tuple[int, str, int]:
    """An exercise's place in the course, to sort "9.2" before "15a.1"."""
    chapter, exercise = number.split(".")
    return int(re.match(r"\d+", chapter)[0]), chapter, int(exercise)


def reset_progress() -> None:
    """Start over: remove the file, damaged or not."""
    PROGRESS.unlink(missing_ok=True)


def readers_own(cell: FrameType) -> bool:
    """Whether this frame runs a cell that the reader wrote, not a solution and not a script."""
    first = linecache.getline(cell.f_code.co_filename, 1)  # IPython stores each cell's source there
    return get_ipython() is not None and not first.startswith("# Solution")
