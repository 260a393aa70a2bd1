"""Properties of every denoising network, `prediction = network(x, timestep, context)`."""

import json

import pytest
import torch

from course_lib.models import DiT, UNet
from tests.models.denoisers import (
    LABELS,
    PATCHES,
    PATCHES_AND_TEXT,
    PIXELS,
    PLAIN,
    TEXT,
    inputs,
    stirred,
)

KINDS = [
    *((UNet, keywords) for keywords in (TEXT, LABELS, PLAIN)),
    *((DiT, keywords) for keywords in (PATCHES, PATCHES_AND_TEXT, PIXELS)),
]
READERS = [(UNet, TEXT), (DiT, PATCHES_AND_TEXT)]
every_network = pytest.mark.parametrize(("cls", "keywords"), KINDS)
every_reader = pytest.mark.parametrize(("cls", "keywords"), READERS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@every_network
def test_rebuilds_from_its_keywords(cls, keywords):
    network = stirred(cls(**keywords))
    twin = cls(**json.loads(json.dumps(network.kwargs)))
    twin.load_state_dict(network.state_dict())
    x = inputs(keywords)
    assert torch.equal(network(*x), twin(*x))


@every_network
def test_moves_whole_to_double(cls, keywords):
    network, (x, t, context) = stirred(cls(**keywords)), inputs(keywords)
    single = network(x, t, context)
    context = context.double() if "context_dim" in keywords else context
    double = network.double()(x.double(), t.double(), context)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)  # float32's rounding


@every_network
def test_autocast_trains(cls, keywords):
    network, x = stirred(cls(**keywords)), inputs(keywords)
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(*x)
    assert answer.dtype == torch.bfloat16
    answer.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    exact = network(*x)
    # 8 bits of mantissa, some 20 layers
    assert (answer - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize(
    ("cls", "keywords"),
    [
        (UNet, TEXT | dict(multipliers=(1,), attention=(True,))),
        (UNet, LABELS | dict(multipliers=(1,), attention=(False,))),
        (DiT, PATCHES_AND_TEXT),
    ],
)
def test_compiles_without_a_graph_break(cls, keywords):
    network, x = stirred(cls(**keywords)), inputs(keywords)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*x), network(*x), rtol=1e-4, atol=1e-5)


@every_reader
def test_samples_of_a_batch_do_not_mix(cls, keywords):
    network, (x, t, context) = stirred(cls(**keywords)), inputs(keywords, batch=3)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], context[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, t, context), alone, rtol=1e-4, atol=1e-5)


@every_reader
def test_answer_depends_on_time_and_on_every_word(cls, keywords):
    network, (x, t, context) = stirred(cls(**keywords)), inputs(keywords)
    answer = network(x, t, context)
    assert not torch.allclose(network(x, t + 10, context), answer)
    for word in range(context.shape[1]):
        other = context.clone()
        other[:, word] += 1
        assert not torch.allclose(network(x, t, other), answer)


@every_reader
def test_one_timestep_serves_the_whole_batch(cls, keywords):
    network, (x, _, context) = stirred(cls(**keywords)), inputs(keywords)
    one = network(x, torch.tensor(7.0), context)
    assert torch.equal(one, network(x, torch.tensor([7.0, 7.0]), context))
