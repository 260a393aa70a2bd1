"""Exercise 13.6, chapter 13's capstone: a strict loader, tested on intact and damaged weights."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from course_lib.models import UNet
from course_lib.pipelines.stable_diffusion.key_map import DIFFUSERS, renamed
from course_lib.teaching.check import Target

Weights = dict[str, Tensor]


def load_strictly(network, weights, rename):
    ours = {rename(name): parameter for name, parameter in network.named_parameters()}
    if wrong := sorted(ours.keys() ^ weights.keys()):
        raise ValueError(f"missing or left over: {', '.join(wrong)}")
    for name, parameter in ours.items():
        shape, expected = tuple(weights[name].shape), tuple(parameter.shape)
        if shape not in (expected, (*expected, 1, 1)):
            raise ValueError(f"{name} is {shape}, expected {expected}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} is not finite")
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(weights[name].reshape(parameter.shape))


# ---- the checkpoints ---------------------------------------------------------------------------

TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"  # (32, 8)
CONV = "mid_block.resnets.0.conv1.weight"
LAST = "conv_out.bias"


def small_unet() -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(4, None, 32, (1,), 1, (True,), 2, 8)


def their_name(name: str) -> str:
    return renamed(name, DIFFUSERS)


@cache
def intact() -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        parameters = small_unet().named_parameters()
        return {their_name(name): torch.randn_like(p).detach() for name, p in parameters}


def as_convolution(name: str, weight: Tensor) -> Tensor:
    linear = name.endswith(("attentions.0.proj_in.weight", "attentions.0.proj_out.weight"))
    return weight[:, :, None, None] if linear else weight


def spoiled(name: str, value: float) -> Weights:
    """The weights with this value, NaN or infinite, in their last entry."""
    weight = intact()[name].clone()
    weight.view(-1)[-1] = value
    return intact() | {name: weight}


def without(name: str) -> Weights:
    return {other: weight for other, weight in intact().items() if other != name}


def sound() -> dict[str, Weights]:
    """Checkpoints that must be read."""
    weights = intact()
    return {
        "as it is": weights,
        "in another order": dict(reversed(weights.items())),
        "with 1 × 1 convolutions": {n: as_convolution(n, w) for n, w in weights.items()},
        "in half precision": {name: weight.half() for name, weight in weights.items()},
    }


def damaged() -> dict[str, tuple[str, Weights]]:
    """Checkpoints that must be refused, each with the weight to be named."""
    weights, key = intact(), intact()[TO_K]
    return {
        "the first weight missing": ("conv_in.weight", without("conv_in.weight")),
        "the last weight missing": (LAST, without(LAST)),
        "a weight left over": ("lora.down.weight", weights | {"lora.down.weight": key}),
        "a wider context": (TO_K, weights | {TO_K: torch.zeros(32, 12)}),
        "a matrix transposed": (TO_K, weights | {TO_K: key.T.contiguous()}),
        "a single number": (LAST, weights | {LAST: torch.zeros(())}),
        "a NaN": (CONV, spoiled(CONV, float("nan"))),
        "an infinity in the last weight": (LAST, spoiled(LAST, float("inf"))),
    }


# ---- the number to reach -----------------------------------------------------------------------


def outcome(answer: Callable, weights: Weights) -> tuple[Exception | None, Weights]:
    """The error that the answer raised, and the network's weights afterwards, by name."""
    network, error = small_unet(), None
    try:
        answer(network, {name: weight.clone() for name, weight in weights.items()}, their_name)
    except Exception as raised:  # whatever a reader's code may raise
        error = raised
    return error, {their_name(name): p.detach() for name, p in network.named_parameters()}


def same(ours: Weights, theirs: Weights) -> bool:
    return all(torch.equal(w, theirs[n].reshape(w.shape).to(w.dtype)) for n, w in ours.items())


Outcome = tuple[str, str, Weights]  # the error's class or "", its text, and the weights afterwards


def handled(answer: Callable) -> list[Outcome]:
    """The outcome for each checkpoint, first the sound ones and then the damaged ones."""
    found = []
    for weights in (*sound().values(), *(each for _, each in damaged().values())):
        error, after = outcome(answer, weights)
        if error and len(found) < len(sound()) and not isinstance(error, ValueError):
            raise error  # a slip in the reader's code: shown with its line
        kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
        found.append((kind if error else "", str(error), after))
    return found


