"""The course's named trainings: `course train NAME`, or `RECIPES[NAME]().begin(...)`.

Each family of recipes is one file, whose `RECIPES` lists those that have a name.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import torch

from course_lib.common.checkpoints import check_components, load_checkpoint
from course_lib.common.devices import pick_device
from course_lib.common.registry import choose
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.shards import Shards, shards_in
from course_lib.models import ControlNet, TextUNet
from course_lib.pipelines import LatentDiffusion
from course_lib.recipes.recipe import Recipe

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for module in iter_modules(__path__)
    for recipe in getattr(import_module(f"{__name__}.{module.name}"), "RECIPES", ())
}


def make_recipe(name: str, folder: str | Path | None = None) -> Recipe:
    """The recipe of that name, with its own data or with your captioned pictures.

    folder: pictures with metadata.jsonl (see `datasets.folder`), or tar files (see `shards`).

    Raises ValueError for an unknown name, and for a folder if the recipe needs other data: the
    digits need labels, and the features need the properties of each scene.

    >>> make_recipe("digits-ddpm").name
    'digits-ddpm'
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
    """The shipped text-to-image model of that name, ready for `text_to_image`.

    Raises ValueError for a name that isn't a text-to-image recipe or a damaged checkpoint,
    FileNotFoundError for a missing one, RuntimeError if there is no such device.

    >>> model = load_pipeline("scenes-latent")
    """
    device = pick_device(device)
    able = {name: recipe for name, recipe in RECIPES.items() if recipe.draws_captions}
    recipe = choose("text-to-image model", name, able)()
    return recipe.pipeline(load_checkpoint(type(recipe.model()), name, device))


def load_control(name: str = "scenes-control", device: str | torch.device = "cpu") -> ControlNet:
    """The shipped ControlNet of that name, ready for `Controlled`.

    Raises ValueError for a name that isn't the recipe of a ControlNet, a damaged checkpoint, or the
    ControlNet of another version of the model; FileNotFoundError for a missing one, RuntimeError if
    there is no such device.

    >>> controlnet = load_control("scenes-control")
    """
    able = {name: recipe for name, recipe in RECIPES.items() if recipe.steers}
    base = choose("ControlNet", name, able).steers
    controlnet = load_checkpoint(ControlNet, name, device)
    check_components(controlnet, {base: load_checkpoint(TextUNet, base)})
    return controlnet


__all__ = ["RECIPES", "Recipe", "load_control", "load_pipeline", "make_recipe"]
