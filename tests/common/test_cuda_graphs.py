"""CUDA graphs leave no trace outside their block, and don't mix up different kinds of calls.

A CPU has no CUDA graphs, so a fake `make_graphed_callables` is used. Like the real one, it has one
fixed buffer each for inputs, outputs, gradients and saved tensors, which the next call overwrites.
test_gpu.py tests the same with real graphs.
"""

import copy
from collections import Counter

import pytest
import torch

from course_lib.common import cuda_graphs
from course_lib.common.cuda_graphs import Captured, CudaGraphs, worth_capturing
from course_lib.diffusion import Diffusion, sample
from course_lib.models import SD15_UNET, UNet, attention_maps
from course_lib.training.scale.recompute import blocks
from tests.training import flat

X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CONTEXT, T = torch.linspace(-1, 1, 2 * 3 * 8).reshape(2, 3, 8), torch.tensor([1.0, 500.0])


def a_unet() -> UNet:
    torch.manual_seed(0)
    unet = UNet(1, channels=8, multipliers=(1, 2), attention=(False, True), context_dim=8)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, float(parameter.dim() == 1), 0.1)
    return unet


class Played(torch.autograd.Function):
    """One captured graph: `places` are its inputs, `held` all else that a replay overwrites."""

    @staticmethod
    def forward(ctx, plain, places, held, *inputs):
        ctx.places, ctx.held, ctx.weights = places, held, inputs[len(places) :]
        for place, x in zip(places, inputs, strict=False):
            place.data.copy_(x)
        with torch.set_grad_enabled(held["learns"]):
            held["graph"] = plain(*places)
        held.setdefault("answer", torch.empty_like(held["graph"].data)).copy_(held["graph"].data)
        return held["answer"].detach()

    @staticmethod
    def backward(ctx, gradient):
        leaves = [*ctx.places, *ctx.weights]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = torch.autograd.grad(
            ctx.held["graph"], wanted, gradient, allow_unused=True, retain_graph=True
        )
        places = ctx.held.setdefault("gradients", [torch.empty_like(g) for g in found])
        for place, each in zip(places, found, strict=True):
            place.copy_(each)
        given = iter(places)
        return (
            None,
            None,
            None,
            *(next(given).detach() if x.requires_grad else None for x in leaves),
        )


def unwatched(module):
    """The module's forward, without hooks."""
    plain = module.forward

    def forward(*inputs):
        hooks = {layer: layer._forward_hooks for layer in module.modules()}
        for layer in hooks:
            layer._forward_hooks = {}
        try:
            return plain(*inputs)
        finally:
            for layer, some in hooks.items():
                layer._forward_hooks = some

    return forward


@pytest.fixture
def recorded(monkeypatch):
    """The modules that were captured, in order."""
    made = []

    def make(module, places, num_warmup_iters, allow_unused_input):
        plain, held = unwatched(module), {"learns": torch.is_grad_enabled()}
        weights = tuple(module.parameters())
        made.append(module)
        module.forward = lambda *inputs: Played.apply(plain, places, held, *inputs, *weights)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    monkeypatch.setattr(cuda_graphs, "on_gpu", lambda x: True)
    return made


def test_on_a_cpu_nothing_is_captured():
    unet = a_unet()
    captured = Captured(unet)
    assert torch.equal(captured(X, T, CONTEXT), unet(X, T, CONTEXT)) and captured.graphs == {}


def test_the_model_is_as_before_also_after_an_error():
    unet = a_unet()
    parts, names = list(unet.modules()), list(unet.state_dict())
    graphs = CudaGraphs(unet, blocks(unet))
    for _ in range(2):
        with pytest.raises(ValueError, match="x: expected"), graphs:
            assert sum(isinstance(part, Captured) for part in unet.modules()) == len(blocks(unet))
            unet(torch.zeros(2, 3, 8, 8), T, CONTEXT)
        assert list(unet.modules()) == parts and list(unet.state_dict()) == names
        assert not any("forward" in vars(part) for part in parts)


def test_gradients_of_a_loss_that_asks_twice(recorded):
    plain, quick = a_unet(), a_unet()
    graphs = CudaGraphs(quick, blocks(quick))
    for n in range(3):
        for unet in (plain, quick):
            unet.zero_grad()
        (plain(X + n, T, CONTEXT) - 2 * plain(X, T, CONTEXT)).square().mean().backward()
        with graphs:
            (quick(X + n, T, CONTEXT) - 2 * quick(X, T, CONTEXT)).square().mean().backward()
        grads = [[p.grad for p in unet.parameters()] for unet in (plain, quick)]
        torch.testing.assert_close(*grads)
    assert Counter(recorded) == dict.fromkeys(blocks(quick), 2)  # once for each call of a step