def share_handled(found: list[Outcome]) -> float:
    """The share that is read exactly, or refused with a ValueError that names the weight."""
    before, right = {their_name(n): p for n, p in small_unet().named_parameters()}, 0
    read, refused = found[: len(sound())], found[len(sound()) :]
    for (kind, _, after), weights in zip(read, sound().values(), strict=True):
        right += not kind and same(after, weights)
    for (kind, text, after), (name, _) in zip(refused, damaged().values(), strict=True):
        right += kind == "ValueError" and name in text and same(after, before)
    return right / len(found)


# ---- mistakes ----------------------------------------------------------------------------------


def accepts(answer: Callable, *kinds: str) -> bool:
    return any(outcome(answer, damaged()[kind][1])[0] is None for kind in kinds)


def missing_weights_accepted(answer: Callable) -> bool:
    """A checkpoint without one of the weights loads without an error, so that weight keeps its
    random values. Compare the names on both sides before you load anything."""
    return accepts(answer, "the first weight missing", "the last weight missing")


def leftovers_accepted(answer: Callable) -> bool:
    """A weight that no parameter asks for is ignored. It is a sign that the file belongs to another
    network: refuse it, too."""
    return accepts(answer, "a weight left over")


def shapes_forced(answer: Callable) -> bool:
    """A weight of another shape is accepted, for example a transposed matrix or a single number
    that copy_ spreads over the whole parameter. Compare shapes, not only counts of numbers."""
    return accepts(answer, "a wider context", "a matrix transposed", "a single number")


def what_is_not_finite_accepted(answer: Callable) -> bool:
    """Weights that are NaN or infinite are accepted: one of them spoils every picture. Test each
    weight with isfinite()."""
    return accepts(answer, "a NaN", "an infinity in the last weight")


def convolutions_refused(answer: Callable) -> bool:
    """You refuse linear layers that are stored as 1 × 1 convolutions. Their shape (C, D, 1, 1)
    holds the same numbers as (C, D): accept both."""
    names = ("as it is", "with 1 × 1 convolutions")
    plain, convolutions = (outcome(answer, sound()[name])[0] for name in names)
    return plain is None and isinstance(convolutions, ValueError | RuntimeError)


def refusals(answer: Callable) -> list[tuple[str, Exception, Weights]]:
    """Of an answer that reads the intact weights and refuses all others: the weight, the error, and
    the network afterwards."""
    if outcome(answer, intact())[0]:
        return []
    found = [(name, *outcome(answer, weights)) for name, weights in damaged().values()]
    return found if all(error for _, error, _ in found) else []


def another_kind_of_error(answer: Callable) -> bool:
    """You refuse, but with an error of another kind, such as KeyError or RuntimeError. Raise a
    ValueError of your own, so that whoever calls the loader can tell a bad file from a bug."""
    return any(not isinstance(error, ValueError) for _, error, _ in refusals(answer))


def weight_not_named(answer: Callable) -> bool:
    """You refuse, but the message doesn't name the weight. In a file of a thousand names the reader
    needs to know which one to look at."""
    return any(name not in str(error) for name, error, _ in refusals(answer))


def changed_before_refusing(answer: Callable) -> bool:
    """You refuse, but by then some weights are already loaded, so the network is half one model and
    half another. Check everything first, and load only then."""
    before = outcome(lambda *_: None, {})[1]
    return any(not same(after, before) for _, _, after in refusals(answer))


EXERCISES = {
    "13.6": Target(
        load_strictly,
        handled,
        bound=1.0,  # nothing is random
        meaning="the share of checkpoints handled correctly is",
        well_done="Nothing is silently missing, left over, misshapen or broken: that is strict.",
        most=False,
        misconceptions=[
            missing_weights_accepted,
            leftovers_accepted,
            shapes_forced,
            what_is_not_finite_accepted,
            convolutions_refused,
            another_kind_of_error,
            weight_not_named,
            changed_before_refusing,
        ],
        measure=share_handled,
    ),
}
