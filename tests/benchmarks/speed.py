"""How much time the design choices save: python tests/benchmarks/speed.py [--compile] [NAME...]

Each comparison runs its variants alternately, in one process, and prints the median time of each
and its ratio to the first. Times from different runs or machines can't be compared.
--compile adds torch.compile's default backend, which takes minutes to warm up on a CPU.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import diffusers
import torch
from diffusers.training_utils import EMAModel

from course_lib.diffusion import Diffusion, trajectory
from course_lib.experiments.study import one_of
from course_lib.models import UNet
from course_lib.models.attention import attend
from course_lib.training import EMA

ROUNDS = 15
torch.manual_seed(0)


def race(title: str, **contenders: Callable[[], object]) -> None:
    times = {name: [] for name in contenders}
    for round_ in range(ROUNDS + 2):  # the first two warm up
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if round_ > 1:
                times[name].append(time.perf_counter() - start)
    print(f"\n{title}, {torch.get_num_threads()} threads")
    first = median(next(iter(times.values())))
    for name, taken in times.items():
        middle = median(taken)
        print(f"  {name.replace('_', ' '):28} {1000 * middle:8.2f} ms {middle / first:6.2f} times")


def unet() -> UNet:
    """A U-Net like that of scenes-latent, with attention at both levels."""
    return UNet(
        in_channels=16, channels=64, multipliers=(1, 2), layers_per_block=1, attention=(True, True),
        heads=2, context_dim=128,
    )  # fmt: skip


def diffusers_twin():
    model = diffusers.UNet2DConditionModel(
        in_channels=16, out_channels=16, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128, attention_head_dim=2, norm_num_groups=16,
    )  # fmt: skip
    return lambda x, timestep, context: model(x, timestep, context).sample


X, TIMESTEP, CONTEXT = torch.randn(64, 16, 8, 8), torch.full((64,), 500.0), torch.randn(64, 24, 128)


def step(network, bf16=False):
    """Forward and backward of one training batch."""

    def run():
        with torch.autocast("cpu", torch.bfloat16, bf16):
            answer = network(X, TIMESTEP, CONTEXT)
        answer.float().square().mean().backward()

    return run


def call(network):
    def run():
        with torch.no_grad():
            network(X, TIMESTEP, CONTEXT)

    return run


def attention() -> None:
    """A fused kernel, the equation written out, and the bf16 kernel that `attend` avoids."""
    q, k, v = (torch.randn(64, 4, 64, 32, requires_grad=True) for _ in range(3))
    half = [x.detach().bfloat16().requires_grad_() for x in (q, k, v)]
    kernel = torch.nn.functional.scaled_dot_product_attention

    def by_hand():
        ((q @ k.mT / 32**0.5).softmax(-1) @ v).sum().backward()

    race(
        "attention (64, 4, 64, 32), forward and backward",
        attend=lambda: attend(q, k, v).sum().backward(),
        by_hand=by_hand,
        attend_in_bf16=lambda: attend(*half).sum().backward(),
        the_kernel_in_bf16=lambda: kernel(*half).sum().backward(),
    )


def average() -> None:
    model = unet()
    ours, theirs, plain = EMA(model), EMAModel(model.parameters()), copy.deepcopy(model)

    @torch.no_grad()
    def one_by_one():
        for kept, new in zip(plain.parameters(), model.parameters(), strict=True):
            kept.mul_(0.999).add_(new, alpha=0.001)

    race(
        "average of the weights",
        ours=lambda: ours.update(model, 1000),
        one_by_one=one_by_one,
        diffusers=lambda: theirs.step(model.parameters()),
    )


def optimizer() -> None:
    def adamw(**how):
        model = unet()
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return torch.optim.AdamW(model.parameters(), **how).step

    race("AdamW", fused=adamw(fused=True), default=adamw(), one_by_one=adamw(foreach=False))


def network() -> None:
    ours, theirs = unet(), diffusers_twin()
    race("U-Net, forward", ours=call(ours), diffusers=call(theirs))
    race("U-Net, forward and backward", ours=step(ours), diffusers=step(theirs))


def precision() -> None:
    model = unet()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    race(
        "U-Net, forward and backward",
        float32=step(model),
        bf16_autocast=step(model, bf16=True),
        channels_last=step(last),
    )


def sampler() -> None:
    """The samplers' own time: twenty steps with a network that takes no time."""
    process, noise = Diffusion("scaled_linear", "eps"), torch.randn(4, 4, 8, 8)
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(20)

    def theirs():
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(x, t, x).prev_sample

    race(
        "DDIM, 20 steps without a network",
        ours=lambda: list(trajectory(process, lambda x, t, c: x, noise, steps=20)),
        diffusers=theirs,
    )


def compiled() -> None:
    model = unet()
    fast = torch.compile(model)
    race("torch.compile, forward", eager=call(model), compiled=call(fast))
    race("torch.compile, forward and backward", eager=step(model), compiled=step(fast))


BENCHMARKS = [attention, average, optimizer, network, precision, sampler]

if __name__ == "__main__":
    known = {each.__name__: each for each in BENCHMARKS}
    parser = argparse.ArgumentParser(prog="speed.py", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", type=one_of("benchmark", known), default=list(known))
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: minutes")
    given = parser.parse_args()
    for benchmark in [known[name] for name in given.names] + [compiled] * given.compile:
        benchmark()
