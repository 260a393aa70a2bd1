"""Model cards and data statements, made from measured facts: `course card NAME`.

A model card has the sections of Mitchell et al. (2019, figure 1). A data statement has those of
Gebru et al. (2021), with the people and the language from Bender & Friedman (2018). What was
measured comes from the checkpoint's card or is counted in the data. What can't be measured is in
`recipes/cards/FAMILY.toml`, where {braces} stand for a measured number; none is typed by hand.
"""

import inspect
import tomllib
from pathlib import Path

from course_lib import recipes
from course_lib.common.checkpoints import find, published, read_card
from course_lib.common.registry import choose
from course_lib.evaluation.metrics import Metric, from_card
from course_lib.recipes import RECIPES
from course_lib.teaching.credits import credits, works_of
from course_lib.teaching.data_facts import DATA, data_facts, listed
from course_lib.teaching.energy_table import cost_of, energy_table

WRITTEN = Path(recipes.__file__).parent / "cards"
OF_DATA = [
    "motivation",
    "composition",
    "people",
    "collection",
    "preparation",
    "uses",
    "maintenance",
]
OF_MODEL = ["use", "users", "out_of_scope", "factors", "evaluation", "ethics", "caveats"]


def card(name: str) -> str:
    """The model card or the data statement of that name, in Markdown; both, if both have it.

    "credits" and "energy" stand for all of them together. ValueError for an unknown name, and for
    a hand-written part that is missing or blank.

    >>> card("digits-ddpm").splitlines()[0]
    '# Model card: digits-ddpm'
    """
    makers = {each: model_card for each in published()}
    pages = [makers[name](name)] if name in makers else []
    pages += [data_card(name)] if name in DATA else []
    general = {"credits": credits, "energy": energy_table}
    if not pages:
        pages = [choose("card", name, general | makers | DATA)()]
    return "\n\n".join(pages) + "\n"


def written(name: str) -> dict:
    """The hand-written part for a model or a data set of this name: {"data", "metrics", "model"}.

    What [models.NAME] says takes the place of what [model] says. ValueError if a part is missing.
    """
    family = name.split("-")[0]
    path = WRITTEN / f"{family}.toml"
    if not path.exists():
        raise ValueError(f"nobody has written about {family!r} yet: there is no {path.name}")
    text = tomllib.loads(path.read_text("utf-8"))
    text["model"] |= text.pop("models", {}).get(name, {})
    for part, keys in (("data", OF_DATA), ("model", OF_MODEL)):
        for key in keys:
            if not text[part].get(key, "").strip():
                raise ValueError(f"{path.name}: expected a text for {key!r} in [{part}], got none")
    return text


def filled(text: str, facts: dict[str, str]) -> str:
    """The text with the measured numbers in place of {their names}, on one line.

    >>> filled("{right, pair} were right", {"right, pair": "88.2 %"})
    '88.2 % were right'
    """
    try:
        return " ".join(text.format_map(facts).split())
    except KeyError as error:
        known = ", ".join(facts)
        raise ValueError(f"no {error.args[0]!r} was measured; known: {known}") from None


# --- a model ---------------------------------------------------------------------------------


def model_card(name: str) -> str:
    """The card of a published model, in Markdown."""
    facts, text = read_card(name), written(name)
    metrics, meanings = from_card(facts), text["metrics"]
    said = {key(metric): shown(metric, meanings) for metric in metrics}
    data = name.split("-")[0]
    if data in DATA:
        said = data_facts(data) | said
    say = {part: filled(each, said) for part, each in text["model"].items()}
    sections = {
        "Model details": details(name, facts),
        "Intended use": [
            f"- **For:** {say['use']}",
            f"- **By:** {say['users']}",
            f"- **Out of scope:** {say['out_of_scope']}",
        ],
        "Factors": [say["factors"]],
        "Metrics": [
            *(f"- `{each}`: {meaning(each, meanings)}." for each in names_of(metrics)),
            "",
            "Intervals cover 95 %: Wilson's for shares, the central limit theorem's for means.",
        ],
        "Evaluation data": [say["evaluation"]],
        "Training data": [trained_on(facts, data)],
        "Quantitative analyses": table(metrics, meanings),
        "Ethical considerations": [say["ethics"], "", cost_of(facts)],
        "Caveats and recommendations": [say["caveats"]],
    }
    return page(f"Model card: {name}", sections)


