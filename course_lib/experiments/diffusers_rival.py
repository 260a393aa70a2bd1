"""A rival of `scenes-latent` built from diffusers' and transformers' networks, on the same job.

    python -m course_lib.experiments.diffusers_rival "lr 1e-4" 0        # 10 minutes each: also
    python -m course_lib.experiments.diffusers_rival "lr 3e-4" 0        # choose the learning rate
    python -m course_lib.experiments.diffusers_rival "lr 1e-3" 0
    python -m course_lib.experiments.diffusers_rival "45 minutes" 0     # with the best of the three
    python -m course_lib.experiments.diffusers_rival scenes-latent 0    # ours: about 35 minutes
    python -m course_lib.experiments.diffusers_rival --minutes          # the table

Nothing else may run on the machine. Both use one process with two threads, and minutes are steps
times the median time of a step (`budget.Clock`); what the steps really took is recorded as well.
Grading takes about 2 minutes for each snapshot of the rival, 1 of ours, and doesn't count. A run
that was stopped starts over.

**What diffusers' example does** (examples/text_to_image/train_text_to_image.py). AdamW with betas
(0.9, 0.999), weight decay 0.01 and gradients clipped at a norm of 1; a warm-up of 500 steps to a
constant learning rate; DDPM's 1,000 noise levels of Stable Diffusion (scaled_linear), uniform
timesteps and the mean squared error of ε; `EMAModel` with its defaults; mixed precision where it is
faster. Each batch is encoded when it is needed, with a sample of q(z | x). Its autoencoder is
trained as in examples/research_projects/autoencoderkl: squared error and 1e-6 times the KL, both
summed over an image.

**What was added or changed.** The example fine-tunes Stable Diffusion; here all three networks
start from random weights. So the autoencoder trains first, for as long as ours does (or for a
quarter of ten minutes), without LPIPS, whose network must be downloaded, and without a
discriminator, which would begin at step 50,001. Then `scaling_factor` is fitted. The text encoder
trains with the U-Net, and a tenth of the captions is dropped, for guidance. The mixture of scenes,
the tokenizer and the pictures in a step (32 for the autoencoder, 64 for the U-Net) are ours. The
averaged weights draw with 20 steps of DDIM with η = 1, which is our sampler, too, and with the best
of three guidance scales at each snapshot; our own scale is fixed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.devices import autocast, fast_precision
from course_lib.common.registry import choose
from course_lib.diffusion import drop_condition, generators, initial_noise
from course_lib.evaluation.prompts import Draw
from course_lib.experiments.budget import Clock, shares
from course_lib.experiments.study import Outcome, Study
from course_lib.models import CLIP, AutoencoderKL, Tokenizer
from course_lib.recipes.scenes import ScenesLatent, ScenesRecipe, ScenesVAE
from course_lib.teaching.results import Result, load_results, result_path
from course_lib.training.scale.engine import make_accelerator
from course_lib.training.seeding import seeded

NAME, OURS, LONG = "diffusers_rival", "scenes-latent", "45 minutes"
RATES = {"lr 1e-4": 1e-4, "lr 3e-4": 3e-4, "lr 1e-3": 1e-3}
SNAPSHOTS = 10, 20, 30, 45  # minutes; the trials of the learning rate have only the first
OURS_AT = range(10, 46, 2)
VAE_SHARE = 1 / 4  # of the ten minutes of a trial
CAPTIONS = 64  # of each kind and split, 384 in all: a share of 0.5 is known to ± 0.05
SCALES = 2.5, 5.0, 7.5  # of guidance
WARMUP, KL_WEIGHT = 500, 1e-6
SCALED = 1000  # pictures to which `scaling_factor` is fitted
SHOWN = 8  # captions whose samples are kept
OUTPUTS = Path("outputs") / NAME
CPU = torch.device("cpu")


def peers():
    """The modules diffusers and transformers; RuntimeError where they are not installed."""
    try:
        import diffusers
        import transformers
    except ImportError as error:
        how = "pip install -c constraints.txt -e '.[dev]'"
        raise RuntimeError(f"the rival needs diffusers and transformers: {how}") from error
    return diffusers, transformers


# ---- the networks ------------------------------------------------------------------------------


def autoencoder() -> nn.Module:
    """AutoencoderKL with Stable Diffusion's four levels: (3, 64, 64) <-> (12, 8, 8)."""
    diffusers, _ = peers()
    return diffusers.AutoencoderKL(
        block_out_channels=(24, 48, 96, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=12,
        norm_num_groups=8,
        sample_size=64,
    )


class Denoiser(nn.Module):
    """UNet2DConditionModel and CLIPTextModel: `prediction = denoiser(x, timestep, ids)`."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        diffusers, transformers = peers()
        self.unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=12,
            out_channels=12,
            block_out_channels=(128, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=4,  # diffusers' name for the number of heads
            cross_attention_dim=128,
        )
        text = transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.length,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=tokenizer.start,
            eos_token_id=tokenizer.end,
            pad_token_id=tokenizer.end,
        )
        self.text_encoder = transformers.CLIPTextModel(text)

    def context(self, ids: Tensor) -> Tensor:
        return self.text_encoder(ids)[0]  # (B, L, 128)

    def forward(self, x: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        return self.unet(x, timestep, self.context(ids)).sample  # (B, 12, 8, 8)


# ---- what is minimised -------------------------------------------------------------------------


def noise_scheduler():
    """Stable Diffusion's noise levels."""
    diffusers, _ = peers()
    betas = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return diffusers.DDPMScheduler(num_train_timesteps=1000, clip_sample=False, **betas)


def autoencoder_loss(vae: nn.Module, images: Tensor) -> Tensor:
    """Squared error + 1e-6 · KL, each summed over an image."""
    posterior = vae.encode(images).latent_dist
    again = vae.decode(posterior.sample()).sample
    error = (again.float() - images).square().sum() / len(images)
    return error + KL_WEIGHT * posterior.kl().sum() / len(images)


def noise_loss(denoiser: nn.Module, x0: Tensor, ids: Tensor, scheduler) -> Tensor:
    """The mean squared error of ε at random timesteps."""
    noise = torch.randn_like(x0)
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(x0),))
    noisy = scheduler.add_noise(x0, noise, timesteps)
    return F.mse_loss(denoiser(noisy, timesteps, ids).float(), noise)


