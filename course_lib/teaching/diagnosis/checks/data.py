"""The data, and how the loss uses the noise and the timestep."""

from math import inf

from torch import Tensor

from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import NotVisible, check

# ---- the data ----------------------------------------------------------------------------------


@check(
    "data range",
    *(-inf, -0.2),
    mistake="data from 0 to 1",
    line="the smallest number in the data is {:.2f}",
    remedy="Map the pictures to [-1, 1], as the noise is centred on 0: 2 * x - 1.",
)
def data_range(run: Evidence) -> float:
    """Where the data begins: -1 for pictures, about -4 for latents."""
    return run.x0.min().item()


def channels(x0: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of latents: (C,) each."""
    if x0.shape[1] in (1, 3):
        raise NotVisible("the data has the channels of pictures, not of latents")
    return x0.mean((0, 2, 3)), x0.std((0, 2, 3))


@check(
    "latent scale",
    *(-0.3, 0.3),
    mistake="latents not scaled",
    line="the logarithm of a latent channel's standard deviation is {:.2f}, the farthest from 0",
    remedy="Divide each channel by its standard deviation (scaling_factor), and undo it to decode.",
)
def latent_scale(run: Evidence) -> float:
    """The spread of the channel that is farthest from 1, as its logarithm."""
    logs = channels(run.x0)[1].log()
    return logs[logs.abs().argmax()].item()


@check(
    "latent mean",
    *(0, 0.25),
    mistake="latent mean not removed",
    line="a latent channel's mean is {:.2f} standard deviations away from 0",
    remedy="Subtract each channel's mean (shift_factor) before scaling, and add it to decode.",
)
def latent_mean(run: Evidence) -> float:
    """The largest mean of a channel, in its standard deviations."""
    mean, std = channels(run.x0)
    return (mean / std).abs().max().item()


# ---- the noise and the timestep, as the loss uses them -------------------------------------------


@check(
    "terminal noise",
    *(0, 0.2),
    mistake="betas for 1,000 steps used with 100",
    line="at the largest timestep, {:.3f} of the data is left",
    remedy="Samplers start from pure noise: use betas that end near alpha = 0 for your step count.",
)
def terminal_noise(run: Evidence) -> float:
    """alpha at the noisy end of the training."""
    return run.training.alpha.min().item()


@check(
    "timestep scale",
    *(0.5, 2),
    mistake="timestep on another scale",
    line="the sampler's largest timestep is {:.3g} times that of the training",
    remedy="Pass the same timestep in the loss and in the sampler, for example 0 to 999.",
)
def timestep_scale(run: Evidence) -> float:
    """The sampler's largest timestep, as a multiple of the loss's."""
    return (run.sampling.timestep.max() / run.training.timestep.max()).item()


@check(
    "timestep precision",
    *(0, 0.9),
    mistake="timestep in bf16",
    line="{:.0%} of the timesteps above 256 are numbers that bf16 can hold",
    remedy="Keep the timestep in float32: bf16 has 8 bits, so 1,000 timesteps become 507.",
)
def timestep_precision(run: Evidence) -> float:
    """The share of the timesteps above 256 that rounding to bf16 leaves unchanged."""
    timestep = run.training.timestep.float()
    large = timestep[timestep > 256]
    return (large.bfloat16().float() == large).float().mean().item() if len(large) else 0.0
