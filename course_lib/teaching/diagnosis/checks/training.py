"""The optimiser, the average of the weights, and the condition."""

from collections.abc import Iterable
from math import inf
from statistics import fmean as mean

import torch
from torch import Tensor

from course_lib.teaching.diagnosis.calls import CPU, Call
from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import NotVisible, check
from course_lib.training.seeding import seeded

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
    remedy="Look at a batch: caption i must describe picture i. A short run must go on first.",
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
