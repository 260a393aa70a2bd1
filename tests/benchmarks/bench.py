"""`make bench`: the speed of the course's code and of its peers, in RESULTS.md and results.json.

    make bench                        # a quarter of an hour; the part "drawing" compiles
    make bench ARGS=--large           # with Stable Diffusion 1.5's U-Net: needs 4 GB more
    make bench ARGS="samplers data"   # only these parts, printed but not written

If there is a GPU, everything runs on it, and the files are RESULTS-cuda.md and results-cuda.json.
With `pip install denoising-diffusion-pytorch` in the same environment, its U-Net is timed, too.

Each comparison first checks that both sides give the same output. Then it does the same work with
the same weights in one process, alternating between ours and theirs. A ratio is their time divided
by ours, so above 1 we are faster. The page shows the median of the pairs' ratios, and the
interquartile range.
"""

import copy
import functools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import diffusers
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from course_lib.cli.cost_check import check
from course_lib.common.cuda_graphs import Captured, CudaGraphs, worth_capturing
from course_lib.common.devices import fast_precision, hardware, pick_device
from course_lib.common.registry import choose
from course_lib.datasets.scenes import Scenes
from course_lib.diffusion import Diffusion, guided, sample, trajectory
from course_lib.models import SD15_UNET, UNet
from course_lib.pipelines import text_to_image
from course_lib.pipelines.stable_diffusion import times
from course_lib.pipelines.stable_diffusion.key_map import DIFFUSERS, renamed
from course_lib.recipes import RECIPES, load_pipeline
from course_lib.training import Optimizer, Scale, train
from course_lib.training.scale.cost import SavedBytes, repeat_step, shortest_time
from course_lib.training.scale.recompute import blocks

PAIRS = 7
FOLDER = Path(__file__).parent
DEVICE = pick_device("cuda" if torch.cuda.is_available() else "cpu")
ROWS: list[dict] = []
torch.backends.cudnn.allow_tf32 = False  # so that float32 means float32
torch.manual_seed(0)


# ---- measuring ---------------------------------------------------------------------------------


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call; on a GPU, the time between two events."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(
    what: str, ours: Callable, theirs: Callable, goal: float, pairs: int = PAIRS, per: int = 1
) -> None:
    """Time both alternately, after two warm-up rounds, and add a row; `per` divides the times."""
    taken = []
    for round_ in range(pairs + 2):
        pair = seconds(ours), seconds(theirs)
        taken += [pair] * (round_ > 1)
    ratios = [b / a for a, b in taken]
    low, _, high = quantiles(ratios, n=4)
    own, other = (1000 * median(column) / per for column in zip(*taken, strict=True))
    values = dict(ours_ms=own, theirs_ms=other, ratio=median(ratios), low=low, high=high)
    ROWS.append(dict(what=what, goal=goal) | {key: round(x, 3) for key, x in values.items()})
    print(
        f"{what}: {own:.1f} ms, theirs {other:.1f} ms, {median(ratios):.2f} ×, goal {goal}",
        flush=True,
    )


def note(what: str, value: str, goal: str = "") -> None:
    ROWS.append(dict(what=what, value=value, goal=goal))
    print(f"{what}: {value}", flush=True)


def peak_memory(work: Callable[[], object]) -> float:
    """The peak memory of the work, above what was used before, in GB; on a CPU, Linux only."""
    if DEVICE.type == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - held) / 1e9
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current use
    held = resident("VmRSS")
    work()
    return (resident("VmHWM") - held) / 1e9


