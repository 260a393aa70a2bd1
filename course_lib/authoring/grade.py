"""`course grade`: a verdict on every exercise of every submission, with fresh cases.

A submission is code that nobody has read. It runs in a process of its own, in a sandbox that has
the student edition and no key (`attempts.py`, `sandbox.py`); what its answers make of inputs drawn
from the lecturer's seed comes back as plain data, and is judged here. What a submission says of
itself, its outputs or its own `check`, counts for nothing.
"""

import hashlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import torch

import course_lib.exercises  # noqa: F401  they register themselves
from course_lib.authoring import editions, sandbox
from course_lib.authoring.attempts import LENGTH
from course_lib.authoring.submissions import (
    Refused,
    answer_names,
    chapter_of,
    printable,
    read_bytes,
    read_cells,
    submissions,
)
from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import ROOT
from course_lib.teaching.check import EXERCISES, Attempt, exercises
from course_lib.teaching.plain import dumps, loads
from course_lib.teaching.predictions import Verdict

START_SECONDS = 120  # for Python and torch to be imported
MOST_DATA = 64 << 20  # bytes that a submission may send


@dataclass(frozen=True)
class Row:
    """The verdict on one exercise. exercise: "" where the notebook as a whole can't be graded."""

    student: str
    chapter: str
    exercise: str
    verdict: str
    misconception: str
    message: str


