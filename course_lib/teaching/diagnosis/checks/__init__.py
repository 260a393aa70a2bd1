"""The checks, in the order of cause and effect: what is wrong first explains what follows.

Each measures one number. The intervals come from the trainings on digits that
`experiments.broken_runs` recorded: they lie between the sound runs and the broken ones.

data        the data, and how the loss uses the noise and the timestep
training    the optimiser, the average of the weights, and the condition
sampling    the sampler, and its samples
learned     what the network has learned
"""

from course_lib.teaching.diagnosis.checks.data import (
    data_range,
    latent_mean,
    latent_scale,
    terminal_noise,
    timestep_precision,
    timestep_scale,
)
from course_lib.teaching.diagnosis.checks.learned import loss_by_timestep, loss_floor, worst_band
from course_lib.teaching.diagnosis.checks.sampling import (
    copies,
    mode,
    noise_at_the_end,
    sampler_timestep,
    sampler_variance,
)
from course_lib.teaching.diagnosis.checks.training import (
    condition_used,
    conditions,
    ema_lag,
    ema_used,
    gradients,
    lag,
    largest_loss,
    null_condition,
)
from course_lib.teaching.diagnosis.finding import Check

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        *(data_range, latent_scale, latent_mean),
        *(terminal_noise, timestep_scale, timestep_precision),
        *(largest_loss, gradients, ema_used, ema_lag),
        *(condition_used, null_condition),
        *(sampler_variance, sampler_timestep, noise_at_the_end, mode),
        *(copies, loss_floor, worst_band),
    )
}

__all__ = [
    "CHECKS",
    "condition_used",
    "conditions",
    "copies",
    "data_range",
    "ema_lag",
    "ema_used",
    "gradients",
    "lag",
    "largest_loss",
    "latent_mean",
    "latent_scale",
    "loss_by_timestep",
    "loss_floor",
    "mode",
    "noise_at_the_end",
    "null_condition",
    "sampler_timestep",
    "sampler_variance",
    "terminal_noise",
    "timestep_precision",
    "timestep_scale",
    "worst_band",
]
