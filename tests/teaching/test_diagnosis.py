"""The checks of a training: each fires on its mistake, and none on a sound run of four steps.

What a loss and a sampler pass to the network doesn't depend on how long the network was trained, so
four steps are enough for most checks. The others get a network, a log or samples made for them.
"""

import json
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib.diffusion import Diffusion, straight
from course_lib.models import TextUNet, UNet
from course_lib.teaching.broken_runs import MISTAKES, SOUND, SoundRun, pictures, sound
from course_lib.teaching.diagnosis import (
    CHECKS,
    FINE,
    NOT_VISIBLE,
    WRONG,
    Evidence,
    NotVisible,
    checks,
    diagnose,
    recorded_calls,
    regression_target,
)
from course_lib.teaching.diagnosis.calls import noise_levels
from course_lib.training import Optimizer

LEARNED = {"condition used", "loss", "copies", "loss by timestep"}  # what takes a longer training


@pytest.fixture
def examine(tmp_path):
    """The evidence of four steps of a training."""
    numbers = count()

    def trained(case, **changes) -> Evidence:
        case = type("Short", (case,), {"steps": 4} | changes)()
        folder = tmp_path / str(next(numbers))
        for _ in case.train(folder):
            pass
        return Evidence(folder, case)

    return trained


# ---- what the loss does --------------------------------------------------------------------------

PROCESSES = [
    Diffusion(schedule, prediction)
    for schedule in ("linear", "cosine", straight(2.0))
    for prediction in ("eps", "x0", "v", "flow")
]


