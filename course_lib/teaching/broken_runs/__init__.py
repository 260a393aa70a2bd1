"""Small trainings with one mistake each, and sound ones to compare with: the cases of chapter 18.

    case = make("data from 0 to 1", "digits", seed=0)
    for step in case.train("outputs/case"):
        ...

`SoundRun` has the parts of a recipe (model, batch, loss, samples), each a few lines long. A mistake
is a subclass that changes one of those lines. `experiments.broken_runs` trains them all.

data         the pictures, and the simplest autoencoder
sound_run    a sound training
mistakes     one mistake each
"""

from collections.abc import Callable

from course_lib.common.registry import choose
from course_lib.diffusion import Diffusion, linear, straight
from course_lib.teaching.broken_runs.data import decode, encode, pictures
from course_lib.teaching.broken_runs.mistakes import MISTAKES
from course_lib.teaching.broken_runs.sound_run import SoundRun
from course_lib.training import Optimizer


def sound(**changes) -> type[SoundRun]:
    """A sound training with other settings."""
    return type("SoundRun", (SoundRun,), changes)


FLOW = Diffusion(straight(), "flow")
SOUND: dict[str, type[SoundRun]] = {
    "sound": SoundRun,
    "sound, 1,000 timesteps": sound(process=Diffusion(linear(1000), "eps")),
    "sound, cosine schedule": sound(process=Diffusion("cosine", "eps")),
    "sound, v-prediction": sound(process=Diffusion("cosine", "v")),
    "sound, x0-prediction": sound(process=Diffusion("cosine", "x0")),
    "sound, flow matching": sound(process=FLOW, sampler="ddim"),
    "sound, scaled-linear schedule": sound(process=Diffusion("scaled_linear", "eps")),
    "sound, latents": sound(latent=True),
    "sound, latents and flow matching": sound(latent=True, process=FLOW, sampler="heun"),
    "sound, lower learning rate": sound(optimizer=Optimizer(lr=1e-3, warmup=20)),
    "sound, higher learning rate": sound(optimizer=Optimizer(lr=5e-3, warmup=20)),
    "sound, constant learning rate": sound(optimizer=Optimizer(warmup=20, decay="constant")),
    "sound, Muon": sound(optimizer=Optimizer("muon", lr=2e-3, warmup=20)),
    "sound, shorter": sound(steps=180),
    "sound, longer": sound(steps=400),
    "sound, smaller network": sound(network=SoundRun.network | dict(channels=8)),
    "sound, larger network": sound(network=SoundRun.network | dict(channels=24)),
    "sound, batches of 16": sound(batch_size=16, steps=350),
    "sound, dropout": sound(dropout=0.1),
    "sound, no guidance": sound(scale=1.0),
    "sound, min-SNR": sound(process=Diffusion("cosine", "v"), weighting="min_snr"),
    "sound, faster EMA": sound(ema=0.9),
    "sound, DPM-Solver++": sound(sampler="dpm++2m"),
    "sound, all 100 steps": sound(sampler_steps=100),
}
CASES: dict[str, Callable[..., SoundRun]] = MISTAKES | SOUND


def make(case: str, data: str = "digits", seed: int = 0) -> SoundRun:
    """The training of that name, on digits or emoji.

    ValueError for an unknown case or data.

    >>> make("sound").process
    Diffusion(Table(T=100, betas 0.001 ... 0.2), 'eps')
    """
    return choose("case", case, CASES)(data, seed)


__all__ = [
    "CASES",
    "MISTAKES",
    "SOUND",
    "SoundRun",
    "decode",
    "encode",
    "make",
    "pictures",
    "sound",
]