def resident(which: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{which}:")[1].split()[0])


def same(ours: torch.Tensor, theirs: torch.Tensor, bound: float = 1e-4) -> None:
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert difference < bound, f"not the same work: answers differ by {difference:.2g}"


def twin(
    channels, multipliers, attention, context_dim, layers_per_block=1
) -> tuple[UNet, torch.nn.Module]:
    """Our U-Net and diffusers' conditional one with the same weights, all of them random."""
    keywords = dict(
        channels=channels,
        multipliers=multipliers,
        attention=attention,
        layers_per_block=layers_per_block,
    )
    ours = UNet(4, **keywords, context_dim=context_dim, heads=4).to(DEVICE)
    theirs = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=tuple(channels * m for m in multipliers),
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]],
        layers_per_block=layers_per_block,
        attention_head_dim=4,
        cross_attention_dim=context_dim,
    ).to(DEVICE)
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            other = parameters[renamed(name, DIFFUSERS)]
            other.copy_(parameter.reshape(other.shape))
    return ours, theirs


def plain_twin(channels, multipliers) -> tuple[UNet, torch.nn.Module]:
    """The same for a U-Net without attention and context: diffusers' `UNet2DModel`.

    Below 128 channels they differ in one respect: the number of groups for the joined features.
    """
    none = (False,) * len(multipliers)
    ours = UNet(
        3, channels=channels, multipliers=multipliers, attention=none, layers_per_block=2
    ).to(DEVICE)
    theirs = diffusers.UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(channels * m for m in multipliers),
        down_block_types=["DownBlock2D"] * len(multipliers),
        up_block_types=["UpBlock2D"] * len(multipliers),
        downsample_padding=1,
        norm_num_groups=min(32, channels // 4),
        flip_sin_to_cos=True,
        freq_shift=0,
        add_attention=False,
    ).to(DEVICE)
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            parameters[renamed(name, DIFFUSERS)].copy_(parameter)
    return ours, theirs


# ---- what is compared --------------------------------------------------------------------------


def networks() -> None:
    """Forward and backward, float32 and bf16."""
    latent = dict(channels=128, multipliers=(1, 1), attention=(False, True), context_dim=128)
    larger = dict(channels=128, multipliers=(1, 2, 2), attention=(False, True, True))
    context = torch.randn(64, 24, 128, device=DEVICE)
    for name, (ours, theirs), batch, side, goal in (
        ("latent U-Net, the course's size", twin(**latent), 64, 8, 1.15),
        ("pixel U-Net, the course's size", plain_twin(128, (1, 1)), 8, 32, 1.15),
        ("conditional U-Net, larger", twin(**larger, context_dim=128), 8, 16, 1.0),
    ):
        x = torch.randn(batch, ours.in_channels, side, side, device=DEVICE)
        t = torch.full((batch,), 500.0, device=DEVICE)
        more = (context[:batch],) if ours.context_dim else ()
        with torch.no_grad():
            same(ours(x, t, *more), theirs(x, t, *more).sample)
        size = f"{sum(p.numel() for p in ours.parameters()) / 1e6:.1f} M parameters"
        for precision in ("float32", "bf16"):

            def step(network, x=x, t=t, more=more, bf16=precision == "bf16"):
                with torch.autocast(DEVICE.type, torch.bfloat16, bf16):
                    answer = network(x, t, *more)
                getattr(answer, "sample", answer).float().square().mean().backward()

            what = f"{name} ({size}), forward and backward, {precision}"
            by_us, by_them = (functools.partial(step, network) for network in (ours, theirs))
            compare(what, by_us, by_them, goal)
            ceiling(by_us)
            if DEVICE.type == "cuda":
                compare(f"{what}, CUDA graphs", captured(by_us, ours), by_them, goal)


def captured(work: Callable, network: UNet) -> Callable:
    """The same work, with the network's blocks replayed from CUDA graphs."""
    graphs = CudaGraphs(network, blocks(network))

    def again():
        with graphs:
            return work()

    return again


def training_steps() -> None:
    """Network, loss, optimiser, average; theirs as in diffusers' unconditional example."""
    training_step(channels=128, batch=16, side=32)
    training_step(channels=32, batch=64, side=16)  # as small as the recipes of the digits


