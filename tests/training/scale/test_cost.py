"""The cost model, compared with counts by hand."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from course_lib.models.layers import ResnetBlock
from course_lib.recipes import Recipe
from course_lib.training import Optimizer, Scale, train
from course_lib.training.scale import cost

WORK = cost.Work(
    steps=200, batches=4, data_seconds=0.01, batch_seconds=0.09, update_seconds=0.05,
    flops=cost.SHARE * 1e12, launches=50, inner=45, replays=2, update_launches=20,
    gradient=3_000_000_000, weights=3_000_000_000, held=0, activations=0,
)  # fmt: skip


class Tiny(Recipe):
    """A linear map from 8 numbers to 3, with two batches of 5 per step."""

    name = "tiny"
    settings: ClassVar = dict(steps=10, optimizer=Optimizer(), scale=Scale(accumulate=2))

    def model(self):
        return nn.Linear(8, 3)

    def batch(self, index):
        return torch.ones(5, 8)

    def loss(self, model, x):
        return model(x).sum()

    def samples(self, model):
        raise NotImplementedError

    def measure(self, model, count):
        raise NotImplementedError


def test_a_ring_sends_each_byte_almost_twice():
    assert cost.exchange(1000, devices=1, link=10.0) == 0
    assert cost.exchange(1000, devices=2, link=10.0) == pytest.approx(100)
    assert cost.exchange(1000, devices=5, link=10.0) == pytest.approx(160)  # 2 · 4 / 5


def test_processes_share_batches_and_not_the_update():
    assert WORK.on_cpu(1) == pytest.approx(4 * 0.1 + 0.05)
    assert WORK.on_cpu(2) == pytest.approx(2 * 0.1 + 0.05 + 3e9 / cost.LOOPBACK)
    assert WORK.on_cpu(4) == pytest.approx(0.1 + 0.05 + 1.5 * 3e9 / cost.LOOPBACK)


def test_a_gpu_computes_or_waits_for_launches():
    gpu = cost.GPU(flops=1e12, memory=1e9, link=6e9)
    parts = WORK.on_gpu(gpu, count=2)
    expected = {"data": 0.02, "arithmetic": 2.0, "launches": 0.0, "exchange": 0.5}
    assert parts == pytest.approx(expected)
    fast = cost.GPU(flops=1e20, memory=1e9, link=6e9)  # nothing left but launches alone
    update = 20 * cost.UPDATE
    alone = 4 * ((50 - 45) * cost.LAUNCH + 2 * cost.REPLAY) + update  # it replays the blocks
    for count, waiting in ((1, alone), (2, 2 * 50 * cost.LAUNCH + update)):
        parts = WORK.on_gpu(fast, count)
        assert parts["arithmetic"] + parts["launches"] == pytest.approx(waiting)


def test_a_step_is_counted():
    work = cost.measure(Tiny(), repeats=2)
    assert (work.steps, work.batches) == (10, 2)
    # x·Wᵀ and the gradient of W: two products of 5 × 8 × 3 multiply-adds; x needs no gradient
    assert work.flops == 2 * (2 * 5 * 8 * 3)
    size = 8 * 3 + 3
    assert work.gradient == 4 * size
    step_counters = 2 * 4  # AdamW keeps one number for each of the two tensors
    assert work.held == 4 * size * (3 + 2) + step_counters
    run, forward_and_backward = Tiny().begin(device="cpu"), cost.Launches()
    with forward_and_backward:
        run.gradient()
    assert work.launches == forward_and_backward.count // 2  # of one batch
    assert work.update_launches > 0
    assert work.batch_seconds > 0
    x, weight = 5 * 8 * 4, 8 * 3 * 4
    assert 0 < work.activations <= (2 * x + weight) / 2  # of two batches; the weight is kept once


@pytest.mark.parametrize("able, bytes_each", [(True, 2), (False, 4)])
def test_a_bf16_training_exchanges_half_the_bytes(monkeypatch, able, bytes_each):
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: able)
    recipe = Tiny()
    recipe.settings = recipe.settings | {"scale": Scale(precision="bf16")}
    assert cost.measure(recipe, repeats=1).gradient == bytes_each * (8 * 3 + 3)


def test_operations_in_blocks_are_told_apart():
    block = ResnetBlock(8, 8)  # two norms, two convolutions, two SiLUs and a sum
    run = train(nn.Sequential(nn.Conv2d(8, 8, 1), block), lambda net, x: net(x).sum(),
                lambda index: torch.ones(1, 8, 4, 4), steps=9, device="cpu")  # fmt: skip
    forward, backward = cost.launches_in_blocks(run)
    with cost.Launches() as launches:
        block(torch.ones(1, 8, 4, 4, requires_grad=True))
    # a hook on the gradient passes inputs and outputs on: a view of each
    assert launches.count <= forward <= launches.count + 2
    assert backward > 7 and not block._forward_hooks and not block._backward_hooks


def test_operations_are_counted_one_by_one():
    a = torch.ones(3)
    with cost.Launches() as launches:
        _ = (a + a) * a
    assert launches.count == 2


def test_kept_memory_is_counted_once():
    x = torch.ones(100, requires_grad=True)
    kept = cost.SavedBytes()
    with kept:
        _ = x * x  # keeps x twice: the same 400 bytes
    assert kept.bytes == 400


def test_the_report_says_what_was_measured_and_what_assumed():
    lines = list(cost.report(WORK, cost.GPUS["h100"], "h100", 8))
    assert "4 × (10.0 data + 90.0 forward and backward) + 50.0 update ms" in lines[0]
    assert lines[1] == "here, 1 process: 1.5 minutes for 200 steps"
    assert lines[3].startswith("8 × h100: ")
    assert lines[-1].startswith("as on the GPUs that were measured, an H100 and an H200: 17% of")
