"""The energy and the emissions of a computation, from its measured CPU time.

    kwh = energy(cpu_hours=1.5)       # Range(low, high), in kWh
    emissions(kwh)                    # Range(low, high), in kg of CO2 equivalent

Only the time is measured. Everything else is an assumption, so each one is an argument and a range
from low to high, and so is the answer. Making and discarding the machine is left out.
"""

from dataclasses import dataclass
from typing import NamedTuple

from course_lib.common.checks import require


class Range(NamedTuple):
    """From low to high."""

    low: float
    high: float

    def __str__(self) -> str:
        return " to ".join(f"{float(f'{end:.2g}'):,.10g}" for end in self)


# Low: the rated power of a server's processor with many cores, divided among them. High: a laptop
# or an old server, with its memory, its power supply and the idle cores that wait beside this one.
WATTS = Range(3, 15)  # of one busy core
# Power usage effectiveness: what the building draws for each watt that the computer draws. High:
# the average that Strubell et al. (2019, section 2) assume for data centres.
PUE = Range(1.0, 1.58)
# kg of CO2 equivalent for each kWh in 2023: Norway and India; the world's mean is 0.481 (Ember
# 2024).
INTENSITY = Range(0.030, 0.713)


def energy(cpu_hours: float, watts: Range = WATTS, pue: Range = PUE) -> Range:
    """kWh = hours of busy cores · watts of one core / 1000 · PUE (Strubell et al. 2019, eq. 1).

    watts and pue: (low, high). Raises ValueError for negative numbers, for a PUE below 1, and
    for a range whose ends are swapped.

    >>> energy(100, watts=(5, 10), pue=(1, 1.5))
    Range(low=0.5, high=1.5)
    """
    require(0 <= cpu_hours < float("inf"), "cpu_hours", "a number, at least 0", cpu_hours)
    check("watts", watts, least=0)
    check("pue", pue, least=1)
    return Range(*(cpu_hours * w / 1000 * p for w, p in zip(watts, pue, strict=True)))


def emissions(kwh: Range, intensity: Range = INTENSITY) -> Range:
    """kg of CO2 equivalent = kWh · intensity of the grid, kg per kWh. Errors as for `energy`.

    >>> emissions((1, 2), intensity=(0.25, 0.5))
    Range(low=0.25, high=1.0)
    """
    check("kwh", kwh, least=0)
    check("intensity", intensity, least=0)
    return Range(*(e * i for e, i in zip(kwh, intensity, strict=True)))


def check(name: str, ends: Range, least: float) -> None:
    low, high = ends
    fine = least <= low <= high < float("inf")
    require(fine, name, f"(low, high) with {least} <= low <= high", tuple(ends))


@dataclass(frozen=True)
class Published:
    """A published figure, to compare with; None where the source doesn't give it."""

    what: str
    kwh: float | None
    kg: float | None  # of CO2 equivalent
    source: str


POUND = 0.45359237  # kg
PUBLISHED = (
    Published("ELMo, trained once", None, 262 * POUND, "Strubell et al. 2019, table 3"),
    Published("BERT base, trained once", None, 1438 * POUND, "Strubell et al. 2019, table 3"),
    Published(
        "a Transformer, with a search for its architecture",
        *(None, 626_155 * POUND),
        "Strubell et al. 2019, table 3",
    ),
    Published(
        "Stable Diffusion 1, trained for 150,000 hours of A100",
        *(None, 11_250),
        "its model card, 2022",
    ),
    Published(
        "BLOOM, the final training, running power alone",
        *(433_196, 24_700),
        "Luccioni et al. 2022, arXiv 2211.02001",
    ),
)