def training_step(channels: int, batch: int, side: int) -> None:
    ours, theirs = plain_twin(channels, (1, 1))
    images = torch.rand(batch, 3, side, side) * 2 - 1
    process = Diffusion("linear", "eps")
    precision = fast_precision(DEVICE)
    adamw, scale = Optimizer(lr=1e-4), Scale(precision=precision)
    how = dict(steps=10**6, optimizer=adamw, scale=scale)
    run = train(ours, process.loss, lambda step: images, **how)

    accelerator = Accelerator(mixed_precision=precision, cpu=DEVICE.type == "cpu")
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, 10**6)
    theirs, optimizer, schedule = accelerator.prepare(theirs, optimizer, schedule)
    average = EMAModel(theirs.parameters(), use_ema_warmup=True)
    noising = diffusers.DDPMScheduler()

    def their_step():
        clean = images.to(accelerator.device)
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),), device=clean.device)
        noisy = noising.add_noise(clean, noise, t)
        loss = F.mse_loss(theirs(noisy, t).sample.float(), noise.float())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.step(theirs.parameters())
        return loss.item()

    size = f"{sum(p.numel() for p in ours.parameters()) / 1e6:.1f} M parameters"
    in_ = "float32" if precision == "no" else precision
    what = f"training step, pixel U-Net ({size}), batch {batch} of {side} × {side}, {in_}"
    what += ", CUDA graphs" * bool(run.engine.graphs.places)
    compare(what, run.advance, their_step, 1.3)
    ceiling(run.advance)


def ceiling(work: Callable) -> None:
    """The largest possible speed-up over theirs, on a CPU, for the work just compared."""
    if DEVICE.type == "cpu":
        share = share_of_kernels(work)
        most = ROWS[-1]["ratio"] / share
        value = f"{share:.0%}; if all else took no time, the ratio would be about {most:.2f}"
        note("our time in PyTorch's convolutions and products, which theirs calls, too", value)


def share_of_kernels(work: Callable) -> float:
    """The share of the time in kernels that any such network must call."""
    kernels = ["mkldnn_convolution", "convolution_backward", "addmm", "mm", "bmm"]
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    whole = median(seconds(work) for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    times = {event.key: event.self_cpu_time_total for event in seen.key_averages()}  # µs
    names = [f"aten::{name}" for name in (*kernels, attention, f"{attention}_backward")]
    return sum(times.get(name, 0) for name in names) / 1e6 / whole


def samplers() -> None:
    """The samplers' own time: fifty steps with a network that takes no time."""
    x = torch.randn(4, 4, 8, 8, device=DEVICE)
    process = Diffusion("linear", "eps")
    network = lambda x, timestep, context=None: x  # noqa: E731
    for name, sampler, scheduler in (
        ("DDPM", "ancestral", diffusers.DDPMScheduler(clip_sample=False)),
        ("DDIM", "ddim", diffusers.DDIMScheduler(clip_sample=False)),
        ("DPM-Solver++", "dpm++2m", diffusers.DPMSolverMultistepScheduler()),
    ):

        def theirs(scheduler=scheduler):
            scheduler.set_timesteps(50)
            z = x
            for t in scheduler.timesteps:
                z = scheduler.step(network(z, t), t, z).prev_sample

        ours = lambda s=sampler: list(trajectory(process, network, x, steps=50, sampler=s))  # noqa: E731
        compare(f"{name}, 50 steps without a network", ours, theirs, 3.0, pairs=21)


def whole_pipelines() -> None:
    """Twenty guided steps, from context to latent, as in diffusers' pipeline."""
    ours, theirs = twin(128, (1, 1), (False, True), 128)
    for precision in ("float32", "bf16"):
        for batch in (1, 16):
            by_us, by_them = draw_with(ours, theirs, batch, 8, (24, 128), precision)
            compare(f"20 guided steps, batch {batch}, {precision}", by_us, by_them, 1.2)


def draw_with(
    ours, theirs, batch, side, text, precision="bf16", capture=True
) -> tuple[Callable, Callable]:
    """The whole loop with both U-Nets for contexts of shape `text`, checked to agree.

    In bf16 ours works as for users: on a CPU the pipeline converts the weights for each picture, on
    a GPU published weights are loaded in bf16. Theirs are always loaded in bf16.
    """
    null, context = torch.randn(1, *text, device=DEVICE), torch.randn(batch, *text, device=DEVICE)
    noise = torch.randn(batch, 4, side, side, device=DEVICE)
    half = precision == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    scheduler = diffusers.DDIMScheduler(
        **dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        **dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    )
    pipe = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(block_out_channels=(32,), latent_channels=4),
        **dict(text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None),
        **dict(unet=copy.deepcopy(theirs), scheduler=scheduler, requires_safety_checker=False),
    ).to(DEVICE, dtype)
    pipe.set_progress_bar_config(disable=True)
    process = Diffusion("scaled_linear", "eps")
    cuda = DEVICE.type == "cuda"
    ours = copy.deepcopy(ours).to(dtype if cuda else torch.float32)
    own = next(ours.parameters()).dtype
    unet = Captured(ours) if capture and worth_capturing(ours) else ours
    guide, words = guided(unet, null.to(own), 4.0), context.to(own)

    def network(x, timestep, context):
        return guide(x.to(own), timestep, context)

    def by_us():
        fast = torch.autocast(DEVICE.type, torch.bfloat16, half and not cuda)
        with torch.no_grad(), fast:
            return sample(process, network, noise, words, spacing=times(20))

    embeds = dict(prompt_embeds=context, negative_prompt_embeds=null.expand_as(context))
    embeds = {name: each.to(dtype) for name, each in embeds.items()}

    def by_them():
        return pipe(
            **embeds,
            **dict(latents=noise.to(dtype), guidance_scale=4.0, num_inference_steps=20),
            **dict(height=side * pipe.vae_scale_factor, width=side * pipe.vae_scale_factor),
            output_type="latent",
        ).images

    by_them.pipe, by_us.unet = pipe, ours
    same(by_us(), by_them(), 0.2 if half else 1e-3)  # bf16's roundings, through twenty steps
    return by_us, by_them


