"""The checks, in the order of cause and effect: what is wrong first explains what follows.

Each measures one number. The intervals come from the trainings on digits that
`experiments.broken_runs` recorded: they lie between the sound runs and the broken ones.
"""

from collections.abc import Iterable
from math import inf
from statistics import fmean as mean

import torch
from torch import Tensor

from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import NotVisible, check
from course_lib.teaching.diagnosis.listen import CPU, Call
from course_lib.training.seeding import seeded

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
    remedy="Keep the timestep in float32: bf16 has 8 bits, so 1,000 timesteps become about 380.",
)
def timestep_precision(run: Evidence) -> float:
    """The share of the timesteps above 256 that rounding to bf16 leaves unchanged."""
    timestep = run.training.timestep.float()
    large = timestep[timestep > 256]
    return (large.bfloat16().float() == large).float().mean().item() if len(large) else 0.0


# ---- the optimiser and the average ---------------------------------------------------------------


@check(
    "largest loss",
    *(0, 1.5),
    mistake="learning rate too high",
    line="the loss, averaged over 10 steps, rose to {:.2g} times its first value",
    remedy="Divide the learning rate by 10, or warm it up; 1e-3 is a usual value for Adam.",
)
def largest_loss(run: Evidence) -> float:
    """The largest mean loss of ten steps in a row, as a multiple of the first step's."""
    windows = run.losses.unfold(0, min(10, len(run.losses)), 1).mean(1)
    return (windows.max() / run.losses[0]).item()


@check(
    "gradients",
    *(0, 0),
    mistake="a part gets no gradient",
    line="the optimiser has seen no gradient at all for {:.0%} of the parameter tensors",
    remedy="Look for detach(), no_grad() or a part that the loss doesn't use.",
)
def gradients(run: Evidence) -> float:
    """The share of the optimiser's averages of gradients that are all 0 (or not finite)."""
    return mean([not (x.isfinite().all() and x.any()) for x in run.gradients.values()])


@check(
    "EMA used",
    *(1e-9, inf),
    mistake="EMA unused",
    line="the averaged weights differ from the last ones by {:.1g} of their size",
    remedy="Sample from an average of the weights: decay 0.99 for hundreds of steps.",
)
def ema_used(run: Evidence) -> float:
    """The relative distance between the average and the last weights: 0 without an average."""
    return lag(run.weights, run.average)


@check(
    "EMA lag",
    *(0, 0.05),
    mistake="EMA too slow",
    line="the averaged weights differ from the last ones by {:.2g} of their size",
    remedy="The average covers about 1 / (1 - decay) steps; take at most a tenth of the training.",
)
def ema_lag(run: Evidence) -> float:
    """The same distance: large if the average still holds the initial weights."""
    return lag(run.weights, run.average)


def lag(weights: dict[str, Tensor], average: dict[str, Tensor]) -> float:
    """|average - weights| / |weights|, over all parameters."""
    apart = sum((average[name] - weights[name]).square().sum() for name in weights)
    return (apart / sum(w.square().sum() for w in weights.values())).sqrt().item()


# ---- the condition -------------------------------------------------------------------------------


REPEATS = 2  # noises and times for each batch