class Grader:
    """Grades submissions with one seed. confined: False runs them without a sandbox."""

    def __init__(self, seed: int, seconds: int = 180, confined: bool = True):
        self.seed, self.seconds, self.confined = seed, seconds, confined
        self.lock = threading.Lock()  # torch's random state is one for all threads
        self.folder = tempfile.TemporaryDirectory(prefix="course-grade-")
        self.names = answer_names()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()

    def grade(self, student: str, path: Path) -> list[Row]:
        """The verdicts on one notebook."""
        name = printable(path.name)
        try:
            cells = read_cells(path)
            chapter = chapter_of(path, cells)
        except Refused as why:
            return [Row(student, printable(path.stem), "", "unreadable", "", f"{name} {why}")]
        numbers = list(exercises(f"{chapter.removeprefix('0')}.1"))
        verdicts = self.verdicts(cells, numbers)
        return [Row(student, chapter, number, *verdicts[number]) for number in numbers]

    def verdicts(self, cells: Sequence[str], numbers: Sequence[str]) -> dict[str, tuple]:
        """Status, misconception and message for each exercise.

        An exercise that stops its process is judged so, and the rest go on in a new one.
        """
        found, left = {}, list(numbers)
        while left:
            current = None
            try:
                for number, frame in self.frames(cells, left):
                    current = number
                    if frame:
                        found[number] = self.judge(number, frame)
                        current = None
                left = [number for number in left if number not in found]
                if left:
                    raise Refused("its process ended early")
            except Refused as why:
                left = [number for number in left if number not in found]
                stopped = [current] if current else left
                found |= {number: ("stopped", "", f"{why}") for number in stopped}
                left = [number for number in left if number not in stopped]
        return found

    def judge(self, number: str, frame: Mapping[str, Any]) -> tuple[str, str, str]:
        """The verdict on what an answer did."""
        if frame.get("missing"):
            return "missing", "", f"no cell calls check({number!r}, ...)"
        exercise = EXERCISES[number]
        with self.lock, torch.random.fork_rng(devices=[]):
            try:
                inputs = exercise.inputs(self.seed)
                tried = frame["answer"] if "answer" in frame else attempt_of(frame["attempt"])
                verdict = exercise.judge(tried, inputs)
            except Exception as error:  # whatever a hostile answer may lead to
                verdict = Verdict("wrong", f": can't be judged ({type(error).__name__}).")
        return verdict.status, verdict.misconception or "", one_line(verdict.message)

    def frames(
        self, cells: Sequence[str], numbers: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Run the submission: a number alone as it begins an exercise, then what came of it."""
        with self.lock, torch.random.fork_rng(devices=[]):
            inputs = {number: EXERCISES[number].inputs(self.seed) for number in numbers}
            course = self.student_edition()
        task = {"cells": list(cells), "inputs": inputs, "names": self.names}
        with tempfile.TemporaryDirectory(dir=self.folder.name) as folder:
            file = Path(folder, "task")
            file.write_bytes(dumps(task, objects=True))
            file.chmod(0o644)
            process = self.start(course, file, len(numbers))
            try:
                yield from self.received(process, numbers)
            finally:
                sandbox.stop(process)

    def start(self, course: Path, file: Path, count: int) -> subprocess.Popen:
        at = ("/course", "/task") if self.confined else (str(course), str(file))
        return sandbox.start(
            [sys.executable, "-m", "course_lib.authoring.attempts", at[1]],
            readable={"/course": course, "/task": file},
            hidden=[each for path in sys.path for each in Path(path).glob("course_lib*")],
            cpu_seconds=START_SECONDS + self.seconds * count,
            environment={"PYTHONPATH": at[0], "OMP_NUM_THREADS": "1", "USER": "student"},
            confined=self.confined,
        )

    def received(
        self, process: subprocess.Popen, numbers: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The frames that the process sends; Refused for anything else, or after too long."""
        data, total, number = bytearray(), 0, None
        deadline = time.monotonic() + START_SECONDS
        waiting = list(numbers)
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([process.stdout], [], [], left)[0]:
                raise Refused(f"it ran longer than {self.seconds if number else START_SECONDS} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            data += chunk
            total += len(chunk)
            if total > MOST_DATA:
                raise Refused(f"its results are larger than {MOST_DATA >> 20} MB")
            while len(data) >= LENGTH.size:
                end = LENGTH.size + LENGTH.unpack_from(data)[0]
                if len(data) < end:
                    break
                frame = read_frame(bytes(data[LENGTH.size : end]))
                del data[:end]
                begins = frame.keys() == {"number"}
                if not waiting or frame["number"] != waiting[0] or begins != (number is None):
                    raise Refused("it sent something that is no result")
                number = waiting[0] if begins else None
                deadline = time.monotonic() + (self.seconds if begins else START_SECONDS)
                yield waiting[0], {} if begins else frame
                waiting = waiting if begins else waiting[1:]

    def student_edition(self) -> Path:
        """The package that submissions run with; made once."""
        folder = Path(self.folder.name, "course")
        if not folder.exists():
            editions.student(folder)
            for path in [folder, *folder.rglob("*")]:  # whatever the lecturer's umask is
                path.chmod(0o755 if path.is_dir() else 0o644)
        return folder


# ---- reading what a process sends --------------------------------------------------------------


def read_frame(data: bytes) -> dict[str, Any]:
    try:
        frame = loads(data)
        frame["number"]
    except (ValueError, KeyError, TypeError):
        raise Refused("it sent something that is no result") from None
    return frame


def attempt_of(data: Mapping[str, Any]) -> Attempt:
    """What came of an answer. A process can't call itself right: a fault is never that."""
    fault = data["fault"]
    if fault:
        status = "not attempted" if fault["status"] == "not attempted" else "wrong"
        fault = Verdict(status, str(fault["message"]))
    texts = (data["body"], data["mistake"])
    body, mistake = (each if isinstance(each, str) else None for each in texts)
    return Attempt(data["outcome"], body, mistake, fault)


def one_line(text: str, most: int = 300) -> str:
    """A message without what joins it to its verdict.

    >>> one_line(" yet. Replace the gap."), one_line(", not (a). That is rare.")
    ('Replace the gap.', 'not (a). That is rare.')
    """
    return re.sub(r"^(?:yet)?[.:,]? *", "", printable(text))[:most]


# ---- all submissions ---------------------------------------------------------------------------


def grade(
    folder: Path,
    seed: int,
    cache: Path,
    jobs: int = 2,
    seconds: int = 180,
    confined: bool = True,
) -> Iterator[list[Row]]:
    """The rows of one submission after the other, in order.

    cache: a file with the rows of earlier gradings; a submission that has not changed since, nor
    have the course and the seed, is not run again.
    """
    known = read_cache(cache)
    rules = f"{course_digest()} {seed} {seconds}"
    pairs = submissions(folder)
    with Grader(seed, seconds, confined) as grader, ThreadPoolExecutor(jobs) as pool:

        def rows(pair: tuple[str, Path]) -> list[Row]:
            student, path = pair
            digest = hashlib.sha256(rules.encode() + b"\0" + read_bytes(path)).hexdigest()
            if digest not in known:
                known[digest] = [astuple(row)[1:] for row in grader.grade(student, path)]
            return [Row(student, *each) for each in known[digest]]

        try:
            yield from pool.map(rows, pairs)
        finally:
            pool.shutdown(cancel_futures=True)
            make_folder(cache.parent)
            write_files({cache: json.dumps(known).encode()})


def read_cache(cache: Path) -> dict[str, list]:
    try:
        return dict(json.loads(cache.read_bytes()))
    except (OSError, ValueError):
        return {}


def course_digest() -> str:
    """A hash of the course's code."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted((ROOT / "course_lib").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as a table that a spreadsheet opens, and takes no text for a formula."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row.__dataclass_fields__)
    for row in rows:
        writer.writerow(f"'{v}" if v[:1] in "=+-@" and v else v for v in asdict(row).values())
    return text.getvalue()
