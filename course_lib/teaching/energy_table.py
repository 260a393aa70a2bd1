"""What the course's trainings cost in energy, beside published figures: `course card energy`."""

from course_lib.common.checkpoints import published, read_card
from course_lib.training.energy import (
    INTENSITY,
    PUBLISHED,
    PUE,
    WATTS,
    Range,
    emissions,
    energy,
)

ASSUMED = (
    f"{WATTS.low:g} to {WATTS.high:g} W per busy core, a PUE of {PUE.low:g} to {PUE.high:g}, and "
    f"{1000 * INTENSITY.low:g} to {1000 * INTENSITY.high:g} g of CO2 equivalent per kWh"
)


def cost_of(facts: dict) -> str:
    """The energy of a model's last training, in words, from its card."""
    kwh = energy(facts["cpu_minutes"] / 60)
    return (
        f"**Energy.** The training took {facts['cpu_minutes']:g} minutes of CPU time on "
        f"{facts['hardware']}: {thousandths(kwh)} Wh, or {thousandths(emissions(kwh))} g of CO2 "
        f"equivalent, assuming {ASSUMED}. Earlier attempts and the making of the machine aren't "
        "included."
    )


def energy_table() -> str:
    """All shipped models, their sum, and what others have published, in Markdown.

    >>> "BLOOM" in energy_table()
    True
    """
    minutes = {name: read_card(name)["cpu_minutes"] for name in published()}
    minutes["all"] = sum(minutes.values())
    rows = []
    for name, each in minutes.items():
        kwh = energy(each / 60)
        rows.append(f"| {name} | {each:.1f} | {thousandths(kwh)} | {thousandths(emissions(kwh))} |")
    ours = emissions(energy(minutes["all"] / 60))
    return "\n".join(
        [
            "# The energy of the course's trainings",
            "",
            f"CPU time was measured. Assumed are {ASSUMED}. Each model's last training is counted, "
            "not the attempts before it.",
            "",
            "| model | CPU minutes | Wh | g CO2 equivalent |",
            "|---|---|---|---|",
            *rows,
            "",
            "Published by others, and how many times our trainings together fit into it:",
            "",
            "| what | kWh | kg CO2 equivalent | times ours | source |",
            "|---|---|---|---|---|",
            *(
                f"| {it.what} | {f'{it.kwh:,.0f}' if it.kwh else 'not given'} | {it.kg:,.0f} "
                f"| {Range(it.kg / ours.high, it.kg / ours.low)} | {it.source} |"
                for it in PUBLISHED
            ),
        ]
    )


def thousandths(amount: Range) -> Range:
    """kWh to Wh, kg to g."""
    return Range(*(1000 * end for end in amount))
