"""The sampler, and its samples."""

from statistics import fmean as mean

from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import NotVisible, check

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


# ---- the samples ---------------------------------------------------------------------------------


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