def compiled() -> None:
    """On a GPU: theirs as they recommend for speed, ours compiled in the same way, and not."""
    size = "Stable Diffusion's size"
    shares(f"{size}, compiled, channels last", UNet(**SD15_UNET), 32, 64, 77, ("bf16",), fast=True)
    fastest(f"20 guided steps of {size}", *published(), 1, 64, (77, 768), goal=1.0)
    small = twin(128, (1, 1), (False, True), 128)
    for batch in (1, 16):
        fastest(f"20 guided steps, batch {batch}", *small, batch, 8, (24, 128), goal=1.2)


def fastest(what: str, ours, theirs, *sizes, goal: float) -> None:
    """diffusers' "Accelerate inference": bf16, channels last, fused projections, compiled."""
    torch.compiler.reset()
    how = dict(mode="reduce-overhead", fullgraph=True)
    plain, _ = draw_with(ours, theirs, *sizes)
    by_us, by_them = draw_with(ours, theirs, *sizes, capture=False)  # the compiler captures
    by_us.unet.to(memory_format=torch.channels_last).compile(**how)
    pipe = by_them.pipe
    pipe.fuse_qkv_projections(vae=False)
    pipe.unet = torch.compile(pipe.unet.to(memory_format=torch.channels_last), **how)
    compare(f"{what}, bf16, both compiled", by_us, by_them, goal)
    compare(f"{what}, bf16, theirs compiled, ours as it is", plain, by_them, goal)


def shipped() -> None:
    """What a reader waits for: pictures from the shipped model, from captions to pixels."""
    model, captions = (
        load_pipeline("scenes-latent", "cpu"),
        [Scenes(64).caption(i) for i in range(64)],
    )
    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(3):
        start = time.perf_counter()
        text_to_image(model, captions, steps=20)
        taken.append(1000 * (time.perf_counter() - start) / len(captions))
    torch.set_num_threads(threads)
    what = "a picture of scenes-latent, 20 guided steps, in a batch of 64, one thread of a CPU"
    note(what, f"{min(taken):.0f} ms", "≤ 70 ms")