def details(name: str, facts: dict) -> list[str]:
    recipe, settings = RECIPES.get(name), facts["settings"]
    (weights,) = (work for work in works_of("checkpoints"))
    what = inspect.getdoc(recipe).split("\n\n")[0] if recipe else "A model of the reader's own."
    size = find(name).stat().st_size / 1e6
    versions = facts["versions"]
    return [
        f"- **What:** {' '.join(what.split())}",
        f"- **Network:** `{facts['class']}`, {facts['parameters']:,} parameters, {size:.1f} MB",
        f"- **Training:** `{facts['command']}`, {facts['steps']:,} steps, seed {facts['seed']}, "
        f"{settings['optimizer']} with learning rate {settings['lr']:g}, averaged weights",
        f"- **Made with:** Python {versions['python']}, PyTorch {versions['torch']}",
        f"- **Weights:** SHA-256 `{facts['sha256']}`",
        f"- **By:** {weights.who}. **Licence:** {weights.licence}",
        "- **Questions:** to the course's repository",
    ]


def trained_on(facts: dict, data: str) -> str:
    prints = facts["settings"].get("data") or {}
    if "pictures" in prints:
        return f"The reader's own pictures, fingerprint `{prints['pictures']}`."
    parts = "".join(f"; with `{part}` {digest[:8]}" for part, digest in prints.items())
    return f"The split for training of `{data}`: see `course card {data}`{parts}."


def key(metric: Metric) -> str:
    """The metric's name in the hand-written texts: "right, pair, new pairs"."""
    return ", ".join(filter(None, (metric.property, metric.kind, metric.split)))


def names_of(metrics: list[Metric]) -> list[str]:
    return list(dict.fromkeys(metric.property for metric in metrics))


def meaning(name: str, meanings: dict) -> str:
    return choose("metric", name, meanings)[1]


def shown(metric: Metric, meanings: dict, value: float | None = None) -> str:
    """The metric's value, or another number like it, in its unit."""
    unit, _ = choose("metric", metric.property, meanings)
    value = metric.value if value is None else value
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.1f} {unit}" if unit else f"{value:.4g}"


def table(metrics: list[Metric], meanings: dict) -> list[str]:
    """Every metric, for each kind and split by itself and crossed, with its interval."""
    rows = [
        "| metric | kind | split | value | 95 % interval | samples |",
        "|---|---|---|---|---|---|",
    ]
    for each in metrics:
        ends = [shown(each, meanings, end) for end in each.interval or ()]
        interval = " to ".join(ends) or "not measured"
        rows.append(
            f"| `{each.property}` | {each.kind or 'all'} | {each.split or 'all'} "
            f"| {shown(each, meanings)} | {interval} | {each.count:,} |"
        )
    return rows


# --- a data set ------------------------------------------------------------------------------


def data_card(name: str) -> str:
    """The data statement of a data set, in Markdown."""
    facts, text = data_facts(name), written(name)["data"]
    say = {part: filled(text[part], facts) for part in OF_DATA}
    rights = [f"- {work.what}: by {work.who}; {work.licence}" for work in works_of(name)]
    sections = {
        "Motivation": [say["motivation"]],
        "Composition": [say["composition"], "", *listed(facts)],
        "People and language": [say["people"]],
        "Collection": [say["collection"]],
        "Preparation and labels": [say["preparation"]],
        "Uses": [say["uses"]],
        "Distribution": rights,
        "Maintenance": [say["maintenance"]],
    }
    return page(f"Data statement: {name}", sections)


def page(title: str, sections: dict[str, list[str]]) -> str:
    body = ("\n".join([f"## {heading}", "", *lines]) for heading, lines in sections.items())
    return "\n\n".join([f"# {title}", *body])
