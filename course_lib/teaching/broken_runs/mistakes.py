"""One mistake each: subclasses of the sound training that change one line of it."""

from math import sqrt

import torch
from torch import nn

from course_lib.diffusion import Diffusion, drop_condition, linear, step
from course_lib.diffusion.samplers import step_std
from course_lib.teaching.broken_runs.sound_run import SoundRun
from course_lib.training import EMA, Optimizer


class DataInZeroToOne(SoundRun):
    def scaled(self, x):
        return (x + 1) / 2  # the mistake


class LatentsNotScaled(SoundRun):
    latent = True

    def scaled(self, x):
        return x - self.mean  # the mistake: not divided by self.std


class LatentMeanKept(SoundRun):
    latent = True

    def scaled(self, x):
        return x / self.std  # the mistake: self.mean is not subtracted


class TenPictures(SoundRun):
    steps = 500

    def batch(self, index):
        chosen = torch.randint(10, (self.batch_size,))  # the mistake: not len(self.x0)
        return self.x0[chosen], self.labels[chosen]


class CaptionsShuffled(SoundRun):
    def batch(self, index):
        x0, labels = super().batch(index)
        return x0, labels[torch.randperm(len(labels))]  # the mistake


class BetasForThousand(SoundRun):
    process = Diffusion(linear(100, beta_start=1e-4, beta_end=0.02), "eps")  # the mistake


class TimestepInZeroToOne(SoundRun):
    def loss(self, model, data):
        x0, labels = data
        labels = drop_condition(labels, self.null, self.dropped)

        def network(x, timestep, context):
            return model(x, timestep / 100, context)  # the mistake: the sampler doesn't divide

        return self.process.loss(network, x0, labels)


class TimestepInBf16(SoundRun):
    process = Diffusion(linear(1000), "eps")

    def loss(self, model, data):
        x0, labels = data
        labels = drop_condition(labels, self.null, self.dropped)

        def network(x, timestep, context):
            return model(x, timestep.bfloat16().float(), context)  # the mistake

        return self.process.loss(network, x0, labels)


class ConditionsNeverDropped(SoundRun):
    dropped = 0.0  # the mistake: guidance needs 0.1 or so


class RateTooHigh(SoundRun):
    optimizer = Optimizer(lr=0.1, warmup=0)  # the mistake: 50 times too high


class EMAUnused(SoundRun):
    ema = 0.0  # the mistake


class PlainEMA(EMA):
    """An average without the course's warm-up."""

    @torch.no_grad()
    def update(self, model, step):
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - self.decay)


class EMATooSlow(SoundRun):
    def train(self, folder=None):
        run = super().train(folder)
        run.average = PlainEMA(run.model, 0.9999)  # the mistake: it averages 10,000 steps
        return run


class TimestepOffByOne(SoundRun):
    def samples(self, model, count=128):
        class Late(nn.Module):
            def forward(self, x, timestep, context):
                return model(x, timestep + 1, context)  # the mistake: the loss passes 0 to 99

        return super().samples(Late(), count)


def noise_to_the_end(predict, x, t, s, history, noise):
    x0, eps = predict(x, t)
    std = step_std(t, s, 1.0) if s.sigma else t.sigma  # the mistake: the last step adds noise, too
    return step(x0, eps, t, s, 1.0) + std * noise()


class NoiseAtTheEnd(SoundRun):
    sampler, sampler_steps = staticmethod(noise_to_the_end), 25


def variance_as_std(predict, x, t, s, history, noise):
    x0, eps = predict(x, t)
    variance = step_std(t, s, 1.0) ** 2
    return s.alpha * x0 + sqrt(s.sigma**2 - variance) * eps + variance * noise()  # the mistake


class VarianceForStd(SoundRun):
    sampler = staticmethod(variance_as_std)


class SampledInTrainMode(SoundRun):
    dropout = 0.2

    def samples(self, model, count=128):
        return super().samples(model.train(), count)  # the mistake: left over from training


MISTAKES: dict[str, type[SoundRun]] = {
    "data from 0 to 1": DataInZeroToOne,
    "latents not scaled": LatentsNotScaled,
    "latent mean not removed": LatentMeanKept,
    "betas for 1,000 steps used with 100": BetasForThousand,
    "timestep on another scale": TimestepInZeroToOne,
    "timestep in bf16": TimestepInBf16,
    "learning rate too high": RateTooHigh,
    "EMA unused": EMAUnused,
    "EMA too slow": EMATooSlow,
    "captions shuffled": CaptionsShuffled,
    "conditions never dropped": ConditionsNeverDropped,
    "timestep off by one": TimestepOffByOne,
    "noise at the last step": NoiseAtTheEnd,
    "wrong variance": VarianceForStd,
    "sampled in train mode": SampledInTrainMode,
    "ten pictures memorised": TenPictures,
}