def drawing() -> None:
    """Whole pictures: eager, compiled and in ONNX Runtime, beside diffusers' pipeline."""
    from tests.benchmarks.drawing import measure

    measure(compare, note)


def another_unet() -> None:
    """`denoising-diffusion-pytorch`'s U-Net: another architecture, about as many parameters."""
    try:
        from denoising_diffusion_pytorch import Unet
    except ImportError:
        note("denoising-diffusion-pytorch", "not installed; with it there is a row of its U-Net")
        return
    theirs = Unet(64, dim_mults=(1, 2, 4), channels=3).to(DEVICE)
    ours = UNet(
        3, channels=44, multipliers=(1, 2, 4), layers_per_block=2, attention=(False, False, True)
    )
    ours, x = ours.to(DEVICE), torch.randn(8, 3, 32, 32, device=DEVICE)
    t = torch.full((8,), 500.0, device=DEVICE)
    sizes = [sum(p.numel() for p in each.parameters()) / 1e6 for each in (ours, theirs)]
    for precision in ("float32", "bf16"):

        def step(network, bf16=precision == "bf16"):
            with torch.autocast(DEVICE.type, torch.bfloat16, bf16):
                answer = network(x, t)
            answer.float().square().mean().backward()

        what = "pixel U-Net ({:.1f} M parameters) against denoising-diffusion-pytorch's ({:.1f} M)"
        what = f"{what.format(*sizes)}, forward and backward, {precision}"
        compare(what, lambda s=step: s(ours), lambda s=step: s(theirs), 1.15)


def share_of_the_limit() -> None:
    """Floating-point operations per second, relative to those of a large matrix product."""
    shares("scenes-latent", RECIPES["scenes-latent"]().model().unet, 32, 8, 24)
    shares("a larger U-Net", UNet(4, channels=128, context_dim=128), 32, 16, 24)
    if DEVICE.type == "cuda":
        shares("Stable Diffusion's size", UNet(**SD15_UNET), 32, 64, 77, ("bf16",))


def shares(
    name: str, network: UNet, batch: int, side: int, tokens: int,
    precisions=("float32", "bf16"), fast=False,
) -> None:  # fmt: skip
    """Rows for one network; in bf16 a GPU samples with bf16 weights. fast: compiled."""
    cuda, network = DEVICE.type == "cuda", network.to(DEVICE)
    goal = "45 % in bf16 at Stable Diffusion's size" if cuda else "50 % from 15 M parameters"
    x = torch.randn(batch, network.in_channels, side, side, device=DEVICE)
    t = x.new_full((batch,), 500.0)
    context = torch.randn(batch, tokens, network.context_dim, device=DEVICE)

    def training(network=network):
        with torch.autocast(DEVICE.type, torch.bfloat16, half):
            answer = network(x, t, context)
        answer.float().square().mean().backward()

    def sampling():
        dtype = torch.bfloat16 if half and cuda else torch.float32
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, half and not cuda):
            drawing(x.to(dtype), t, context.to(dtype))

    size = f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M, batch {batch}"
    for precision in precisions:
        half = precision == "bf16"
        drawing = copy.deepcopy(network).bfloat16() if half and cuda else network
        a = torch.randn(2 * [8192 if cuda else 2048], device=DEVICE)
        a = a.bfloat16() if half else a
        limit = speed(lambda a=a: a @ a)
        counts = operations(sampling), operations(training)
        if fast:
            x = x.to(memory_format=torch.channels_last)
            for each in (network, drawing):
                each.to(memory_format=torch.channels_last).compile()
        pairs = zip((sampling, training), counts, strict=True)
        found = [speed(work, count) / limit for work, count in pairs]
        what = f"{name} ({size}), {precision}: share of a large matrix product"
        said = "sampling {:.0%}, training {:.0%}"
        note(what, f"{said.format(*found)} of {limit / 1e9:,.0f} GFLOP/s", goal)


