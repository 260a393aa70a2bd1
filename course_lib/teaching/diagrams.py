"""Schematics of how the components fit together."""

from matplotlib.figure import Figure

from course_lib.teaching.schematics_latent import latent_diffusion_schematic


def components_figure() -> Figure:
    """Caption to picture, each part with the number of the chapter that builds it."""
    figure, _ = latent_diffusion_schematic((3, 64, 64), (12, 8, 8), training=False)
    return figure
