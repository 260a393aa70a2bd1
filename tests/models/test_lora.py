"""LoRA: its initial state, what it trains, and the meaning of rank, alpha and scale."""

import copy

import pytest
import torch
from torch import nan, nn

from course_lib.models import DiT, LoRA, TextEncoder, UNet
from course_lib.models.lora import LowRank, adaptable
from course_lib.training import Optimizer, Training
from tests.models.denoisers import LABELS, PATCHES_AND_TEXT, PLAIN, TEXT, inputs, stirred

CASES = {
    "text": (UNet, TEXT, r"\bto_(q|k|v|out)$"),
    "labels": (UNet, LABELS, r"\bto_(q|k|v|out)$"),
    "kernels": (UNet, PLAIN, "conv"),  # 3 × 3, 1 × 1 and of stride 2
    "all layers": (UNet, TEXT, ""),
    "transformer": (DiT, PATCHES_AND_TEXT, "ff|to_q"),
}


@pytest.fixture(params=CASES)
def case(request):
    """A network, its inputs, and a LoRA of it whose update is not zero."""
    cls, keywords, layers = CASES[request.param]
    torch.manual_seed(0)
    network = stirred(cls(**keywords))
    return network, inputs(keywords), filled(LoRA(network, rank=3, alpha=2, layers=layers))


def filled(lora):
    for update in lora.low_rank:
        update.B.data = torch.randn_like(update.B) / 4
    return lora


def close(x, y, bound=1e-5):
    assert (x - y).abs().max() <= bound * y.abs().max()


@pytest.mark.parametrize(("cls", "keywords", "layers"), CASES.values(), ids=CASES)
def test_it_equals_the_network_at_the_start(cls, keywords, layers):
    torch.manual_seed(0)
    network, given = stirred(cls(**keywords)), inputs(keywords)
    expected = network(*given)
    assert torch.equal(LoRA(network, layers=layers)(*given), expected)


def test_an_update_is_alpha_over_rank_times_b_times_a():
    """By hand: W + α/r · B·A, and a layer's output is W·x + α/r · B·(A·x) (eq. 3)."""
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 7), torch.randn(2, 5)
    for rank, alpha in ((1, None), (3, 2), (4, 8), (2, 0.5)):
        lora = filled(LoRA(nn.Sequential(layer), rank, alpha, layers="0"))
        (update,) = lora.low_rank
        assert update.A.shape == (rank, 5) and update.B.shape == (7, rank)
        factor = (rank if alpha is None else alpha) / rank
        close(update(), factor * update.B @ update.A)
        assert torch.linalg.matrix_rank(update()) == rank
        lora.scale = 0.3
        close(lora(x), layer(x) + 0.3 * factor * x @ update.A.T @ update.B.T)


