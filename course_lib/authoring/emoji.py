"""The maintainer's command that makes `data/emoji`, the pictures that `datasets.emoji` reads.

    pip install -e ".[emoji]"
    python -m course_lib.authoring.emoji

It fetches pinned packages with the client `npm`, refuses those whose checksum differs, draws the
studios' vector graphics on white, and writes a contact sheet per studio, the list of concepts and
the checksums of all of them. Drawing takes two minutes. Readers don't need it: its result is part
of the repository.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import EMOJI
from course_lib.datasets.emoji.concepts import COMMON, SIZE, STUDIOS, Concept, sheet_of

PACKAGES = {  # name and version -> SHA-256 of the archive
    "@iconify-json/twemoji@1.2.5": (
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
    ),
    "@iconify-json/noto@1.2.9": (
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"
    ),
    "@iconify-json/fluent-emoji-flat@1.2.6": (
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
    ),
    "@iconify-json/noto-v1@1.2.5": (
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"
    ),
    "emojibase-data@17.0.0": "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
}
*GRAPHICS, NAMES = PACKAGES
LEFT_OUT = {"flags", "alphanumeric symbols", "keypad characters"}
CLOCK = re.compile(r"o'clock|thirty")
RENAMED = {
    "cricket": None,
    "cricket-game": "cricket",
}  # Noto's name -> the Blobs'; None: no picture
COLUMNS = 40  # of a contact sheet
RARE = 3  # families that share a keyword, at least
NEAR = 0.15  # difference of near duplicates, as a share of what is drawn


# --- the packages ----------------------------------------------------------------------------


def fetch(package: str, folder: Path) -> tarfile.TarFile:
    """A package's archive; ValueError unless it is byte for byte the one that was pinned."""
    command = ["npm", "pack", "--silent", package]
    name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    content = (folder / name.stdout.split()[-1]).read_bytes()
    if hashlib.sha256(content).hexdigest() != PACKAGES[package]:
        raise ValueError(f"{package} is not the archive that was pinned: its checksum differs")
    return tarfile.open(fileobj=io.BytesIO(content))


def read(archive: tarfile.TarFile, name: str):
    return json.load(archive.extractfile(f"package/{name}"))


