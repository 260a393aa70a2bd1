"""How often the checks name the right mistake, from the numbers that a study has recorded.

table = confusion(load_results("broken_runs"), "emoji")
rates(table)
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from course_lib.teaching.diagnosis.checks import CHECKS
from course_lib.teaching.diagnosis.finding import WRONG
from course_lib.teaching.results import Result

SOUND = "sound"
FOLDER_ALONE = "largest loss", "gradients", "EMA used", "EMA lag"  # checks that need no code

Table = Mapping[str, Counter]  # what a run is -> what the checks call it, and how often


def named(metrics: Mapping[str, float], visible: Collection[str] = CHECKS) -> str:
    """The mistake of the first check whose recorded number is outside its interval, or "sound".

    visible: the names of the checks that take part.

    >>> named({"data range": 0.0, "terminal noise": 0.6})
    'data from 0 to 1'
    """
    for name, check in CHECKS.items():
        if name in visible and name in metrics and check.judge(metrics[name]).verdict == WRONG:
            return check.mistake
    return SOUND


def confusion(runs: Iterable[Result], data: str, visible: Collection[str] = CHECKS) -> Table:
    """The confusion table of the recorded runs on that data: what each is, and what it is called.

    >>> from course_lib.teaching.results import load_results
    >>> confusion(load_results("broken_runs"), "digits")["wrong variance"].most_common(1)[0][0]
    'wrong variance'
    """
    table = defaultdict(Counter)
    for run in runs:
        where, _, case = run.variant.partition(", ")
        if where == data:
            truth = SOUND if case.startswith(SOUND) else case
            table[truth][named(run.metrics, visible)] += 1
    return dict(table)


def rates(table: Table) -> dict[str, float]:
    """How many runs are broken and sound, the share of broken ones that are named correctly, and
    the share of sound ones that are accused.

    >>> rates({"sound": Counter(sound=3, slow=1), "slow": Counter(slow=1)})
    {'broken': 1, 'named': 1.0, 'sound': 4, 'accused': 0.25}
    """
    broken = {truth: calls for truth, calls in table.items() if truth != SOUND}
    count, sound = sum(calls.total() for calls in broken.values()), table[SOUND].total()
    right = sum(calls[truth] for truth, calls in broken.items())
    accused = 1 - table[SOUND][SOUND] / sound
    return {"broken": count, "named": right / count, "sound": sound, "accused": accused}