def test_a_kernel_is_a_small_convolution_before_a_pointwise_one():
    """peft and kohya's scripts write it like this: k × k down to r channels, then 1 × 1 up."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 5, 3, stride=2, padding=1), torch.randn(2, 3, 8, 8)
    lora = filled(LoRA(nn.Sequential(layer), rank=2, layers="0"))
    (update,) = lora.low_rank
    down = nn.functional.conv2d(x, update.A.view(2, 3, 3, 3), stride=2, padding=1)
    close(lora(x), layer(x) + nn.functional.conv2d(down, update.B.view(5, 2, 1, 1)))


def test_merged_equals_unmerged_and_unmerging_gives_the_network_back(case):
    network, given, lora = case
    before, expected = network(*given), lora(*given)
    assert (expected - before).abs().max() > 1e-2 * before.abs().max()
    assert lora.merge() is network
    close(network(*given), expected)
    close(lora(*given), expected)  # and isn't added twice
    lora.scale = 9.0  # what was merged is what is taken out
    assert lora.unmerge() is network
    close(network(*given), before)


def test_only_a_and_b_are_trained(case):
    network, given, lora = case
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD([p for p in lora.parameters() if p.requires_grad], lr=0.1)
    lora(*given).square().mean().backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(u.A.grad.any() and u.B.grad.any() for u in lora.low_rank)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_the_training_loop_trains_it_and_its_average():
    """Neither changes a single bit of the frozen weights."""
    torch.manual_seed(0)
    network, given = stirred(UNet(**TEXT)), inputs(TEXT)
    before, goal = copy.deepcopy(network.state_dict()), torch.randn(2, 3, 8, 8)

    def loss(model, data):
        return (model(*data) - goal).square().mean()

    optimizer = Optimizer(lr=1e-2, warmup=1)
    run = Training(LoRA(network), loss, lambda _: given, steps=20, optimizer=optimizer, ema=0.5)
    losses = [step.loss for step in run]
    assert losses[-1] < 0.9 * losses[0]
    for lora in (run.model, run.ema):
        assert loss(lora, given) < 0.9 * losses[0]
        state = lora.network.state_dict()
        assert all(torch.equal(state[name], weight) for name, weight in before.items())


def test_the_gradient_is_that_of_the_low_rank_branch():
    """∂/∂B = α/r · g·(A·x)ᵀ, as if the branch were computed beside the frozen layer."""
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 7).double(), torch.randn(4, 5).double()
    lora = filled(LoRA(nn.Sequential(layer), rank=2, alpha=3, layers="0"))
    (update,) = lora.low_rank
    assert update.A.dtype == torch.float64
    lora(x).square().sum().backward()
    A, B = (w.detach().requires_grad_() for w in (update.A, update.B))
    (layer(x) + 3 / 2 * x @ A.T @ B.T).square().sum().backward()
    close(update.A.grad, A.grad, 1e-12)
    close(update.B.grad, B.grad, 1e-12)


@pytest.mark.parametrize("scale", [0.0, 0.5, -2.0])
def test_the_scale_multiplies_the_update(case, scale):
    network, _, lora = case
    weights = {name: weight.clone() for name, weight in adaptable(network).items()}
    lora.scale = scale
    lora.merge()
    for name, update in lora.updates.items():
        close(adaptable(network)[name], weights[name] + scale * update())


def test_the_sum_of_two_has_both_updates(case):
    """With different ranks, alphas and scales, and partly for different layers."""
    network, given, first = case
    second = filled(LoRA(network, rank=2, alpha=5, layers=r"proj|time"))
    first.scale, second.scale = 0.7, -0.4
    both = first + second
    assert {*both.names} == {*first.names, *second.names}
    for name, update in both.updates.items():
        parts = [
            lora.scale * lora.updates[name]() for lora in (first, second) if name in lora.names
        ]
        close(update(), sum(parts))
        assert len(update.A) == 3 * (name in first.names) + 2 * (name in second.names)
    expected = both(*given)
    first.merge()
    second.merge()
    close(network(*given), expected)


def test_one_lora_can_wrap_another(case):
    network, given, first = case
    second = filled(LoRA(first, rank=1, layers="time_embedding"))
    expected = (first + filled_as(second, LoRA(network, rank=1, layers="time_embedding")))(*given)
    close(second(*given), expected)


def filled_as(lora, other):
    other.load_state_dict(
        {k: v for k, v in lora.state_dict().items() if k.startswith("low_rank.")}, strict=False
    )
    return other


def test_a_text_encoder_is_adapted_too():
    torch.manual_seed(0)
    encoder, ids = TextEncoder(20, 6, 8, 1, 2), torch.tensor([[18, 1, 2, 19]])
    lora = filled(LoRA(encoder))
    assert lora(ids).shape == (1, 4, 8) and not torch.equal(lora(ids), encoder(ids))


def test_an_update_of_bf16_weights_is_kept_in_float32():
    network = nn.Sequential(nn.Linear(4, 4)).bfloat16()
    lora = filled(LoRA(network, layers="0"))
    assert lora.low_rank[0].A.dtype == torch.float32
    assert lora(torch.ones(1, 4).bfloat16()).dtype == torch.bfloat16
    assert lora.merge()[0].weight.dtype == torch.bfloat16


def test_far_fewer_numbers_are_trained_than_the_layers_have():
    update = LowRank(torch.zeros(320, 768), rank=4)
    assert sum(p.numel() for p in update.parameters()) == 4 * (320 + 768)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        (dict(rank=0), "rank must be a whole number, at least 1; got 0"),
        (dict(rank=1.5), "rank must be a whole number, at least 1; got 1.5"),
        (dict(alpha=0), "alpha: expected a positive number, got 0"),
        (dict(alpha=nan), "alpha: expected a positive number, got nan"),
        (dict(layers="attn9"), "layers and alphas: expected names among .*, got attn9"),
        (dict(rank={"nowhere": 3}), "layers and alphas: expected names among .*, got nowhere"),
        (dict(rank={"conv_in": 3}, alpha={"conv_out": 3}), "layers and alphas: .*, got conv_in"),
    ],
)
def test_what_it_refuses(keywords, words):
    with pytest.raises(ValueError, match=words):
        LoRA(UNet(**TEXT), **keywords)


def test_it_is_merged_once_and_added_only_to_its_like():
    network = UNet(**TEXT)
    lora, other = LoRA(network), LoRA(UNet(**TEXT))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with torch.no_grad():
        for update in lora.low_rank:
            update.B.normal_(generator=torch.Generator().manual_seed(0))
    for call, same in ((lora.unmerge, True), (lora.merge, False), (lora.merge, False)):
        call()  # the first unmerge and the second merge do nothing
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        assert all(torch.equal(weights[name], before[name]) for name in before) == same
    lora.unmerge()
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, before[name], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="adding LoRAs: expected two of one network"):
        lora + other
    lora.merge()
    with pytest.raises(ValueError, match=r"adding LoRAs: .* neither of them merged"):
        LoRA(network) + lora