# ---- the loop ----------------------------------------------------------------------------------


class Example:
    """The loop of diffusers' example: `advance()` takes a step.

    batch(index) are the data of a step, and loss(network, data) its loss, in mixed precision.
    """

    def __init__(self, network: nn.Module, loss: Callable, batch: Callable, lr: float, seed: int):
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.loss, self.batch, self.seed, self.done = loss, batch, seed, 0
        self.accelerator = make_accelerator(CPU, fast_precision(CPU))
        optimizer = torch.optim.AdamW(network.parameters(), lr, (0.9, 0.999), weight_decay=1e-2)
        schedule = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=WARMUP)
        prepared = self.accelerator.prepare(network.train(), optimizer, schedule)
        self.network, self.optimizer, self.schedule = prepared
        self.average = EMAModel(network.parameters())

    def advance(self) -> None:
        with seeded(self.seed, self.done, CPU), self.accelerator.autocast():
            loss = self.loss(self.network, self.batch(self.done))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())
        self.done += 1

    def averaged(self, work: Callable):
        """The result of `work()` while the network has its averaged weights, without gradients."""
        weights = list(self.network.parameters())
        self.average.store(weights)
        self.average.copy_to(weights)
        self.network.eval()
        try:
            with torch.no_grad():
                return work()
        finally:
            self.network.train()
            self.average.restore(weights)


