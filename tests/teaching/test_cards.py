"""Cards: whole, and every number in them is the measured one."""

import gzip
import json
import re

import pytest
from sklearn.datasets import load_digits

from course_lib.common import checkpoints
from course_lib.common.checkpoints import find, published
from course_lib.common.paths import ROOT
from course_lib.recipes import RECIPES
from course_lib.teaching import cards
from course_lib.teaching.cards import OF_DATA, OF_MODEL, WRITTEN, card, filled, written
from course_lib.teaching.data_facts import DATA, data_facts
from course_lib.teaching.energy_table import energy_table

SECTIONS = [  # Mitchell et al. 2019, figure 1
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
]
BRACES = r"\{[^}]*\}"
NOT_MEASURED = rf"{BRACES}|`[^`]*`|\b(?:19|20)\d\d\b|[Cc]hapter \d+[a-z]?"  # citations and code


def sections(text: str) -> dict[str, str]:
    return dict(re.findall(r"^## (.*)\n\n((?:.+\n|\n(?!#))*)", text, re.MULTILINE))


def model_page(name: str) -> str:
    return cards.model_card(name) + "\n"


def stored(name: str) -> dict:
    return json.loads(find(name).with_suffix(".json").read_text("utf-8"))


@pytest.mark.parametrize("name", published())
def test_every_shipped_model_has_a_whole_card(name):
    text = model_page(name)
    assert [*sections(text)] == SECTIONS
    assert all(section.strip() for section in sections(text).values())
    assert "{" not in text and "None" not in text and f"# Model card: {name}" in text
    facts = stored(name)
    for number in (f"{facts['parameters']:,}", f"{facts['steps']:,}", f"{facts['cpu_minutes']:g}"):
        assert number in text
    assert facts["sha256"] in text and facts["hardware"] in text


@pytest.mark.parametrize("name", published())
def test_every_measurement_is_in_the_table_as_it_was_measured(name):
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in sections(model_page(name))["Quantitative analyses"].splitlines()[2:]
    ]
    metrics = stored(name)["metrics"]
    assert len(rows) == len(metrics) > 0
    for (metric, kind, split, value, interval, count), it in zip(rows, metrics, strict=True):
        assert metric == f"`{it['property']}`"
        assert (kind, split) == (it.get("kind", "all"), it.get("split", "all"))
        assert count == f"{it['count']:,}"
        percent = value.endswith("%")
        for text, number in zip(
            [value, *interval.split(" to ")], [it["value"], *it.get("interval", [])], strict=False
        ):
            shown = float(re.match(r"[\d.,]+", text.replace(",", "")).group())
            assert shown == pytest.approx(number * (100 if percent else 1), abs=0.051, rel=1e-3)
        assert ("interval" in it) == (interval != "not measured")


@pytest.mark.parametrize("family", [path.stem for path in sorted(WRITTEN.glob("*.toml"))])
def test_no_number_is_typed_by_hand(family):
    names = [family, *(name for name in RECIPES if name.split("-")[0] == family)]
    for text in map(written, names):
        said = [*text["data"].values(), *text["model"].values()]
        said += [meaning for _, meaning in text["metrics"].values()]
        for each in said:
            assert not re.search(r"\d", re.sub(NOT_MEASURED, "", each)), each


def test_a_new_measurement_changes_the_prose(monkeypatch):
    facts = stored("digits-ddpm")
    before = sections(model_page("digits-ddpm"))["Caveats and recommendations"]
    facts["metrics"][1]["value"] = 0.1234
    monkeypatch.setattr(cards, "read_card", lambda name: facts)
    after = sections(model_page("digits-ddpm"))["Caveats and recommendations"]
    measured = f"{100 * stored('digits-ddpm')['metrics'][1]['value']:.1f} %"
    assert measured in before and after == before.replace(measured, "12.3 %")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_hand_written_part(name):
    text = written(name)
    assert set(text["data"]) == set(OF_DATA) and set(text["model"]) == set(OF_MODEL)


@pytest.mark.parametrize("name", DATA)
def test_every_data_set_has_a_whole_statement(name):
    text = cards.data_card(name) + "\n"
    assert len(sections(text)) == 8 and all(each.strip() for each in sections(text).values())
    assert "{" not in text and "None" not in text
    for fact, number in data_facts(name).items():
        assert f"| {fact} | {number} |" in text


def test_the_facts_are_those_of_the_files():
    labels = load_digits().target.tolist()
    digits = data_facts("digits")
    assert digits["images"] == f"{len(labels):,}" and digits["levels"] == "17"
    counts = sorted(labels.count(digit) for digit in range(10))
    assert (digits["fewest of a digit"], digits["most of a digit"]) == (
        str(counts[0]),
        str(counts[-1]),
    )
    file = ROOT / "data/molecules/molecules.tsv.gz"
    smiles = [
        line.split("\t")[0] for line in gzip.decompress(file.read_bytes()).decode().split("\n")
    ]
    molecules = data_facts("molecules")
    assert molecules["distinct"] == molecules["molecules"] == f"{len([*filter(None, smiles)]):,}"
    emoji, readme = data_facts("emoji"), (ROOT / "data/emoji/README.md").read_text("utf-8")
    assert f"{emoji['pictures']} pictures of {emoji['concepts']} concepts" in readme
    assert f"{emoji['smileys & emotion']} smileys" in readme


def test_one_name_may_have_both():
    text = card("phantoms")
    assert text.index("# Model card: phantoms") < text.index("# Data statement: phantoms")
    assert card("credits").startswith("# Credits") and "# Model card" not in card("scenes")


def test_the_energy_of_all_is_the_sum_of_each():
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", energy_table(), re.MULTILINE)
    *each, (last, total) = rows
    assert [name for name, _ in each] == published() and last == "all"
    assert float(total) == pytest.approx(sum(stored(n)["cpu_minutes"] for n, _ in each), abs=0.06)


def test_what_is_missing_is_refused_in_one_line(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown card 'digits-dppm'; did you mean 'digits-ddpm'"):
        card("digits-dppm")
    with pytest.raises(ValueError, match="no 'right, pair' was measured; known: psnr"):
        filled("{right, pair}", {"psnr": "3"})
    with pytest.raises(ValueError, match="nobody has written about 'mine' yet: there is no mine"):
        written("mine-latent")
    text = (WRITTEN / "digits.toml").read_text("utf-8")
    blank = re.sub(r'(?s)factors = """.*?"""', 'factors = " "', text)
    (tmp_path / "digits.toml").write_text(blank)
    monkeypatch.setattr(cards, "WRITTEN", tmp_path)
    with pytest.raises(ValueError, match=r"expected a text for 'factors' in \[model\], got none"):
        written("digits-ddpm")


def test_a_model_of_the_readers_pictures_says_so(monkeypatch):
    facts = stored("digits-ddpm")
    facts["settings"]["data"] = {"pictures": "0123abcd"}
    monkeypatch.setattr(cards, "read_card", lambda name: facts)
    training = sections(model_page("digits-ddpm"))["Training data"]
    assert training.strip() == "The reader's own pictures, fingerprint `0123abcd`."


def test_published_is_what_the_cards_walk_over():
    """A model that is added gets its card here, or a test above fails."""
    assert published() == sorted(path.stem for path in checkpoints.SHIPPED.glob("*.safetensors"))