class Studio:
    """The vector graphics of one package, by the concept's code points or else by its name."""

    def __init__(self, archive: tarfile.TarFile):
        self.icons = read(archive, "icons.json")
        self.names = {code(key): name for key, name in read(archive, "chars.json").items()}

    def name(self, hexcode: str) -> str | None:
        return self.names.get(code(hexcode))

    def has(self, name: str) -> bool:
        return name in self.icons["icons"] or name in self.icons["aliases"]

    def draw(self, name: str) -> np.ndarray:
        """(64, 64, 3) uint8, on white."""
        import resvg_py

        alias = self.icons["aliases"].get(name, {})
        icon = self.icons["icons"][alias.get("parent", name)]
        width, height = (icon.get(side, self.icons[side]) for side in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGB")
        return np.array(ImageOps.mirror(image) if alias.get("hFlip") else image)


def code(hexcode: str) -> str:
    """Code points without the selector that asks for the coloured form: "2764-FE0F" -> "2764"."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


# --- names, articles, keywords ---------------------------------------------------------------


def concept_of(entry: dict, groups: dict, subgroups: dict) -> Concept:
    """One line of the list, from an entry of emojibase; its family isn't known yet."""
    name = plain(entry["label"])
    stem, gender = stem_and_gender(code(entry["hexcode"]))
    return Concept(
        name=name,
        phrase=with_article(name),
        keywords=keywords(entry.get("tags", []), name),
        emoji=entry["emoji"],
        group=groups[entry["group"]],
        subgroup=subgroups[entry["subgroup"]],
        family=stem,
        gender=gender,
        studios=(),
    )


def plain(label: str) -> str:
    """In lower case and words alone: "man: red hair" -> "man with red hair"."""
    label = unicodedata.normalize("NFKD", label.lower().replace("’", "'"))
    label = re.sub(r"^(\w+): bald$", r"bald \1", label.replace(": facing", " facing"))
    return re.sub(r"[^\w '-]", "", label.replace(": ", " with "))


PLURAL = "people men women children"
SINGULAR = """bus minibus trolleybus cactus octopus hippopotamus rhinoceros hibiscus compass lotus
    cross glass chess dress"""
MASS = """aquarius aries away bacon badminton bowling bread breast-feeding broccoli butter camping
    capricorn cinema claim claus construction control cooking copyright coral dango divide dizzy dna
    entry exchange falafel fencing fire fog foggy fondue fuji garlic gemini hockey ice infinity
    lacrosse laughing leo libra locked luggage mate minus multiply oden om ophiuchus pisces plus
    polish pong popcorn prohibited racing radioactive registered rice sagittarius sake salt scorpio
    soap softball spaghetti star-struck sushi taurus tennis thread unlocked virgo voltage water
    wireless wood yarn zzz"""
SLANG = "adorbs bae bff dunno haha hehe ily lmao lol meh omg pga tbt twinsies whatever xoxo yolo"


def with_article(name: str) -> str:
    """ "a red apple", "an egg", "grapes", "bread"."""
    head = re.split(r" (?:with|in|on|of|and|at|behind|showing|without|over) ", name)[0].split()
    first, last = head[0], head[-1]
    several = last.endswith("s") and not last.endswith("ss") and last not in SINGULAR.split()
    who = first in ("a", "person", "man", "woman", "face")  # who does something: "lifting weights"
    if not who and (several or last in MASS.split() or first in ("no", *PLURAL.split())):
        return name
    sounds_open = re.match(r"[aeiou]|x-", name) and not re.match(r"uni|eu|ewe|one", name)
    return f"an {name}" if sounds_open else f"a {name}"


def keywords(tags: Iterable[str], name: str) -> tuple[str, ...]:
    """The tags of one word that the name doesn't hold."""
    said = {*re.findall(r"\w+", name), *SLANG.split()}
    return tuple(
        tag for tag in map(str.lower, tags) if re.fullmatch("[a-z]{3,}", tag) and tag not in said
    )


def common_keywords(concepts: list[Concept]) -> list[Concept]:
    """With only those keywords that three or more families have: rarer ones can't be learned."""
    counts = Counter(
        word for word, _ in {(word, c.family) for c in concepts for word in c.keywords}
    )
    return [
        replace(c, keywords=tuple(word for word in c.keywords if counts[word] >= RARE))
        for c in concepts
    ]


MAN, WOMAN, PERSON = "1f468", "1f469", "1f9d1"
IRREGULAR = {  # code points -> those of the gender-neutral concept, and the gender
    "1f466": ("1f9d2", "man"),  # boy, girl, child
    "1f467": ("1f9d2", "woman"),
    "1f474": ("1f9d3", "man"),  # old man, old woman, older person
    "1f475": ("1f9d3", "woman"),
    "1f934": ("1fac5", "man"),  # prince, princess, person with crown
    "1f478": ("1fac5", "woman"),
    "1f385": ("1f9d1-200d-1f384", "man"),  # Santa, Mrs and Mx Claus
    "1f936": ("1f9d1-200d-1f384", "woman"),
    "1f57a": ("1f483", "man"),  # man dancing, woman dancing
    "1f483": ("1f483", "woman"),
    "1f930": ("1fac4", "woman"),  # pregnant woman, man, person
    "1fac3": ("1fac4", "man"),
    "1f6b9": ("1f6bb", "man"),  # men's room, women's room, restroom
    "1f6ba": ("1f6bb", "woman"),
    "2642": ("26a7", "man"),  # the signs
    "2640": ("26a7", "woman"),
}


def stem_and_gender(points: str) -> tuple[str, str | None]:
    """The code points that all genders and directions of a concept share; "man", "woman", None."""
    points = points.removesuffix("-200d-27a1")  # facing right
    if points in IRREGULAR:
        return IRREGULAR[points]
    for sign, gender in (("2642", "man"), ("2640", "woman")):
        if points.endswith(f"-200d-{sign}"):
            return points.removesuffix(f"-200d-{sign}"), gender
    for who, gender in ((MAN, "man"), (WOMAN, "woman")):
        if re.match(rf"{who}\b", points):
            return PERSON + points.removeprefix(who), gender
    return points, None


# --- families --------------------------------------------------------------------------------


def neutral_named(concepts: list[Concept]) -> list[Concept]:
    """With the gender "person" for the neutral concept of a stem that has a man or a woman."""
    gendered = {concept.family for concept in concepts if concept.gender}
    return [
        replace(c, gender=c.gender or ("person" if c.family in gendered else None))
        for c in concepts
    ]


def with_families(
    concepts: list[Concept], pictures: dict[str, dict[int, np.ndarray]]
) -> list[Concept]:
    """A concept joins those of its stem, and those that at least one studio drew nearly alike.

    A family has the name of its first concept in the list.
    """
    parent = list(range(len(concepts)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        first, second = sorted((root(i), root(j)))
        parent[second] = first

    stems = {}
    for i, concept in enumerate(concepts):
        join(i, stems.setdefault(concept.family, i))
    for drawn in pictures.values():
        for i, j in near_duplicates(drawn):
            join(i, j)
    return [replace(c, family=concepts[root(i)].name) for i, c in enumerate(concepts)]


def near_duplicates(drawn: dict[int, np.ndarray], limit: float = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs of one studio's pictures with |x - y| < limit · min(|x|, |y|), where white counts as 0.

    So two thin drawings on much white aren't near just because most of both is white.
    """
    numbers = list(drawn)
    x = 1 - np.stack([drawn[n] for n in numbers]).reshape(len(numbers), -1) / np.float32(255)
    product = x @ x.T  # (N, N)
    squares = product.diagonal()
    difference = squares[:, None] + squares - 2 * product
    near = difference < limit**2 * np.minimum(squares[:, None], squares)
    for i, j in np.argwhere(np.triu(near, 1)):
        yield numbers[i], numbers[j]


# --- writing ---------------------------------------------------------------------------------


def sheet(drawn: dict[int, np.ndarray], count: int) -> bytes:
    """A contact sheet, lossless WebP: concept n in row n // 40, column n % 40; white if missing."""
    rows = -(-count // COLUMNS)
    canvas = np.full((rows, COLUMNS, SIZE, SIZE, 3), 255, np.uint8)
    for n, picture in drawn.items():
        canvas[divmod(n, COLUMNS)] = picture
    image = Image.fromarray(canvas.swapaxes(1, 2).reshape(rows * SIZE, COLUMNS * SIZE, 3))
    buffer = io.BytesIO()
    image.save(buffer, "webp", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def build(folder: Path = EMOJI) -> None:
    """Write the concepts, the sheets and the checksums into the folder."""
    concepts, pictures = gather()
    lines = [json.dumps(asdict(concept), ensure_ascii=False) + "\n" for concept in concepts]
    contents = {folder / "concepts.jsonl": "".join(lines).encode()}
    contents |= {folder / sheet_of(s): sheet(pictures[s], len(concepts)) for s in STUDIOS}
    sums = [f"{hashlib.sha256(each).hexdigest()}  {path.name}\n" for path, each in contents.items()]
    make_folder(folder)
    write_files(contents | {folder / "SHA256SUMS": "".join(sums).encode()})


def gather() -> tuple[list[Concept], dict[str, dict[int, np.ndarray]]]:
    """All concepts, and each studio's pictures by the number of the concept."""
    with tempfile.TemporaryDirectory() as place:
        archives = [fetch(package, Path(place)) for package in GRAPHICS]
        names = fetch(NAMES, Path(place))
    studios = {name: Studio(archive) for name, archive in zip(STUDIOS, archives, strict=True)}
    entries, messages = read(names, "en/data.json"), read(names, "en/messages.json")
    groups, subgroups = (
        {each["order"]: each["message"] for each in messages[kind]}
        for kind in ("groups", "subgroups")
    )
    concepts, pictures = [], {name: {} for name in studios}
    for entry in entries:
        names = {studio: each.name(entry["hexcode"]) for studio, each in studios.items()}
        names["Blob"] = RENAMED.get(names["Noto"], names["Noto"])  # names only, mostly Noto's
        if "group" not in entry or not all(names[studio] for studio in COMMON):
            continue
        concept = concept_of(entry, groups, subgroups)
        if {concept.group, concept.subgroup} & LEFT_OUT or CLOCK.search(concept.name):
            continue
        drawn_by = tuple(s for s, name in names.items() if name and studios[s].has(name))
        for studio in drawn_by:
            pictures[studio][len(concepts)] = studios[studio].draw(names[studio])
        concepts.append(replace(concept, studios=drawn_by))
    return common_keywords(with_families(neutral_named(concepts), pictures)), pictures


if __name__ == "__main__":
    build()
