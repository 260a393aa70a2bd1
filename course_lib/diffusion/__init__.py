"""The mathematics of diffusion. Knows no network and no dataset.

schedules   t -> (alpha, sigma)
process     noising, the four targets, the loss
ddpm        the paper of 2020 as one module
samplers    from noise to data
noise       one generator for each sample
guidance    following a condition more closely
bound       the variational bound, in bits per dimension
exact       perfect networks for Gaussian data
"""

from course_lib.diffusion.analytic import Gaussian, GaussianMixture
from course_lib.diffusion.ddpm import DDPM
from course_lib.diffusion.guidance import drop_condition, guided
from course_lib.diffusion.likelihood import posterior, variational_bound
from course_lib.diffusion.noise import generators, initial_noise
from course_lib.diffusion.process import Diffusion, Network
from course_lib.diffusion.samplers import (
    level,
    sample,
    step,
    time_grid,
    trajectory,
)
from course_lib.diffusion.schedules import (
    SCHEDULES,
    Schedule,
    cosine,
    linear,
    scaled_linear,
    straight,
    zero_terminal_snr,
)

__all__ = [
    "DDPM",
    "SCHEDULES",
    "Diffusion",
    "Gaussian",
    "GaussianMixture",
    "Network",
    "Schedule",
    "cosine",
    "drop_condition",
    "generators",
    "guided",
    "initial_noise",
    "level",
    "linear",
    "posterior",
    "sample",
    "scaled_linear",
    "step",
    "straight",
    "time_grid",
    "trajectory",
    "variational_bound",
    "zero_terminal_snr",
]
