"""`scenes-fast`: `scenes-latent`, distilled into a network that needs few evaluations.

    course train scenes-fast

The teacher is the guided network of `scenes-latent`: two evaluations for each step. The student
learns the guided velocity, so that guidance costs nothing any more (Meng et al. 2023), and it
starts with the teacher's weights. Each class here is one method; they differ in `lesson`, the
regression target. `experiments.few_steps` compares them at one budget.
"""

import functools
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.files import make_folder, write_files
from course_lib.diffusion import (
    Diffusion,
    Network,
    generators,
    guided,
    initial_noise,
    sample,
    trajectory,
)
from course_lib.diffusion.few_steps import (
    average,
    consistency,
    flow_map,
    instant,
    mean_flow,
    midpoint,
    two_steps,
)
from course_lib.diffusion.process import broadcast
from course_lib.diffusion.schedules import shifted
from course_lib.evaluation.metrics import Metric
from course_lib.models import TextUNet
from course_lib.recipes.scenes import Data, ScenesDiffusion, ScenesLatent, to
from course_lib.training import Optimizer, Scale

PATH = Diffusion("straight", "flow")  # without a shift, the time is sigma


class Distilled(ScenesLatent):
    """What the methods share: the data, the guided teacher, and the student's start."""

    name = "scenes-fast"
    takes_folder = False
    save_every = 100
    settings = dict(
        steps=1600,
        optimizer=Optimizer("muon", lr=1e-3, warmup=30),
        ema=0.999,
        scale=Scale(accumulate=2, precision="auto"),  # two processes take a batch each
    )
    guidance = ScenesLatent.scale  # of the teacher
    scale, scales = 1.0, (1.0, 1.0)  # of the student, which has learned it
    interval = True  # whether the student receives where a step ends
    sampler, steps = staticmethod(flow_map), 4
    encode = ScenesDiffusion.encode  # without CLIP's features

    def __init__(self, data: Data | None = None):
        super().__init__(data)
        self.teacher = load_checkpoint(TextUNet, "scenes-latent")

    def data_fingerprint(self) -> dict[str, str]:
        return super().data_fingerprint() | {"scenes-latent": self.teacher.card["sha256"]}

    def begin(self, **changes):
        run = super().begin(**changes)
        self.teacher.to(run.device)
        return run

    def model(self) -> nn.Module:
        """The teacher's weights, with a text encoder that stays as it is."""
        unet = self.teacher.kwargs["unet"] | dict(interval=self.interval)
        student = TextUNet(unet, self.teacher.kwargs["text"])
        student.load_state_dict(student.state_dict() | self.teacher.state_dict())
        student.text_encoder.requires_grad_(False)
        return student

    def for_inference(self, model: nn.Module) -> nn.Module:
        return model

    def losses(self, model: nn.Module, count: int) -> list[Metric]:
        """None: the targets come from the student itself, so a loss says nothing about pictures."""
        return []

    def guided_teacher(self, context: Tensor) -> Network:
        null = self.teacher.text_encoder(self.clip.ids([""]).to(context.device))
        return guided(self.teacher.unet, null.to(context.dtype), self.guidance)

    def loss(self, model: nn.Module, data: tuple[Tensor, ...], p: float = 0.0) -> Tensor:
        x0, ids = data
        with torch.no_grad():
            context = model.text_encoder(ids)  # (B, 24, 128)
            teacher = self.guided_teacher(context)
            xt, t, s, target = self.lesson(teacher, model.unet, x0, context)
        return (average(model.unet, context)(xt, t, s) - target).square().mean()

    def lesson(self, teacher: Network, student: Network, x0: Tensor, context: Tensor):
        """(xt, t, s, target): the student's prediction for the step from t to s should be target.

        Here s = t and the target is the teacher's velocity: guidance alone is distilled.
        """
        t = self.grid(1 - torch.rand(len(x0)), x0)
        xt = PATH.add_noise(x0, t, torch.randn_like(x0))
        return xt, t, t, instant(teacher, context)(xt, t, t)

    def grid(self, share: Tensor, x0: Tensor) -> Tensor:
        """Times as the sampler places them: with the teacher's shift, on the device of x0."""
        return shifted(share, self.process.schedule.shift).to(x0)


class Consistency(Distilled):
    """Consistency distillation (Song et al. 2023), with guidance as in Luo et al. 2023.

    The teacher takes one of 16 steps, of second order, because 16 of Euler's would cost right
    pictures; the student goes on from there to the data.
    """

    sampler = staticmethod(consistency)
    cells = 16

    def lesson(self, teacher, student, x0, context):
        k = torch.randint(1, self.cells + 1, (len(x0),))
        t, m = (self.grid((k - back) / self.cells, x0) for back in (0, 1))
        s = self.grid(self.ends(k) / self.cells, x0)
        xt = PATH.add_noise(x0, t, torch.randn_like(x0))
        first, second = midpoint(instant(teacher, context)), average(student, context)
        return xt, t, s, two_steps(first, second, xt, t, m, s)

    def ends(self, k: Tensor) -> Tensor:
        """Where the steps that start at k end."""
        return torch.zeros(len(k))


