"""The rival: equal sizes, diffusers' own loss, rate and average; snapshots in time."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib.common import paths
from course_lib.diffusion import Diffusion
from course_lib.experiments import diffusers_rival as rival
from course_lib.experiments.budget import Clock
from course_lib.experiments.study import Outcome, Study
from course_lib.recipes.scenes import ScenesLatent
from course_lib.teaching.results import Result, load_results

peers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def recipe():
    return ScenesLatent()


@pytest.fixture(scope="module")
def denoiser(recipe):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rival.Denoiser(recipe.clip.tokenizer).eval()


def size(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_each_network_is_within_a_tenth_of_ours_in_size(recipe, denoiser):
    ours = recipe.model()
    for theirs, mine in (
        (denoiser.unet, ours.unet),
        (denoiser.text_encoder, ours.text_encoder),
        (rival.autoencoder(), recipe.vae),
    ):
        assert size(theirs) == pytest.approx(size(mine), rel=0.1)


def test_the_shapes_are_ours(recipe, denoiser):
    vae = rival.autoencoder()
    z = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
    ids = recipe.clip.tokenizer(["a red circle"])
    assert z.shape == (1, 12, 8, 8) and vae.decode(z).sample.shape == (1, 3, 64, 64)
    assert denoiser(z, torch.tensor([500]), ids).shape == z.shape
    assert denoiser.context(ids).shape == (1, 24, 128)


def test_the_context_is_causal_and_differs_by_word(recipe, denoiser):
    contexts = denoiser.context(recipe.clip.tokenizer(["a red circle", "a red square"]))
    before = (contexts[0] - contexts[1]).abs().amax(1) < 1e-6
    assert before[:3].all() and not before[3:].any()  # start, "a", "red"; then the shape


def test_the_loss_is_ours_for_the_same_noise_and_times(recipe, denoiser):
    x0, ids = torch.randn(4, 12, 8, 8), recipe.clip.tokenizer(["a red circle"] * 4)
    scheduler = rival.noise_scheduler()
    torch.manual_seed(7)
    theirs = rival.noise_loss(denoiser, x0, ids, scheduler)
    torch.manual_seed(7)
    eps, index = torch.randn_like(x0), torch.randint(1000, (4,))
    process = Diffusion("scaled_linear", "eps")
    ours = process.loss(denoiser, x0, ids, t=(index + 1) / 1000, eps=eps)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=0)
    other = process.loss(denoiser, x0, ids, t=index / 1000, eps=eps)
    assert abs(other - ours) > 1e-6  # one timestep off is noticed


def test_the_autoencoders_loss_is_summed_over_an_image():
    mu, logvar = torch.full((2, 1, 1, 1), 2.0), torch.zeros(2, 1, 1, 1)

    class Posterior:
        sample = staticmethod(lambda: mu)
        kl = staticmethod(lambda: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1))

    vae = SimpleNamespace(
        encode=lambda images: SimpleNamespace(latent_dist=Posterior()),
        decode=lambda z: SimpleNamespace(sample=torch.full((2, 3, 2, 2), 0.5)),
    )
    loss = rival.autoencoder_loss(vae, torch.zeros(2, 3, 2, 2))
    assert loss.item() == pytest.approx(12 * 0.25 + 1e-6 * 2)


def trained(steps: int, lr: float = 1e-2) -> tuple[rival.Example, list[torch.Tensor], list[float]]:
    """A line that learns y = 2 x: its training, its weight after each step, and its rates."""
    torch.manual_seed(0)
    loss = lambda network, x: (network(x) - 2 * x).square().mean()  # noqa: E731
    training = rival.Example(nn.Linear(1, 1), loss, lambda index: torch.rand(4, 1), lr, seed=0)
    weights, rates = [training.network.weight.detach().clone()], []
    for _ in range(steps):
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.advance()
        weights.append(training.network.weight.detach().clone())
    return training, weights, rates


def test_the_learning_rate_is_that_of_diffusers_scheduler(monkeypatch):
    from diffusers.optimization import get_scheduler

    monkeypatch.setattr(rival, "WARMUP", 4)
    _, _, rates = trained(8)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-2)
    schedule = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=4)
    expected = []
    for _ in rates:
        expected += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)
    assert rates == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01])


def test_the_average_is_diffusers_and_is_put_back(monkeypatch):
    monkeypatch.setattr(rival, "WARMUP", 1)
    training, weights, _ = trained(4)
    average = weights[1]  # the first step's decay is 0
    for n, weight in enumerate(weights[2:], start=1):
        decay = (1 + n) / (10 + n)
        average = decay * average + (1 - decay) * weight
    seen = training.averaged(lambda: training.network.weight.detach().clone())
    torch.testing.assert_close(seen, average)
    assert torch.equal(training.network.weight, weights[-1]) and training.network.training


def test_equal_seeds_train_equally(monkeypatch):
    monkeypatch.setattr(rival, "WARMUP", 1)
    assert torch.equal(trained(3)[1][-1], trained(3)[1][-1])


def test_a_busy_moment_does_not_move_the_clock():
    clock = Clock(before=1.0)
    for seconds in (6.0, 6.0, 6.0, 600.0):
        clock.add(seconds, cpu_seconds=5.0)
    assert clock.minutes == pytest.approx(1.4) and clock.step_seconds == 6.0
    assert clock.wall_minutes == pytest.approx(10.3) and clock.cpu_minutes == pytest.approx(1 / 3)
    assert Clock(before=2.5).minutes == 2.5


class Ticking(Clock):
    """Each step takes half a minute."""

    def time(self, step):
        step()
        self.add(30.0)


@pytest.mark.parametrize(
    ("last", "steps", "minutes"),
    [(None, [15, 35, 55, 85], [10, 20, 30, 45]), (40, [15, 35, 40], [10, 20, 22.5])],
)
def test_snapshots_are_at_the_named_minutes(last, steps, minutes):
    """2.5 minutes are for the autoencoder; a training with a last step has one there, too."""

    class Run:
        done = 0

        def advance(self):
            self.done += 1

    looked, run = [], Run()
    look = lambda stop: looked.append(stop) or ({"right": 0.5}, torch.zeros(8, 3, 64, 64))  # noqa: E731
    clock = Ticking(before=2.5)
    facts, samples = rival.graded(run, clock, rival.SNAPSHOTS, look, last)
    assert [each["step"] for each in facts] == steps
    assert [each["minutes"] for each in facts] == minutes
    assert looked == list(samples) == list(rival.SNAPSHOTS[: len(steps)])


def test_the_best_of_the_guidance_scales_is_taken(monkeypatch):
    shares = {"low": {"properties": 0.2, "right": 0.1}, "high": {"properties": 0.6, "right": 0.0}}
    monkeypatch.setattr(rival, "shares", lambda draw, captions: shares[draw])
    facts, draw = rival.grade({2.5: "low", 5.0: "high"})
    assert facts == {"scale": 5.0, "properties": 0.6, "right": 0.0} and draw == "high"


def test_the_same_seed_draws_the_same_picture_in_any_batch(recipe, denoiser):
    pipe = rival.pipeline(rival.autoencoder().eval(), denoiser)
    draw = rival.drawing(pipe, recipe.clip.tokenizer, scale=2.5, steps=2)
    captions = ["a red circle", "a blue square"]
    both, second = draw(captions, [0, 1]), draw(captions[1:], [1])
    assert both.shape == (2, 3, 64, 64) and both.abs().max() <= 1
    torch.testing.assert_close(both[1:], second, atol=0.05, rtol=0)  # bf16, where it is faster
    assert (both[0] - both[1]).abs().max() > 0.2


def test_the_longest_run_takes_the_best_rate_and_asks_for_the_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path)
    with pytest.raises(ValueError, match="first run this study's variants lr 1e-4, lr 3e-4"):
        rival.best_rate()
    found = {"lr 1e-4": 0.3, "lr 3e-4": 0.6, "lr 1e-3": 0.5}
    make = lambda variant, seed: Outcome({"steps": 1}, {"properties": found[variant]})  # noqa: E731
    Study(rival.NAME, list(found), (0,), make).main([])
    assert rival.best_rate() == 3e-4


def result(minutes, right) -> Result:
    curve = {"minutes": minutes, "right": right, "properties": right}
    return Result("study", "variant", 0, "", None, {}, {}, curve, [])


def test_minutes_until_a_level_are_on_straight_lines():
    run = result([10, 20, 40], [0.2, 0.6, 0.8])
    assert rival.minutes_until(run, "right", 0.4) == pytest.approx(15)
    assert rival.minutes_until(run, "right", 0.7) == pytest.approx(30)
    assert rival.minutes_until(run, "right", 0.1) == 10  # at most: it wasn't looked at before
    assert rival.minutes_until(run, "right", 0.9) is None


def test_the_table_has_the_ratio_at_the_rivals_highest_level(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDED", tmp_path)
    curves = {rival.LONG: ([10, 20], [0.2, 0.4]), rival.OURS: ([10, 12], [0.3, 0.9])}

    def make(variant, seed):
        minutes, right = curves[variant]
        return Outcome({}, {}, {"minutes": minutes, "right": right, "properties": right})

    Study(rival.NAME, list(curves), (0,), make).main([])
    lines = list(rival.table())
    assert "| right | 40.0% | 20.0 | 10.3 | 1.9 |" in lines
    assert "| right | 50.0% | never | 10.7 |  |" in lines
    assert len(load_results(rival.NAME)) == 2


def test_without_diffusers_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(RuntimeError, match=r"needs diffusers and transformers: pip install"):
        rival.autoencoder()


def test_a_short_run_records_what_a_chapter_needs(tmp_path, monkeypatch):
    """The whole of a trial with a step for each network, and two captions."""
    monkeypatch.setattr(rival, "OUTPUTS", tmp_path)
    monkeypatch.setattr(rival, "Clock", Ticking)
    monkeypatch.setattr(rival, "VAE_SHARE", 1 / 2)
    monkeypatch.setattr(rival, "SNAPSHOTS", (1, 10))
    monkeypatch.setattr(rival, "SCALED", 10)
    monkeypatch.setattr(rival, "SCALES", (2.5,))
    monkeypatch.setattr(rival, "shares", lambda draw, captions: {"right": 0.0, "properties": 0.1})
    monkeypatch.setattr(rival, "SHOWN", 2)
    monkeypatch.setattr(ScenesLatent, "batch_size", 8)
    found = rival.run("lr 3e-4", 0)
    assert found.settings["steps"] == found.settings["vae_steps"] == 1
    assert found.settings["lr"] == 3e-4 and found.curve["scale"] == [2.5]
    assert found.metrics["minutes"] == 1 and found.metrics["first_minutes"] == 0.5
    assert found.samples.shape == (1, 2, 3, 64, 64) and len(found.captions[0]) == 2
    (kept,) = tmp_path.rglob("model_index.json")
    pipe = peers[0].StableDiffusionPipeline.from_pretrained(
        kept.parent, tokenizer=None, safety_checker=None, feature_extractor=None
    )
    assert pipe.vae.config.scaling_factor > 0  # the fitted one