def speed(work: Callable, count: int | None = None) -> float:
    """Floating-point operations per second, in the fastest of five calls after a first one."""
    count = operations(work) if count is None else count
    work()
    return count / min(seconds(work) for _ in range(5))


def operations(work: Callable) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def data() -> None:
    scenes, recipe = Scenes(64), RECIPES["scenes-latent"]()
    batch = min(seconds(lambda: scenes.batch(range(64))) for _ in range(5))
    note("speed of drawing scenes", f"{64 / batch:,.0f} per second (64 × 64 pixels)")
    run = recipe.begin(device=DEVICE)
    recipe.pool = 4
    for _ in range(8):
        run.advance()
    step = min(seconds(run.advance) for _ in range(5))
    torch.manual_seed(0)
    waiting = min(seconds(lambda: recipe.batch(9)) for _ in range(5))
    share = run.engine.scale.accumulate * waiting / step
    note("share of a latent training step spent on data", f"{share:.1%}", "< 2 %")


def growth() -> None:
    """How time and saved memory of a forward and backward pass grow with size, as c · size^k."""
    base = dict(batch=16, side=16, width=64, tokens=32)

    def cost_of(batch, side, width, tokens):
        unet = UNet(
            4, channels=width, multipliers=(1, 2), attention=(True, True), context_dim=128
        ).to(DEVICE)
        x, t = torch.randn(batch, 4, side, side, device=DEVICE), torch.zeros(batch, device=DEVICE)
        context, kept = torch.randn(batch, tokens, 128, device=DEVICE), SavedBytes()
        with kept:
            unet(x, t, context)
        return shortest_time(lambda: unet(x, t, context).sum().backward(), 3), kept.bytes

    for name, sizes, expected in (
        ("batch", (8, 16, 32, 64), "1 and 1"),
        ("side", (8, 16, 32), "2 and 2, more where attention dominates"),
        ("width", (64, 128, 256), "2 and 1"),
        ("tokens", (32, 128, 512), "0 to 1 both"),
    ):
        costs = zip(*(cost_of(**base | {name: size}) for size in sizes), strict=True)
        powers = (slope(sizes, each) for each in costs)
        value = "time {:.2f}, memory {:.2f}".format(*powers)
        note(f"a training pass grows with the {name} to the power of", value, expected)
    process, network = Diffusion("straight", "flow"), UNet(4, channels=64).to(DEVICE)
    noise, steps = torch.randn(4, 4, 16, 16, device=DEVICE), (5, 10, 20, 40)
    taken = [shortest_time(lambda n=n: sample(process, network, noise, steps=n), 3) for n in steps]
    note("sampling grows with the steps to the power of", f"time {slope(steps, taken):.2f}", "1")


def slope(sizes, values) -> float:
    """The k of the least-squares fit values = c · sizes^k."""
    x, y = (torch.tensor(each, dtype=torch.float64).log() for each in (sizes, values))
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


def processes() -> None:
    """A training step in two processes with one core each, and in one with two threads."""
    for name in ("scenes-vae", "scenes-latent"):
        torch.set_num_threads(2)
        run = RECIPES[name]().begin(device="cpu")
        run.advance()
        run.advance()
        threads, shared = shortest_time(lambda run=run: repeat_step(run), 5), check(name, 2)
        value = f"{1000 * threads:.0f} ms in two threads, {1000 * shared:.0f} ms in two processes"
        note(f"a step of {name}", f"{value}: {threads / shared:.2f} times")


def imports() -> None:
    def import_time(code: str) -> float:
        command = [sys.executable, "-c", code]
        return min(seconds(lambda: subprocess.run(command, check=True)) for _ in range(5))

    torch_alone = import_time("import torch")
    beyond = import_time("import course_lib.diffusion, course_lib.models") - torch_alone
    note("import of course_lib.diffusion and .models after torch", f"{beyond:.2f} s", "< 0.3 s")
    note("course --help", f"{import_time('import course_lib.cli'):.2f} s, without torch")


