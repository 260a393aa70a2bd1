"""A GPU gives the same numbers as a CPU; skipped without a GPU."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from course_lib.cli import cost_check
from course_lib.common import devices
from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.cuda_graphs import Captured, CudaGraphs
from course_lib.datasets.scenes import Scenes
from course_lib.diffusion import Diffusion, sample
from course_lib.models import CLIP, AutoencoderKL, Classifier, TextUNet, UNet, attention_maps
from course_lib.pipelines import image_to_image, inpaint, text_to_image
from course_lib.recipes import RECIPES, load_pipeline
from course_lib.recipes.scenes import to
from course_lib.training import train
from course_lib.training.optimizers import Muon
from course_lib.training.scale import cost
from course_lib.training.scale.recompute import blocks, recompute
from tests.training import flat

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CAPTIONS = ["a large red circle on a blue background", "three small green rings"]
CLOSE = dict(atol=2e-4, rtol=2e-3)  # float32 through some thirty layers, summed in another order
HALF = dict(atol=2e-3, rtol=0.02)  # bf16 rounds to 1 part in 256: five such roundings


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Without this, cuDNN rounds its inputs to 10 bits (TF32)."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def answers(cls, name, ask):
    """A shipped model's outputs on the CPU, and on the GPU."""
    with torch.no_grad():
        return [ask(load_checkpoint(cls, name, device)).cpu() for device in ("cpu", "cuda")]


IMAGES = Scenes(64, "new pairs").batch(range(4))


@pytest.mark.parametrize(
    ("cls", "name", "ask"),
    [
        (AutoencoderKL, "scenes-vae", lambda vae: vae(IMAGES[0].to(vae.scaling_factor.device))),
        (CLIP, "scenes-clip", lambda clip: clip.embed_text(IMAGES[1])),
        (Classifier, "scenes-features", lambda eye: eye.features(to(eye, IMAGES[0]))),
        (
            TextUNet,
            "scenes-latent",
            lambda net: net.unet(
                to(net, torch.linspace(-2, 2, 2 * 768).reshape(2, 12, 8, 8)),
                to(net, torch.tensor([900.0, 100.0])),
                net.text_encoder(to(net, torch.arange(48).reshape(2, 24))),
            ),
        ),
    ],
)
def test_a_shipped_model_answers_the_same(cls, name, ask):
    on_cpu, on_gpu = answers(cls, name, ask)
    torch.testing.assert_close(on_gpu, on_cpu, **CLOSE)


def test_a_seed_draws_the_same_pictures(monkeypatch):
    monkeypatch.setattr(devices, "fast_precision", lambda device: "no")
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:50, 10:40] = 1
    drawn = []
    for device in ("cpu", "cuda"):
        model = load_pipeline("scenes-latent", device)
        start = text_to_image(model, CAPTIONS, [3, 4], sampler="ddim")
        varied = image_to_image(model, start, CAPTIONS, sampler="ancestral")
        again = inpaint(model, start.cpu(), mask, CAPTIONS)
        assert {each.device.type for each in (start, varied, again)} == {device}
        drawn.append(torch.cat([start, varied, again]).cpu())
    # 20 steps amplify rounding; a visible difference in a pixel (0.05 of 2) is an error
    assert (drawn[0] - drawn[1]).abs().max() < 0.05


def test_recomputing_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = UNet(3, channels=32, multipliers=(1, 2), attention=(False, True)).cuda()
    thrifty = copy.deepcopy(plain)
    recompute(thrifty)
    x, t = torch.randn(2, 3, 16, 16, device="cuda"), torch.tensor([1.0, 500.0], device="cuda")
    grads = []
    for unet in (plain, thrifty):
        unet(x, t).square().mean().backward()
        grads.append([p.grad for p in unet.parameters()])
    torch.testing.assert_close(*grads, **CLOSE)


def a_unet() -> UNet:
    """On the GPU, with random weights in every layer, including the last of each block."""
    torch.manual_seed(0)
    unet = UNet(3, channels=32, multipliers=(1, 2), attention=(False, True), context_dim=16).cuda()
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, float(parameter.dim() == 1), 0.05)
    return unet


