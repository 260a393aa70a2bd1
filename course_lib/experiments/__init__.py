"""Recorded studies: trainings that take too long for a chapter, each run once per seed.

scaling                 chapter 14: transformer against U-Net; loss against size and data
reference_runs          what good looks like: every recipe with three seeds
unet_ablation           chapter 04: digits, with parts of the U-Net switched off
quality_over_time       chapter 09: the two scene recipes, graded while they train
pixel_vs_latent         chapter 09: diffusion in pixels and in latents, at 32 × 32
text_to_image_ablation  chapter 09: `scenes-latent` with one design choice changed
fewer_minutes           chapter 09: ideas that may shorten the trainings, and the recipe in full
diffusers_rival         chapter 09: the same job for networks and a recipe of diffusers
few_pictures            chapter 10: what a model of fewer pictures learns, and what it remembers
fine_tuning             chapter 11: a studio by LoRA, one owl by a word and by DreamBooth
scene_control           chapter 11: a ControlNet graded while it trains, and at several scales
making                  chapter 12: edits, anagrams and variations to order, judged
few_steps               chapter 14: ways to draw in few steps, distilled at one budget
molecules               chapter 15a: masked diffusion, its twin and baselines, judged by RDKit
molecule_sampling       chapter 15a: guidance, fewer steps, and mistakes
inverse_problems        chapter 15b: reconstructions, and lesions erased or invented
digit_augmentation      chapter 15c: a classifier with real, changed and synthetic digits
memorisation            chapter 16: when copying begins; duplicates; who was in the training set
opt_out                 chapter 16: a style without its studio, and with few of its pictures
watermark               chapter 16: a mark in the noise, and what pictures go through
detector                chapter 16: a classifier of drawn digits, on models new to it
bias                    chapter 16: men, women and persons, by wording and guidance scale
gan_race                chapter 17: GANs and diffusion, with equal data, sizes and CPU minutes
broken_runs             chapter 18: small trainings with one mistake each, and sound ones

`python -m course_lib.experiments.NAME` makes the results that are missing; `study` holds the runner
and `teaching.results` the format. Chapters read the results and never import this folder.
"""

__all__ = [
    "bias",
    "broken_runs",
    "budget",
    "detector",
    "diffusers_rival",
    "digit_augmentation",
    "few_pictures",
    "few_steps",
    "fewer_minutes",
    "fine_tuning",
    "gan_race",
    "inverse_problems",
    "making",
    "memorisation",
    "molecule_sampling",
    "molecules",
    "opt_out",
    "pixel_vs_latent",
    "quality_over_time",
    "reference_runs",
    "scaling",
    "scene_control",
    "study",
    "text_to_image_ablation",
    "unet_ablation",
    "watermark",
]
