"""What the network has learned: symptoms, where no check before has found a cause."""

import torch
from torch import Tensor

from course_lib.teaching.diagnosis.evidence import Evidence
from course_lib.teaching.diagnosis.finding import check


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