def seeded_network(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def train_autoencoder(lr: float, seed: int, minutes: float, data: ScenesRecipe):
    """The autoencoder with averaged weights and fitted `scaling_factor`, and the clock."""
    vae, clock = seeded_network(autoencoder, seed), Clock()
    training = Example(vae, autoencoder_loss, lambda index: data.pairs(index)[0], lr, seed)
    while clock.minutes < minutes:
        clock.time(training.advance)
    training.average.copy_to(vae.parameters())
    vae.eval().requires_grad_(False)
    images = data.data.batch(range(SCALED))[0]
    with torch.no_grad():
        z = torch.cat([vae.encode(some).latent_dist.mode() for some in images.split(100)])
    vae.register_to_config(scaling_factor=1 / z.std().item())
    return vae, clock


def latents(vae: nn.Module, images: Tensor) -> Tensor:
    """Samples of q(z | x), scaled: (B, 12, 8, 8)."""
    with torch.no_grad(), autocast(CPU):
        return (vae.encode(images).latent_dist.sample() * vae.config.scaling_factor).float()


# ---- drawing and grading -----------------------------------------------------------------------


def pipeline(vae: nn.Module, denoiser: Denoiser):
    """diffusers' pipeline of these networks; it is given contexts, so it needs no tokenizer."""
    diffusers, _ = peers()
    scheduler = diffusers.DDIMScheduler.from_config(
        noise_scheduler().config, set_alpha_to_one=False, steps_offset=1
    )
    made = diffusers.StableDiffusionPipeline(
        **dict(vae=vae, unet=denoiser.unet, text_encoder=denoiser.text_encoder),
        **dict(tokenizer=None, scheduler=scheduler, safety_checker=None, feature_extractor=None),
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def drawing(pipe, tokenizer: Tokenizer, scale: float, steps: int = 20) -> Draw:
    """The function (captions, seeds) -> pictures that samples with the pipeline."""

    def draw(captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
        draws = generators(seeds)
        null, context = (
            pipe.text_encoder(tokenizer(text))[0] for text in ([""] * len(captions), captions)
        )
        with torch.no_grad(), autocast(CPU):
            images = pipe(
                **dict(prompt_embeds=context, negative_prompt_embeds=null),
                **dict(latents=initial_noise(draws, (12, 8, 8)), generator=draws, eta=1.0),
                **dict(guidance_scale=scale, num_inference_steps=steps, output_type="pt"),
                **dict(height=64, width=64),
            ).images
        return images.float() * 2 - 1

    return draw


def grade(draws: dict[float, Draw]) -> tuple[dict[str, float], Draw]:
    """The best guidance scale's shares, with that scale, and the function that draws with it."""
    found = {scale: shares(draw, CAPTIONS) for scale, draw in draws.items()}
    best = max(found, key=lambda scale: found[scale]["properties"])
    return {"scale": best} | found[best], draws[best]


# ---- the study ---------------------------------------------------------------------------------


def run(variant: str, seed: int) -> Outcome:
    """Train the rival, or ours, and grade it at its snapshots."""
    choose("variant", variant, dict.fromkeys(STUDY.variants))
    return ours(seed) if variant == OURS else rival(variant, seed)


def rival(variant: str, seed: int) -> Outcome:
    """All three networks of the rival."""
    long = variant == LONG
    lr = best_rate() if long else RATES[variant]
    stops = SNAPSHOTS if long else SNAPSHOTS[:1]
    vae_minutes = minutes_of("scenes-vae", AutoencoderKL) if long else VAE_SHARE * stops[0]
    vae, first = train_autoencoder(lr, seed, vae_minutes, in_a_step(ScenesVAE()))
    data, scheduler, clock = in_a_step(ScenesLatent()), noise_scheduler(), Clock(first.minutes)
    tokenizer = data.clip.tokenizer
    denoiser = seeded_network(lambda: Denoiser(tokenizer), seed)

    def batch(index: int) -> tuple[Tensor, Tensor]:
        images, captions = data.pairs(index)
        return latents(vae, images), drop_condition(tokenizer(captions), tokenizer([""]), p=0.1)

    def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return noise_loss(network, *batch, scheduler)

    training, pipe = Example(denoiser, loss, batch, lr, seed), pipeline(vae, denoiser)

    def look(stop: int) -> tuple[dict[str, float], Draw]:
        pipe.save_pretrained(OUTPUTS / variant.replace(" ", "-") / f"seed-{seed}" / f"{stop}")
        return grade({scale: drawing(pipe, tokenizer, scale) for scale in SCALES})

    facts, samples = graded(
        training, clock, stops, lambda stop: training.averaged(lambda: showing(*look(stop)))
    )
    return outcome(facts, samples, first, clock, {"lr": lr, "vae_steps": first.steps})


def ours(seed: int) -> Outcome:
    """The shipped recipe's third training, after the minutes on the cards of the other two."""
    recipe = ScenesLatent()
    training = recipe.begin(seed=seed, device="cpu")
    first = Clock(minutes_of("scenes-vae", AutoencoderKL) + minutes_of("scenes-clip", CLIP))
    clock = Clock(first.minutes)

    def look(stop: int) -> tuple[dict[str, float], Tensor]:
        return showing(*grade({recipe.scale: recipe.draw(training.ema)}))

    facts, samples = graded(training, clock, OURS_AT, look, training.steps)
    return outcome(facts, samples, first, clock, {})


def in_a_step(recipe: ScenesRecipe) -> ScenesRecipe:
    """The recipe with all pictures of a step in one batch."""
    recipe.batch_size *= recipe.settings["scale"].accumulate
    return recipe


def minutes_of(name: str, kind: type) -> float:
    """The minutes of a shipped training, in two processes, from its card."""
    return load_checkpoint(kind, name).card["wall_minutes"]


def best_rate() -> float:
    """The learning rate whose trials have the most properties right, on average over seeds."""
    if missing := [name for name in RATES if not result_path(NAME, name, 0).exists()]:
        raise ValueError(f"first run this study's variants {', '.join(missing)}")

    def right(name: str) -> float:
        found = [each.metrics["properties"] for each in load_results(NAME, name)]
        return sum(found) / len(found)

    return RATES[max(RATES, key=right)]


def graded(training, clock: Clock, stops: Sequence[int], look: Callable, steps: int | None = None):
    """Train, and look when the clock reaches each stop, or at the last step: all the facts, and
    the samples by the stop."""
    facts, samples = [], {}
    for stop in stops:
        while clock.minutes < stop and training.done != steps:
            clock.time(training.advance)
        found, samples[stop] = look(stop)
        facts.append({"minutes": clock.minutes, "step": training.done} | found)
        print(facts[-1], flush=True)
        if training.done == steps:
            break
    return facts, samples


def showing(facts: dict[str, float], draw: Draw) -> tuple[dict[str, float], Tensor]:
    """The facts, and the pictures of the same eight captions: (8, 3, 64, 64)."""
    return facts, draw(shown(), range(SHOWN)).clamp(-1, 1)


def shown() -> list[str]:
    return ScenesVAE().held_out(SHOWN)[1]


def outcome(facts, samples, first: Clock, clock: Clock, settings: dict) -> Outcome:
    """The record of a run: a curve of all snapshots, and the samples of the named ones."""
    named = [samples[stop] for stop in SNAPSHOTS if stop in samples]
    return Outcome(
        settings={"steps": clock.steps, "captions": CAPTIONS} | settings,
        metrics={
            "minutes": clock.minutes,
            "first_minutes": first.minutes,  # of what trained before the U-Net
            "step_seconds": clock.step_seconds,
            "wall_minutes": first.wall_minutes + clock.wall_minutes,
            "cpu_minutes": first.cpu_minutes + clock.cpu_minutes,
            "right": facts[-1]["right"],
            "properties": facts[-1]["properties"],
        },
        curve={name: [each[name] for each in facts] for name in facts[0]},
        samples=torch.stack(named),
        captions=[shown()] * len(named),
    )


# ---- the table ---------------------------------------------------------------------------------


def minutes_until(result: Result, name: str, level: float) -> float | None:
    """The minutes at which that share reaches a level, on straight lines between snapshots.

    None if it never does. What the first snapshot already has is given its minutes.
    """
    minutes, reached = result.curve["minutes"], result.curve[name]
    for n, share in enumerate(reached):
        if share >= level:
            if n == 0:
                return minutes[0]
            part = (level - reached[n - 1]) / (share - reached[n - 1])
            return minutes[n - 1] + part * (minutes[n] - minutes[n - 1])
    return None


def table() -> Iterator[str]:
    """For each level, and for the rival's highest: the rival's minutes, ours, and their ratio."""
    theirs, mine = load_results(NAME, LONG)[0], load_results(NAME, OURS)[0]
    yield "| share | level | diffusers, minutes | ours | ratio |\n|---|---|---|---|---|"
    for name in ("properties", "right"):
        for level in (0.5, 0.8, 0.9, max(theirs.curve[name])):
            both = [minutes_until(each, name, level) for each in (theirs, mine)]
            ratio = f"{both[0] / both[1]:.1f}" if all(both) else ""
            cells = " | ".join(f"{each:.1f}" if each else "never" for each in both)
            yield f"| {name} | {level:.1%} | {cells} | {ratio} |"


STUDY = Study(NAME, [*RATES, LONG, OURS], (0,), run, threads=2)

if __name__ == "__main__":
    if sys.argv[1:] == ["--minutes"]:
        print(*table(), sep="\n")
    else:
        STUDY.main()
