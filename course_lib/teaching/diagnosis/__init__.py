"""What is wrong with a training? Checks of its folder, its code and its samples: chapter 18.

    for finding in diagnose("outputs/mine", code):
        print(finding)

finding      one check: a number and the interval of sound runs
listen       what the reader's loss and sampler pass to the network
evidence     what a run shows
checks       the measurements, one for each mistake
"""

from course_lib.teaching.diagnosis import checks
from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import CHECKS, FINE, NOT_VISIBLE, WRONG, Check, Finding
from course_lib.teaching.diagnosis.listen import listening, regression_target


def diagnose(evidence: Evidence) -> list[Finding]:
    """What every check finds, in the order of cause and effect."""
    return [check(evidence) for check in CHECKS.values()]


__all__ = [
    "CHECKS",
    "FINE",
    "NOT_VISIBLE",
    "WRONG",
    "Check",
    "Evidence",
    "Finding",
    "checks",
    "diagnose",
    "listening",
    "regression_target",
]
