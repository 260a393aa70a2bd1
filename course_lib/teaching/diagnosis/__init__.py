"""What is wrong with a training? Checks of its folder, its code and its samples: chapter 18.

    for finding in diagnose("outputs/mine", code):
        print(finding)

finding      one check: a number and the interval of sound runs
calls        what the reader's loss and sampler pass to the network
evidence     what a run shows
checks       the measurements, one for each mistake
confusion    how often they are right, on recorded runs
"""

from course_lib.teaching.diagnosis import checks
from course_lib.teaching.diagnosis.calls import recorded_calls, regression_target
from course_lib.teaching.diagnosis.checks import CHECKS
from course_lib.teaching.diagnosis.confusion import FOLDER_ALONE, confusion, named, rates
from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import (
    FINE,
    NOT_VISIBLE,
    VERDICTS,
    WRONG,
    Check,
    Finding,
    NotVisible,
)


def diagnose(evidence: Evidence) -> list[Finding]:
    """What every check finds, in the order of cause and effect."""
    return [check(evidence) for check in CHECKS.values()]


__all__ = [
    "CHECKS",
    "FINE",
    "FOLDER_ALONE",
    "NOT_VISIBLE",
    "VERDICTS",
    "WRONG",
    "Check",
    "Evidence",
    "Finding",
    "NotVisible",
    "checks",
    "confusion",
    "diagnose",
    "named",
    "rates",
    "recorded_calls",
    "regression_target",
]
