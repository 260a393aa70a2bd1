"""The course's named trainings: `course train NAME`, or `RECIPES[NAME]().begin(...)`.

A family of recipes is one file here; its `RECIPES` lists those that have a name of their own.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.devices import pick_device
from course_lib.common.registry import choose
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.shards import Shards, shards_in
from course_lib.pipelines import LatentDiffusion
from course_lib.recipes.recipe import Recipe

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for module in iter_modules(__path__)
    for recipe in getattr(import_module(f"{__name__}.{module.name}"), "RECIPES", ())
}


def make_recipe(name: str, folder: str | Path | None = None) -> Recipe:
    """The recipe of that name, on its own data or on a reader's captioned pictures.

    folder: of pictures with metadata.jsonl (see `datasets.folder`), or of tar files (see `shards`).

    Raises ValueError for an unknown name, and for a folder where a recipe needs other data: digits
    are told apart by labels, and the features are learned from what is known of each scene.
    """
    recipe = choose("recipe", name, RECIPES)
    if folder is None:
        return recipe()
    if not recipe.takes_folder:
        able = ", ".join(name for name, recipe in RECIPES.items() if recipe.takes_folder)
        raise ValueError(f"{name} can't learn from a folder of captioned pictures; {able} can")
    if shards_in(folder) and not (Path(folder) / "metadata.jsonl").exists():
        streams = recipe.settings["scale"].accumulate
        return recipe(Shards(folder, recipe.size, recipe.batch_size, streams))
    return recipe(CaptionedFolder(folder, recipe.size))


def load_pipeline(
    name: str = "scenes-latent", device: str | torch.device = "cpu"
) -> LatentDiffusion:
    """The shipped text-to-image model of that name, ready to draw.

    Raises ValueError for a name that is no text-to-image recipe or a damaged checkpoint,
    FileNotFoundError for a missing one, RuntimeError for a device that is not there.
    """
    device = pick_device(device)
    able = {name: recipe for name, recipe in RECIPES.items() if recipe.draws_captions}
    recipe = choose("text-to-image model", name, able)()
    return recipe.pipeline(load_checkpoint(type(recipe.model()), name, device))


__all__ = ["RECIPES", "Recipe", "load_pipeline", "make_recipe"]
