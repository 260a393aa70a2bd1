"""Run inside a student edition: does its `check` judge as the full edition's exercises do?

    PYTHONPATH=EDITION python compare_editions.py FULL_EXERCISES_FOLDER [--capstones]

Prints a line for each difference, and the number of verdicts compared last. The full edition's
modules are read from their files, so that both can be asked in one process.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import course_lib.exercises  # noqa: F401  the edition's own register themselves
from course_lib.teaching.check import EXERCISES, Choice, Code, Number, Target


def stub(*case): ...


def half_done(*case):
    return 1 + ...


def unheard_of(*case):
    return 0.123


def answers(exercise):
    """Answers of every kind to an exercise."""
    match exercise:
        case Choice():
            return [*exercise.why, "z", ..., None, f"({exercise.right.upper()})"]
        case Number():
            wrong = [number for number, _ in exercise.misconceptions.values()]
            near = [exercise.right * (1 + share * exercise.within) for share in (-0.9, 0.9)]
            return [exercise.right, *near, *wrong, "many", ..., -exercise.right, 0]
        case Code():
            given = [exercise.given] * (exercise.given is not None)
            return [
                exercise.reference,
                *exercise.misconceptions,
                *given,
                stub,
                half_done,
                unheard_of,
                7,
            ]
        case Target():
            trains = "--capstones" in sys.argv
            return [stub, half_done, unheard_of, 7] + [exercise.reference] * trains


def load(path):
    spec = spec_from_file_location(f"full_{path.stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compared = 0
for path in sorted(Path(sys.argv[1]).glob("[a-z]*.py")):
    for number, full in load(path).EXERCISES.items():
        for answer in answers(full):
            ours, theirs = EXERCISES[number].examine(answer), full.examine(answer)
            compared += 1
            if "is too small" in theirs.message or "is too large" in theirs.message:
                same = ours.status == theirs.status  # which side would give the number away
            else:
                same = ours == theirs
            if not same:
                print(number, answer, ours, theirs, sep="\n    ")
print(compared)