def published() -> tuple[UNet, torch.nn.Module]:
    """Both U-Nets at Stable Diffusion 1.5's size, sharing 859,520,964 random weights."""
    with torch.device("meta"):
        ours = UNet(**SD15_UNET)
        theirs = diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    theirs = theirs.to_empty(device=DEVICE).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(float("norm" in name and "weight" in name), 0.02)
    weights = dict(theirs.named_parameters())
    state = {
        name: weights[renamed(name, DIFFUSERS)].reshape(p.shape)
        for name, p in ours.named_parameters()
    }
    ours.load_state_dict(state, assign=True)
    return ours, theirs


def stable_diffusion() -> None:
    """The published size at 64 × 64 latents; for bf16 the weights are converted beforehand."""
    ours, theirs = published()
    on_gpu = [("bf16", torch.bfloat16)] * (DEVICE.type == "cuda")
    for precision, dtype in (("float32", torch.float32), *on_gpu):
        ours, theirs = ours.to(dtype), theirs.to(dtype)
        x = torch.randn(1, 4, 64, 64, device=DEVICE, dtype=dtype)
        context = torch.randn(1, 77, 768, device=DEVICE, dtype=dtype)
        t = torch.tensor([500.0], device=DEVICE)

        def forward(network, inputs=(x, t, context)):
            with torch.inference_mode():
                return network(*inputs)

        same(forward(ours), forward(theirs).sample, 1e-4 if dtype is torch.float32 else 0.1)
        what = f"Stable Diffusion 1.5's U-Net at 64 × 64 latents, {precision}"
        by_us, by_them = (functools.partial(forward, network) for network in (ours, theirs))
        compare(what, by_us, by_them, 1.0)
        peaks = [peak_memory(forward_of) for forward_of in (by_us, by_them) * 3]
        mine, other = max(peaks[::2]), max(peaks[1::2])
        value = f"{mine:.2f} GB in addition to the weights; diffusers {other:.2f} GB"
        note(f"its peak memory, {precision}", value, "no more")


# ---- the page ----------------------------------------------------------------------------------


def page(facts: dict) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"`{facts['command']}` on {facts['machine']}; {facts['versions']}.",
        "Ratio: their time divided by ours; median of alternating pairs, with quartiles.",
        "",
        "| what | ours | theirs | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        if "ratio" in row:
            spread = f"**{row['ratio']:.2f}** ({row['low']:.2f} to {row['high']:.2f})"
            cells = f"{row['ours_ms']:.1f} ms | {row['theirs_ms']:.1f} ms | {spread}"
            lines.append(f"| {row['what']} | {cells} | {row['goal']:g} |")
        else:
            lines.append(f"| {row['what']} | {row['value']} | | | {row['goal']} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    torch.manual_seed(0)
    cuda, large = DEVICE.type == "cuda", [stable_diffusion] * ("--large" in arguments)
    parts = [networks, another_unet, training_steps, samplers, whole_pipelines]
    parts += [share_of_the_limit, data, *large]
    parts += [compiled] if cuda else [shipped, drawing, growth, processes, imports]
    names = [name for name in arguments if name != "--large"]
    try:
        chosen = [choose("part", name, {part.__name__: part for part in parts}) for name in names]
    except ValueError as error:
        raise SystemExit(f"bench: {error}") from None
    for part in chosen or parts:
        part()
    if chosen:
        return
    peers = ("torch", "diffusers", "accelerate")
    facts = {
        "command": "make bench" + f' ARGS="{" ".join(arguments)}"' * bool(arguments),
        "machine": f"{hardware(DEVICE)}, {platform.system()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in peers),
    }
    where = "-cuda" if cuda else ""
    (FOLDER / f"results{where}.json").write_text(
        json.dumps(facts | {"rows": ROWS}, indent=1) + "\n"
    )
    (FOLDER / f"RESULTS{where}.md").write_text(page(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
