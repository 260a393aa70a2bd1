"""The exercises: right answers and known misconceptions, one module for each chapter.

    from course_lib.exercises import check

A module `ch07.py` holds `EXERCISES = {"7.1": Code(...), "7.2": Choice(...), ...}`. Importing this
package registers all of them with `teaching.check`.
"""

from importlib import import_module
from pkgutil import iter_modules

from course_lib.teaching.check import EXERCISES, check
from course_lib.teaching.progress import progress

for module in iter_modules(__path__):
    EXERCISES.update(import_module(f"{__name__}.{module.name}").EXERCISES)

__all__ = ["check", "progress"]