def test_outputs_outlast_the_next_call(recorded):
    unet = a_unet().eval()
    captured = Captured(unet)
    with torch.no_grad():
        first, second = captured(X, T, CONTEXT), captured(X + 1, T, CONTEXT)
        torch.testing.assert_close((first, second), (unet(X, T, CONTEXT), unet(X + 1, T, CONTEXT)))
    assert recorded == [unet]


def test_a_trajectory_needs_one_graph_and_another_shape_its_own(recorded):
    unet, process = a_unet().eval(), Diffusion("straight", "flow")
    captured = Captured(unet)
    for count in (2, 1, 2):
        inputs = X[:count], CONTEXT[:count]
        drawn = sample(process, captured, *inputs, steps=5, sampler="heun")
        torch.testing.assert_close(drawn, sample(process, unet, *inputs, steps=5, sampler="heun"))
    assert recorded == [unet, unet]


def test_calls_that_always_differ_are_not_captured_for_ever(recorded):
    unet = a_unet().eval()
    captured = Captured(unet)
    for count in range(1, cuda_graphs.MOST + 4):
        inputs = [each[:1].expand(count, *each.shape[1:]) for each in (X, T, CONTEXT)]
        with torch.no_grad():
            torch.testing.assert_close(captured(*inputs), unet(*inputs))
    assert recorded == [unet] * cuda_graphs.MOST


def test_weights_that_moved_are_captured_again(recorded):
    unet = a_unet().eval()
    captured = Captured(unet)
    with torch.no_grad():
        captured(X, T, CONTEXT)
        unet.load_state_dict({k: 2 * v for k, v in unet.state_dict().items()}, assign=True)
        torch.testing.assert_close(captured(X, T, CONTEXT), unet(X, T, CONTEXT))
    assert recorded == [unet, unet]


def test_hooks_see_every_call(recorded):
    unet = a_unet().eval()
    captured, seen = Captured(unet), []
    for network in (captured, unet):
        with torch.no_grad():
            network(X, T, CONTEXT)
            with attention_maps(unet) as maps:
                network(X, T, CONTEXT)
                network(X + 1, T, CONTEXT)
        seen.append(dict(maps))
    torch.testing.assert_close(*seen)


def test_a_training_with_cuda_graphs_learns_the_same(recorded):
    """Three batches a step: the gradients of the first two must outlast the third's."""
    process, losses, weights = Diffusion("straight", "flow"), [], []

    def loss(network, context):
        return process.loss(network, torch.ones(2, 1, 8, 8), context)

    for captures in (False, True):
        how = dict(steps=4, warmup=0, lr=1e-3, accumulate=3, device="cpu")
        run = flat.begin(a_unet(), loss, lambda index: torch.randn(2, 3, 8), **how)
        if captures:
            run.engine.graphs = CudaGraphs(run.objective, blocks(run.model))
        losses.append([step.loss for step in run])
        weights.append(list(copy.deepcopy(run.model).parameters()))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*weights)
    assert len(recorded) == len(blocks(run.model))  # once, for all steps and batches


def test_a_network_that_keeps_a_gpu_busy_is_not_captured(monkeypatch):
    with torch.device("meta"):
        published = UNet(**SD15_UNET)
    assert worth_capturing(a_unet()) and not worth_capturing(published)
    monkeypatch.setattr(cuda_graphs, "SMALL", 0)
    assert not worth_capturing(a_unet())


def test_what_looks_at_numbers_is_refused_in_one_line(recorded, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with …")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    unet = a_unet()
    with pytest.raises(RuntimeError) as error:
        Captured(unet)(X, T, CONTEXT)
    assert str(error.value) == (
        "this UNet can't be captured as a CUDA graph (operation not permitted when stream is "
        "capturing); to run it without, set course_lib.common.cuda_graphs.SMALL = 0 in a new "
        "process"
    )
    assert "forward" not in vars(unet) and unet(X, T, CONTEXT).isfinite().all()


def test_kept_gradients_have_a_place_of_their_own():
    weight, unused = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))
    place, unet = torch.ones(3), a_unet()
    weight.grad = place
    CudaGraphs(unet, blocks(unet)).keep_gradients([weight, unused])
    place.fill_(7)
    assert weight.grad.tolist() == [1, 1, 1] and unused.grad is None
