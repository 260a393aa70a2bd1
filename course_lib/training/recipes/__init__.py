"""The course's named trainings: `course train NAME`, or `RECIPES[NAME]().begin(...)`."""

from course_lib.training.recipes.digits import DigitsClasses, DigitsDDPM, DigitsVAE
from course_lib.training.recipes.recipe import Recipe
from course_lib.training.recipes.scenes import ScenesCLIP, ScenesLatent, ScenesPixel, ScenesVAE

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        *(DigitsDDPM, DigitsClasses, DigitsVAE),
        *(ScenesVAE, ScenesCLIP, ScenesLatent, ScenesPixel),
    )
}

__all__ = ["RECIPES", "Recipe"]