class FlowMap(Consistency):
    """The same for steps that end anywhere (Kim et al. 2024), so fresh noise isn't needed."""

    sampler = staticmethod(flow_map)

    def ends(self, k):
        return (torch.rand(len(k)) * k).floor()  # 0 … k - 1


class MultistepConsistency(Consistency):
    """Consistency within 1, 2 or 4 equal parts of the grid (Heek et al. 2024).

    The student only learns what a sampler of so many steps asks of it.
    """

    sampler = staticmethod(flow_map)
    parts: Sequence[int] = (1, 2, 4)

    def ends(self, k):
        length = self.cells // self.parts[torch.randint(len(self.parts), ())]
        return (k - 1) // length * length


class Shortcut(Distilled):
    """Shortcut models (Frans et al. 2024): one step should do what two steps of half length do.

    The grids have 8, 4, 2 and 1 steps. On the finest, the teacher takes both half steps.
    """

    grids: Sequence[int] = (1, 2, 4, 8)

    def lesson(self, teacher, student, x0, context):
        n = self.grids[torch.randint(len(self.grids), ())]
        k = torch.randint(1, n + 1, (len(x0),))
        t, m, s = (self.grid((k - back) / n, x0) for back in (0, 0.5, 1))
        xt = PATH.add_noise(x0, t, torch.randn_like(x0))
        u = instant(teacher, context) if n == max(self.grids) else average(student, context)
        return xt, t, s, two_steps(u, u, xt, t, m, s)


class Backward(Distilled):
    """Consistency along the student's own path (backward distillation, Kohler et al. 2024).

    The student walks from pure noise to one of its four times, as its sampler does. There it learns
    where the teacher's ODE ends, in three second-order steps for each of those that are left.
    """

    sampler = staticmethod(consistency)

    def lesson(self, teacher, student, x0, context):
        done = torch.randint(self.steps, ()).item()
        noise, left = torch.randn_like(x0), self.steps - done
        path = trajectory(self.process, student, noise, context, self.steps, consistency)
        xt, start = next(islice(path, done, None)), left / self.steps
        end = sample(self.process, teacher, xt, context, 3 * left, "dpm++2m", start=start)
        t = self.grid(torch.full((len(x0),), start), x0)
        return xt, t, torch.zeros_like(t), (xt - end) / broadcast(t, xt)


class MeanFlow(Distilled):
    """Mean flow (Geng et al. 2025) with the teacher's velocity; half of the batches have s = t."""

    def lesson(self, teacher, student, x0, context):
        if torch.rand(()) < 0.5:
            return super().lesson(teacher, student, x0, context)
        t, s = self.grid(torch.rand(2, len(x0)).sort(0, descending=True).values, x0)
        xt = PATH.add_noise(x0, t, torch.randn_like(x0))
        v = instant(teacher, context)(xt, t, t).float()
        with torch.autocast(x0.device.type, enabled=False):  # a derivative needs float32
            return xt, t, s, mean_flow(average(student, context.float()), v, xt, t, s)


class Reflow(Distilled):
    """Rectified flow's second training (Liu et al. 2023): pairs of noise and what it became.

    The teacher draws the pairs in 20 guided steps; they are kept in `folder`, if there is one.
    """

    interval, sampler = False, "ddim"
    pool = 80  # batches of pairs; each costs as much as three steps
    folder: Path | None = None

    def __init__(self, data: Data | None = None):
        super().__init__(data)
        self.encoded = functools.cache(self.kept_pairs)

    def loss(self, model, data, p=0.0):
        x0, ids, eps = data
        context = model.text_encoder(ids)
        t = self.grid(1 - torch.rand(len(x0)), x0)
        return PATH.loss(model.unet, x0, context, t, eps)

    def kept_pairs(self, index: int) -> tuple[Tensor, ...]:
        if self.folder is None:
            return self.drawn_pairs(index)
        path = self.folder / f"{index}.safetensors"
        if not path.exists():
            names = dict(zip(("x0", "ids", "eps"), self.drawn_pairs(index), strict=True))
            make_folder(self.folder)
            write_files({path: save(names)})
        parts = load_file(path)
        return parts["x0"], parts["ids"], parts["eps"]

    @torch.no_grad()
    def drawn_pairs(self, index: int) -> tuple[Tensor, ...]:
        ids = to(self.teacher, self.clip.tokenizer(self.pairs(index)[1]))
        draws = generators(range(index * len(ids), (index + 1) * len(ids)))
        side = self.size // self.vae.factor
        eps = to(self.teacher, initial_noise(draws, (self.vae.latent_channels, side, side)))
        context = self.teacher.text_encoder(ids)
        x0 = sample(self.process, self.guided_teacher(context), eps, context, steps=20)
        return x0, ids, eps


class ReflowAgain(Reflow):
    """The second round: its teacher is the first round's student, which needs no guidance."""

    guidance = 1.0

    def __init__(self, first: str | Path):
        super().__init__()
        self.teacher = load_checkpoint(TextUNet, first)


class ScenesFast(Backward):
    """`scenes-latent` in four evaluations, by backward consistency: most pictures are right."""


RECIPES = (ScenesFast,)