@check(
    "condition used",
    *(3, inf),
    mistake="captions shuffled",
    line="the true captions lower the loss by {:.1f} standard errors, compared with others",
    remedy="Look at a batch: caption i must describe picture i. Shuffle pairs, not captions.",
)
def condition_used(run: Evidence) -> float:
    """By how much the loss rises if each picture gets another's caption, in standard errors."""
    loss = run.part("loss")
    gains = []
    for seed in range(REPEATS * len(run.batches)):
        losses = []
        for shift in (0, 1):
            with seeded(seed, 0, CPU), torch.no_grad():
                losses.append(loss(run.model, rolled(run.batches[seed // REPEATS], shift)))
        gains.append(losses[1] - losses[0])
    gains = torch.stack(gains).double()
    return (gains.mean() / gains.std() * len(gains) ** 0.5).item()


def rolled(data, shift: int):
    """The batch with its captions moved on by `shift` pictures."""
    if isinstance(data, Tensor) or len(data) < 2 or not isinstance(data[1], Tensor):
        raise NotVisible("the batches hold no conditions")
    return type(data)([data[0], data[1].roll(shift, 0), *data[2:]])


@check(
    "null condition",
    *(0.01, inf),
    mistake="conditions never dropped",
    line="the condition that guidance subtracts is {:.1%} of those in the training",
    remedy="Replace the condition by the null condition in about 10 % of the training samples.",
)
def null_condition(run: Evidence) -> float:
    """How often the loss passes the condition that the sampler passes most often."""
    values, counts = conditions(run.sampling.calls).unique(dim=0, return_counts=True)
    null, share = values[counts.argmax()], counts.max() / counts.sum()
    if share < 0.3:
        raise NotVisible("the sampler uses no guidance")
    seen = conditions(call for call, _ in run.calls)
    return (seen - null).abs().amax(1).lt(1e-4).double().mean().item()


def conditions(calls: Iterable[Call]) -> Tensor:
    """The conditions of these calls, one in each row: (N, 1) labels or (N, L * D)."""
    contexts = [call.context for call in calls]
    if contexts[0] is None:
        raise NotVisible("the network has no condition")
    return torch.cat(contexts).reshape(sum(map(len, contexts)), -1).double()


# ---- the sampler, on a network that knows that all data is 0 -------------------------------------


@check(
    "sampler variance",
    *(0.9, 1.1),
    mistake="wrong variance",
    line="half-way, the sampler's x is {:.2f} times as large as its noise level says",
    remedy="The fresh noise is multiplied by the standard deviation, the root of the variance.",
)
def sampler_variance(run: Evidence) -> float:
    """The median over the sampler's calls of |x| / sigma."""
    return run.sampling.level.median().item()


@check(
    "sampler timestep",
    *(0.96, 1.04),
    mistake="timestep off by one",
    line="at the sampler's last call, x is {:.3f} times as large as its timestep says",
    remedy="Pass the timestep that belongs to x. If the loss counts from 0, so must the sampler.",
)
def sampler_timestep(run: Evidence) -> float:
    """|x| / sigma at the smallest timestep, where one step matters most."""
    return run.sampling.level[run.sampling.timestep.argmin()].item()


@check(
    "noise at the end",
    *(0, 0.03),
    mistake="noise at the last step",
    line="with perfect predictions, the samples still differ by {:.3f} of the data's spread",
    remedy="The last step returns the predicted x0: multiply its noise by 0.",
)
def noise_at_the_end(run: Evidence) -> float:
    """The spread of samples that should all be equal, relative to the data's."""
    result = run.sampling.result
    return (result.std(0).square().mean().sqrt() / run.x0.std()).item()


@check(
    "mode",
    *(0, 0),
    mistake="sampled in train mode",
    line="{:.0%} of the sampler's calls find the network in train mode",
    remedy="Call model.eval() before sampling: in train mode, dropout adds noise.",
)
def mode(run: Evidence) -> float:
    """The share of the sampler's calls in train mode."""
    return mean([call.training for call in run.sampling.calls])


# ---- the samples, and what the network learned ---------------------------------------------------


@check(
    "copies",
    *(0, 0.25),
    mistake="ten pictures memorised",
    line="{:.0%} of the samples are nearer to a training picture than training pictures are",
    remedy="Use more pictures, augment them, or stop earlier.",
)
def copies(run: Evidence) -> float:
    """The share of samples nearer to a training picture than nearly all other training pictures.

    The limit is the distance below which 5 % of the training pictures have another one.
    """
    if run.samples.shape[1:] != run.x0.shape[1:]:
        raise NotVisible("the samples have another shape than the data")
    training = run.x0.unique(dim=0)
    among = nearest_neighbours(training, training, k=2)[0][:, 1]
    nearest = nearest_neighbours(run.samples, training)[0][:, 0]
    return (nearest < among.quantile(0.05)).double().mean().item()


@check(
    "loss",
    *(0, 0.85),
    mistake="nothing learned",
    line="the loss is {:.2f} of what the best constant prediction has",
    remedy="First fit a single batch; if that fails, look at the target and the network.",
)
def loss_floor(run: Evidence) -> float:
    """The averaged model's squared error, as a share of that of the best constant."""
    errors, floors = errors_and_floors(run)
    return (errors.nanmean() / floors.nanmean()).item()


def errors_and_floors(run: Evidence) -> tuple[Tensor, Tensor]:
    """Squared errors of the network and of the best constant, for each sample: (N,) each."""
    targets = torch.cat([target for _, target in run.calls])
    errors = torch.cat([call.prediction for call, _ in run.calls]) - targets
    constant = targets.nanmean(0)
    return tuple(x.square().flatten(1).mean(1) for x in (errors, targets - constant))


BANDS = 8  # of the timesteps, with equally many samples


def loss_by_timestep(run: Evidence) -> list[float]:
    """What the network leaves of the target's variance, in eight bands of the timestep."""
    timestep = torch.cat([call.timestep for call, _ in run.calls])
    errors, floors = errors_and_floors(run)
    bands = zip(*(x[timestep.argsort()].chunk(BANDS) for x in (errors, floors)), strict=True)
    return [(error.nanmean() / floor.nanmean()).item() for error, floor in bands]


@check(
    "loss by timestep",
    *(0, 1.1),
    mistake="worse than a constant at some noise level",
    line="in the worst of eight bands of the timestep, the loss is {:.2f} of a constant's",
    remedy="Plot the loss against the timestep, and look at that band's inputs and targets.",
)
def worst_band(run: Evidence) -> float:
    """The largest of the eight numbers; those of sound runs on digits end at 0.83."""
    return max(loss_by_timestep(run))
