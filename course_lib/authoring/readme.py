"""`python -m course_lib.authoring.readme`: fill in the README's tables.

Running times come from the chapters' headers, metrics from the checkpoints' cards, modules and
tests from the chapters' imports, and the badges' address from pyproject.toml. Each table is between
`<!-- NAME -->` and `<!-- end -->`.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat

from course_lib.authoring import course_map
from course_lib.authoring.chapter import RUNNING
from course_lib.authoring.form import ROOT
from course_lib.common.checkpoints import find, published, read_card
from course_lib.evaluation.emoji_prompts import JUDGES, relative
from course_lib.evaluation.metrics import Metric, from_card
from course_lib.evaluation.metrics import find as find_metric


def chapters(folder: Path = ROOT / "notebooks") -> list[str]:
    """A row for each notebook: its title and its running time, as its header states it."""
    rows = ["| chapter | runs in (2 CPU cores) |", "|---|---|"]
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        header = nbformat.read(path, as_version=4).cells[0].source
        title = header.split("\n")[0].removeprefix("# ")
        found = RUNNING.search(header)
        time = found.group().removeprefix("running ").partition(" on ")[0] if found else ""
        rows.append(f"| [{title}](notebooks/{path.name}) | {time} |")
    return rows


def models() -> list[str]:
    """A row for each shipped checkpoint: its size, and how long it was trained."""
    rows = ["| model | parameters | file | steps | minutes | CPU minutes | on |", f"|{7 * '---|'}"]
    for name in published():
        card, size = read_card(name), find(name).stat().st_size
        rows.append(
            f"| `{name}` | {card['parameters']:,} | {size / 1e6:.1f} MB | {card['steps']:,} "
            f"| {card['wall_minutes']:.1f} | {card['cpu_minutes']:.1f} | {where(card)} |"
        )
    return rows


def where(card: dict) -> str:
    processes = card.get("processes", 1)
    return card["hardware"] + (f", in each of {processes} processes" if processes > 1 else "")


def figures() -> list[str]:
    """The results of `course evaluate` on held-out scenes, one column for each held-out split."""
    rows = [f"| | {' | '.join(SPLITS)} |", "|---|---|---|"]
    for name in filter(lambda name: name.startswith("scenes-"), published()):
        cells: dict[str, dict[str, Metric]] = {}
        for metric in from_card(read_card(name)):
            if metric.split:
                cells.setdefault(f"{metric.kind}: {metric.property}", {})[metric.split] = metric
        for what, found in cells.items():
            shown = (show(found[split]) if split in found else "" for split in SPLITS)
            rows.append(f"| `{name}` {what} | {' | '.join(shown)} |")
    return rows


SPLITS = ("new combinations", "new pairs")


def emoji() -> list[str]:
    """What both judges see in emoji-latent's pictures, as a share of what they see in real ones."""
    rows = ["| judge | | trained pairs | held-out pairs |", "|---|---|---|---|"]
    if "emoji-latent" not in published():
        return rows
    metrics = from_card(read_card("emoji-latent"))
    for kind in JUDGES:
        for what, said in ASKED.items():
            cells = []
            for split in ("train", "new pairs"):
                seen = dict(kind=kind, split=split)
                real = find_metric(metrics, f"{what} of real", **seen).value
                drawn = find_metric(metrics, what, **seen).value
                of_real = show(relative(metrics, what, **seen))
                cells.append(f"{of_real}: {100 * drawn:.1f} of {100 * real:.1f} %")
            rows.append(f"| `{kind}` | {said} | {' | '.join(cells)} |")
    far = [
        [find_metric(metrics, f"distance{of}", split=split).value for of in ("", " of real")]
        for split in ("train", "new pairs")
    ]
    cells = [f"{drawn:.2f}, real ones {real:.2f}" for drawn, real in far]
    return [*rows, f"| | distance to the nearest training picture | {' | '.join(cells)} |"]


ASKED = {
    "studio": "the studio is right",
    "top5": "the concept is among the first five",
    "top1": "the concept is the first",
}


def show(metric: Metric) -> str:
    if metric.property == "psnr":
        return f"{metric.value:.1f} dB"
    low, high = metric.interval
    return f"{100 * metric.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def badges(repository: str | None = None) -> list[str]:
    """Badges that open the course on Colab and Binder; none if there is no address.

    repository: for example "https://github.com/ada/course"; by default the one in pyproject.toml.
    Colab opens the branch `colab`, which `course edition colab` makes.
    """
    if repository is None:
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        repository = settings["tool"]["course"]["repository"]
    if not repository:
        return []
    address = r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?"
    if not (found := re.fullmatch(address, repository)):
        raise ValueError(f"repository must be https://github.com/OWNER/NAME, got {repository!r}")
    first = "notebooks/00_start_here.ipynb"
    colab, binder = "https://colab.research.google.com", "https://mybinder.org"
    return [
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]"
        f"({colab}/github/{found[1]}/blob/colab/{first})",
        f"[![Open in Binder]({binder}/badge_logo.svg)]"
        f"({binder}/v2/gh/{found[1]}/main?labpath={first})",
    ]


TABLES: dict[str, Callable[[], list[str]]] = {
    "badges": badges,
    "chapters": chapters,
    "models": models,
    "figures": figures,
    "emoji": emoji,
    "map": course_map.table,
}


def filled(text: str) -> str:
    """The README's text with every table filled in."""

    def table(found: re.Match) -> str:
        return "\n".join([f"<!-- {found[1]} -->", *TABLES[found[1]](), "<!-- end -->"])

    return re.sub(r"<!-- (\w+) -->\n(?:.*?\n)??<!-- end -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(filled(page.read_text("utf-8")), "utf-8")
