"""The mathematics of diffusion: schedules, noising, losses, samplers, guidance.

schedules    t -> (alpha, sigma)
process      noising, the prediction types, the loss
ddpm         the paper of 2020 as one module
samplers     from noise to data
few_steps    average velocities, straightness and couplings
noise        one generator for each sample
inversion    from data back to noise
guidance     following the condition more closely, or climbing a reward
likelihood   the variational bound, in bits per dimension
masked       diffusion of tokens, whose noise is a mask
analytic     optimal networks for Gaussian data, in closed form
"""

from course_lib.diffusion.analytic import Gaussian, GaussianMixture
from course_lib.diffusion.ddpm import DDPM
from course_lib.diffusion.guidance import drop_condition, guided, reward_guided
from course_lib.diffusion.inversion import invert
from course_lib.diffusion.likelihood import posterior, variational_bound
from course_lib.diffusion.masked import MaskedDiffusion
from course_lib.diffusion.noise import generators, initial_noise
from course_lib.diffusion.process import (
    PREDICTIONS,
    TIME_SAMPLING,
    WEIGHTINGS,
    Diffusion,
    Network,
)
from course_lib.diffusion.samplers import (
    SAMPLERS,
    Point,
    point,
    points,
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
    "PREDICTIONS",
    "SAMPLERS",
    "SCHEDULES",
    "TIME_SAMPLING",
    "WEIGHTINGS",
    "Diffusion",
    "Gaussian",
    "GaussianMixture",
    "MaskedDiffusion",
    "Network",
    "Point",
    "Schedule",
    "cosine",
    "drop_condition",
    "generators",
    "guided",
    "initial_noise",
    "invert",
    "linear",
    "point",
    "points",
    "posterior",
    "reward_guided",
    "sample",
    "scaled_linear",
    "step",
    "straight",
    "time_grid",
    "trajectory",
    "variational_bound",
    "zero_terminal_snr",
]
