"""The course's named trainings: `course train NAME`, or `RECIPES[NAME]().begin(...)`."""

from pathlib import Path

from course_lib.common.registry import choose
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.shards import Shards, shards_in
from course_lib.recipes.digits import DigitsClasses, DigitsDDPM, DigitsVAE
from course_lib.recipes.features import ScenesFeatures
from course_lib.recipes.recipe import Recipe
from course_lib.recipes.scenes import (
    ScenesCLIP,
    ScenesLatent,
    ScenesPixel,
    ScenesVAE,
)

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        *(DigitsDDPM, DigitsClasses, DigitsVAE),
        *(ScenesFeatures, ScenesVAE, ScenesCLIP, ScenesLatent, ScenesPixel),
    )
}


def make_recipe(name: str, folder: str | Path | None = None) -> Recipe:
    """The recipe of that name, on its own data or on a reader's captioned pictures.

    folder: of pictures with metadata.jsonl (see `datasets.folder`), or of tar files (see `shards`).

    Raises ValueError for an unknown name, and for a folder where a recipe needs other data: digits
    are told apart by labels, and the features are learned from the scenes' own answers.
    """
    recipe = choose("recipe", name, RECIPES)
    if folder is None:
        return recipe()
    if not recipe.takes_folder:
        able = ", ".join(name for name, recipe in RECIPES.items() if recipe.takes_folder)
        raise ValueError(f"{name} can't learn from a folder of captioned pictures; {able} can")
    if shards_in(folder) and not (Path(folder) / "metadata.jsonl").exists():
        streams = recipe.settings.get("accumulate", 1)
        made = recipe(Shards(folder, recipe.size, recipe.batch_size, streams))
    else:
        made = recipe(CaptionedFolder(folder, recipe.size))
    made.data_folder = Path(folder).resolve().name
    return made


__all__ = ["RECIPES", "Recipe", "make_recipe"]