def network(x, timestep, context=None):
    return x / 2


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_the_loss_itself_tells_its_schedule_and_its_target(process):
    """alpha, sigma and the target of data that is 0, which is b * eps = (b / sigma) * x."""
    model, batch = (
        UNet(1, channels=8, multipliers=(1,), attention=(False,)),
        torch.zeros(64, 1, 4, 4),
    )
    measured = noise_levels(process.loss, model, [batch], repeats=3)
    alpha, sigma = process.schedule(process.schedule.time(measured.timestep))
    _, b = process.coefficients(alpha, sigma)
    torch.testing.assert_close(measured.alpha, alpha, atol=1e-6, rtol=0)
    torch.testing.assert_close(measured.sigma, sigma, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(measured.ratio, b / sigma + 0 * alpha, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_the_gradient_tells_the_target_whatever_the_weights(weighting):
    process, x0 = Diffusion("cosine", "v"), torch.randn(8, 1, 4, 4)
    t, eps = torch.linspace(0.1, 0.9, 8).double(), torch.randn_like(x0)

    def loss(model, data):
        return process.loss(model, data, t=t, eps=eps, weighting=weighting)

    model = UNet(1, channels=8, multipliers=(1,), attention=(False,))
    call, target = regression_target(loss, model, x0, seed=0)
    torch.testing.assert_close(target, process.target(x0, eps, t), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(call.x, process.add_noise(x0, t, eps))


def test_recording_changes_nothing_and_ends():
    unet = UNet(1, channels=8, multipliers=(1,), attention=(False,)).eval()
    nn.init.normal_(unet.conv_out.weight)
    x, timestep = torch.randn(2, 1, 4, 4), torch.tensor([3.0, 7.0])
    before = unet(x, timestep)
    with pytest.raises(RuntimeError), recorded_calls(unet) as calls:
        assert torch.equal(unet(x, timestep), before)
        raise RuntimeError
    assert torch.equal(unet(x, timestep), before) and len(calls) == 1
    assert torch.equal(calls[0].timestep, timestep) and not calls[0].training


def test_the_unet_of_a_text_to_image_model_is_heard_with_its_context():
    unet = dict(in_channels=1, channels=8, multipliers=(1,), attention=(True,), context_dim=8)
    model = TextUNet(unet, text=dict(vocab_size=10, length=4, dim=8, layers=1, heads=2))
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    with recorded_calls(model) as calls:
        model(torch.zeros(2, 1, 4, 4), torch.tensor([1.0, 2.0]), ids)
    assert torch.equal(calls[0].context, model.text_encoder(ids))
    rows = checks.conditions([*calls, *calls])
    assert rows.shape == (4, 32) and torch.equal(rows[:2], rows[2:])


# ---- each check fires on its mistake, and on no sound run ----------------------------------------

SHORT = {  # mistake -> the check that names it; four steps show it
    "data from 0 to 1": "data range",
    "latents not scaled": "latent scale",
    "latent mean not removed": "latent mean",
    "betas for 1,000 steps used with 100": "terminal noise",
    "timestep on another scale": "timestep scale",
    "timestep in bf16": "timestep precision",
    "EMA unused": "EMA used",
    "conditions never dropped": "null condition",
    "timestep off by one": "sampler timestep",
    "noise at the last step": "noise at the end",
    "wrong variance": "sampler variance",
    "sampled in train mode": "mode",
}


@pytest.mark.parametrize("mistake", SHORT)
def test_a_mistake_is_named_first(examine, mistake):
    findings = diagnose(examine(MISTAKES[mistake]))
    wrong = [f for f in findings if f.verdict == WRONG and f.name not in LEARNED]
    assert wrong[0].name == SHORT[mistake]
    assert mistake in wrong[0].line and wrong[0].remedy


CHANGED = {"process", "weighting", "latent", "dropout", "sampler", "sampler_steps", "scale"}


@pytest.mark.parametrize(
    "name", [name for name, case in SOUND.items() if CHANGED & vars(case).keys()]
)
def test_no_sound_loss_or_sampler_is_accused(examine, name):
    findings = diagnose(examine(SOUND[name], optimizer=Optimizer(lr=1e-4)))
    assert {f.name for f in findings if f.verdict == WRONG} <= LEARNED
    visible = {f.name for f in findings if f.verdict == FINE}
    assert visible >= {"terminal noise", "sampler variance", "sampler timestep", "mode"}


def test_every_mistake_has_a_check_that_names_it():
    assert set(MISTAKES) <= {check.mistake for check in CHECKS.values()}


def test_a_rate_that_is_too_high_shows_in_the_log(examine):
    run = examine(SoundRun)
    run.losses = torch.cat([torch.ones(5), torch.linspace(1, 0.1, 50)])
    assert checks.largest_loss(run).verdict == FINE
    run.losses[10:20] = 4.0
    assert checks.largest_loss(run).verdict == WRONG


def test_the_lag_is_the_relative_distance():
    weights = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    average = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([3.0])}
    assert checks.lag(weights, average) == pytest.approx(1 / 5)


def test_an_average_of_the_initial_weights_lags(examine):
    run = examine(MISTAKES["EMA too slow"], steps=12, optimizer=Optimizer(lr=0.05, warmup=0))
    assert checks.ema_lag(run).verdict == WRONG
    run = examine(SoundRun, steps=12, optimizer=Optimizer(lr=0.002, warmup=0))
    assert checks.ema_lag(run).verdict == FINE


def test_a_part_without_a_gradient_is_found(examine):
    run = examine(SoundRun)
    assert checks.gradients(run).verdict == FINE
    run.tensors["optimizer.0.0.exp_avg"] = torch.zeros(3)
    assert checks.gradients(run).verdict == WRONG


class ByLabel(nn.Module):
    """The ideal network for data that is the label, in every pixel; it predicts x0."""

    def forward(self, x, timestep, context):
        return context.float().view(-1, 1, 1, 1).expand_as(x)


def test_captions_are_used_only_if_the_loss_depends_on_them():
    process, labels = Diffusion("cosine", "x0"), torch.arange(384).view(24, 16) % 5
    paired = [(label.float().view(-1, 1, 1, 1).expand(-1, 1, 4, 4), label) for label in labels]
    torch.manual_seed(0)
    shuffled = [(x0, label[torch.randperm(16)]) for x0, label in paired]

    def loss(model, data):
        return process.loss(model, *data)

    for batches, verdict in ((paired, FINE), (shuffled, WRONG)):
        run = SimpleNamespace(part=lambda name: loss, model=ByLabel(), batches=batches)
        assert checks.condition_used(run).verdict == verdict


def test_copies_are_nearer_than_training_pictures_are_to_each_other(examine):
    run = examine(SoundRun)
    run.pictures = run.x0[:20] + 0.01
    assert checks.copies(run).value == 1 and checks.copies(run).verdict == WRONG
    run = examine(SoundRun)
    run.pictures = pictures("digits")[0][-20:] + 0.3 * torch.randn(20, 1, 8, 8)
    assert checks.copies(run).verdict == FINE


def test_an_untrained_network_has_learned_nothing(examine):
    """It starts by predicting 0, the best constant for noise."""
    run = examine(SoundRun, optimizer=Optimizer(lr=1e-9))
    assert checks.loss_floor(run).value == pytest.approx(1, abs=0.01)
    assert checks.loss_floor(run).verdict == WRONG
    bands = checks.loss_by_timestep(run)
    assert len(bands) == 8 and bands == pytest.approx([1] * 8, abs=0.1)


# ---- what isn't visible, and what is refused -----------------------------------------------------


def test_the_folder_alone_shows_the_loss_and_the_weights(examine):
    run = examine(SoundRun)
    findings = diagnose(Evidence(run.folder))
    seen = {f.name for f in findings if f.verdict != NOT_VISIBLE}
    assert seen == {"largest loss", "gradients", "EMA used", "EMA lag"}
    assert all("--code" in f.line for f in findings if f.verdict == NOT_VISIBLE)


def test_pixels_have_no_latent_scale_and_a_sampler_without_guidance_no_null_condition(examine):
    run = examine(sound(scale=1.0))
    for check in (checks.latent_scale, checks.latent_mean, checks.null_condition):
        assert check(run).verdict == NOT_VISIBLE
    with pytest.raises(NotVisible, match="no guidance"):
        checks.null_condition.measure(run)


def test_what_is_no_diffusion_model_is_not_visible(examine):
    """An autoencoder has no timestep, and a loss may not use the model at all."""
    run = examine(SoundRun)
    run.code = SimpleNamespace(batch=run.code.batch, loss=lambda model, data: model(data[0]).mean())
    assert "is it a diffusion model" in checks.terminal_noise(run).line
    run.code.loss = lambda model, data: data[0].mean()
    assert checks.terminal_noise(run).line == "your loss never calls the model that it is given"
    assert checks.terminal_noise(run).verdict == NOT_VISIBLE


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda folder: (folder / "log.jsonl").unlink(), "expected a training's log.jsonl"),
        (lambda folder: (folder / "log.jsonl").write_bytes(b""), "expected a line for each step"),
        (lambda folder: half_a_line(folder / "log.jsonl"), "line 5 is not a step"),
        (lambda folder: (folder / "state.safetensors").unlink(), "a training's state.safetensors"),
        (lambda folder: (folder / "state.safetensors").write_bytes(b"x"), "not a complete"),
    ],
    ids=["no log", "an empty log", "half a line", "no state", "a damaged state"],
)
def test_a_folder_that_holds_no_run_is_refused(examine, damage, line):
    run = examine(SoundRun)
    damage(run.folder)
    with pytest.raises(ValueError, match=line):
        Evidence(run.folder)


def half_a_line(log):
    with open(log, "ab") as file:
        file.write(json.dumps({"step": 3, "loss": 0.5}).encode()[:12])


def test_another_models_code_is_refused(examine, tmp_path):
    run = examine(SoundRun)
    other = sound(network=SoundRun.network | dict(channels=8))()
    with pytest.raises(ValueError, match="holds the state of another model"):
        Evidence(run.folder, other)
    with pytest.raises(ValueError, match="expected the folder of a training, got a file"):
        Evidence(run.folder / "log.jsonl")
    with pytest.raises(ValueError, match="got none"):
        Evidence(tmp_path / "nothing")