def inputs(seed: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    x, context = torch.randn(batch, 3, 16, 16), torch.randn(batch, 5, 16)
    return x.cuda(), 1000 * torch.rand(batch).cuda(), context.cuda()


@pytest.mark.parametrize("half", [False, True])
def test_replays_give_the_same_gradients(half):
    """For a loss that calls the network twice; inputs and weights change from step to step."""
    plain, quick = a_unet(), a_unet()
    graphs = CudaGraphs(quick, blocks(quick))
    for step in range(3):
        grads = []
        for unet, around in ((plain, nullcontext()), (quick, graphs)):
            with around, torch.autocast("cuda", torch.bfloat16, half):
                out = unet(*inputs(step)) - 2 * unet(*inputs(step + 10))
                out.float().square().mean().backward()
            grads.append([p.grad.clone() for p in unet.parameters()])
            unet.zero_grad()
            with torch.no_grad():
                torch._foreach_mul_(list(unet.parameters()), 1.01)
        torch.testing.assert_close(*grads, **(HALF if half else CLOSE))
    assert {len(part.graphs) for _, _, part in graphs.places} == {2}  # one for each call


def test_a_captured_network_samples_the_same():
    unet = a_unet().eval()
    process, captured, drawn = Diffusion("straight", "flow"), Captured(unet), {}
    for name, network in (("plain", unet), ("first", captured), ("again", captured)):
        batches = [inputs(seed, batch) for seed, batch in ((0, 2), (1, 3), (2, 2))]
        drawn[name] = [sample(process, network, x, c, sampler="heun") for x, _, c in batches]
    torch.testing.assert_close(drawn["first"], drawn["plain"], **CLOSE)
    torch.testing.assert_close(drawn["again"], drawn["plain"], **CLOSE)
    assert len(captured.graphs) == 2  # a batch of two, and one of three


def test_hooks_see_every_call():
    unet, seen = a_unet().eval(), {}
    for name, network in (("plain", unet), ("captured", Captured(unet))):
        with torch.no_grad():
            network(*inputs(0))
            with attention_maps(unet) as maps:
                network(*inputs(1))
                network(*inputs(2))
        seen[name] = dict(maps)
    torch.testing.assert_close(seen["captured"], seen["plain"], **CLOSE)


def test_a_training_with_cuda_graphs_learns_the_same():
    """Two batches a step: the second's gradients are added to those of the first."""
    losses, models, process = [], [], Diffusion("straight", "flow")

    def loss(network, context):
        return process.loss(network, torch.ones(4, 3, 16, 16).to(context), context)

    for graphs in (False, True):
        how = dict(steps=4, warmup=0, lr=1e-3, accumulate=2, cuda_graphs=graphs)
        run = flat.begin(a_unet(), loss, lambda index: torch.randn(4, 5, 16), **how)
        losses.append([step.loss for step in run])
        models.append(copy.deepcopy(run.model))
        assert bool(run.engine.graphs.places) == graphs
    torch.testing.assert_close(*losses, **CLOSE)
    with torch.no_grad():  # a copy has its own weights, like any other model
        one, other = (model(*inputs(5)) for model in models)
        assert not torch.equal(one, a_unet()(*inputs(5)))
    torch.testing.assert_close(one, other, **CLOSE)


def test_muon_makes_the_same_step():
    torch.manual_seed(0)
    start, gradient = torch.randn(2, 8, 4, 3, 3)
    weights = [torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.cuda())]
    for weight in weights:
        weight.grad = gradient.to(weight.device)
        Muon([weight], lr=0.1).step()
    # the direction is found in bf16, 1 part in 256, in four rounds; a step is 0.1 · 0.2 · √36
    assert (weights[0] - weights[1].cpu()).abs().max() < 0.12 * 0.05


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_learns(name):
    """The mean loss of steps 21 to 30 is below that of the first ten."""
    recipe = RECIPES[name]()
    recipe.pool = 4
    run = recipe.begin(steps=30, device="cuda")
    losses = [step.loss for step in run]
    assert next(run.model.parameters()).device.type == "cuda"
    assert sum(losses[20:]) < sum(losses[:10])
    pictures, captions = recipe.samples(run.ema)
    assert len(pictures) == len(captions) and pictures.device.type == "cpu"


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_network_learns_in_every_precision(precision):
    """A constant picture: predicting it takes the loss from 1 to near 0."""
    unet = UNet(1, channels=16, multipliers=(1, 2), attention=(False, False))
    process = Diffusion("straight", "flow")
    clean = torch.ones(32, 1, 8, 8)
    how = dict(steps=60, lr=3e-3, precision=precision)
    run = flat.begin(unet, process.loss, lambda i: clean, **how)
    losses = [step.loss for step in run]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_process_for_a_gpu_that_is_not_there(monkeypatch):
    count = torch.cuda.device_count()
    for name, value in dict(RANK=count, WORLD_SIZE=count + 1, LOCAL_RANK=count).items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(RuntimeError, match=r"'cuda:\d' was requested, but .* has only cuda:0"):
        train(UNet(1), lambda model, x: x, lambda i: None, steps=1, device="cuda")


def test_the_cost_check_names_the_gpu(monkeypatch):
    monkeypatch.setattr(cost_check, "check", lambda name, processes: 1.0)
    work = replace(cost.measure(RECIPES["digits-ddpm"](), repeats=1), batches=1)
    *_, line = cost_check.checks(work, "digits-ddpm", "h100")
    assert line.startswith(f"check: {torch.cuda.get_device_name()}, predicted as h100: 0.")
