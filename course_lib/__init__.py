"""From DDPM to Stable Diffusion: the companion package of the course."""

__version__ = "1.0.0"
