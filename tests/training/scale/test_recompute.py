"""Recomputed blocks give the same numbers with less memory."""

import pytest
import torch

from course_lib.models import AutoencoderKL, DiT, UNet
from course_lib.training.scale.cost import SavedBytes
from course_lib.training.scale.recompute import blocks
from tests.training import flat


def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(2, channels=16, multipliers=(1, 2), attention=(False, True), context_dim=8)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def loss(model, x):
    context = torch.randn(len(x), 3, 8)
    return (model(x, torch.rand(len(x)), context) - x).square().mean()


def begin(folder=None, **options):
    data = dict(batch=lambda index: torch.randn(4, 2, 8, 8) + index, steps=6, save_every=3)
    return flat.begin(unet(), loss, lr=1e-3, device="cpu", folder=folder, **data, **options)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_numbers_are_the_same(precision):
    plain, again = (
        [step.loss for step in begin(recompute=which, precision=precision)]
        for which in (False, True)
    )
    assert plain == again


def test_a_state_goes_on_either_way(tmp_path):
    whole = [step.loss for step in begin()]
    for step in begin(tmp_path, recompute=True):
        if step.index == 3:
            break
    assert [step.loss for step in begin(tmp_path)] == whole[3:]


def test_less_is_kept():
    kept = {}
    for which in (False, True):
        run, kept[which] = begin(recompute=which), SavedBytes()
        with kept[which]:
            run.gradient()
    assert kept[True].bytes < kept[False].bytes / 2  # of some thirty tensors a block, its inputs


def test_the_averaged_model_stands_on_its_own():
    run = begin(recompute=True)
    next(iter(run))
    x, t, context = torch.randn(1, 2, 8, 8), torch.zeros(1), torch.randn(1, 3, 8)
    with torch.no_grad():
        before = run.ema(x, t, context)
        for parameter in run.model.parameters():
            parameter.zero_()
        assert torch.equal(run.ema(x, t, context), before)


def gradients_with_and_without(build, loss):
    x, gradients = torch.rand(2, 3, 16, 16) * 2 - 1, []
    for which in (False, True):
        torch.manual_seed(1)
        batch = dict(batch=lambda index: x, steps=1, lr=1e-3, device="cpu", recompute=which)
        run = flat.begin(build(), loss, **batch)
        run.gradient()
        gradients.append([p.grad for p in run.model.parameters()])
    return gradients


def test_autoencoders_too():
    sizes = dict(channels=16, multipliers=(1, 2), patch_size=2, attention=False)
    found = gradients_with_and_without(
        lambda: AutoencoderKL(**sizes), lambda model, x: model.loss(x)[0]
    )
    assert all(map(torch.equal, *found))


def test_transformers_too():
    def build():
        model = DiT(3, size=16, dim=16, layers=2)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        return model

    def loss(model, x):
        return (model(x, torch.rand(len(x))) - x).square().mean()

    assert len(blocks(build())) == 2
    assert all(map(torch.equal, *gradients_with_and_without(build, loss)))
