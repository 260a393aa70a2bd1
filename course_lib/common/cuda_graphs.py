"""CUDA graphs: a GPU is handed a network's operations all at once, and not one by one.

Small networks keep a GPU waiting: each operation takes it a few microseconds, and Python some
fifteen to ask for it. What a module does for inputs of one shape is always the same, so its
operations can be recorded and replayed, in one request (`torch.cuda.make_graphed_callables`).

    with Replays([unet]):
        images = sample(process, unet, noise)    # the same numbers
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

MOST = 8  # recordings of a module: each holds memory
SMALL = 100e6  # parameters: a GPU waits for such a network; Stable Diffusion's keeps it busy


class Replays:
    """Inside `with`, calls of these modules on a GPU are replayed; the first of a kind is recorded.

    Outside it they are what they were. Recordings are kept for the next time. A module that
    somebody watches through hooks runs as it always does, and so do more than `MOST` kinds of call,
    and everything on a CPU.

    What a module does may depend on the shapes of its inputs, and not on the numbers in them; the
    inputs that are not None are tensors, given by position.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self.recordings = {module: {} for module in modules}
        self.calls = Counter()

    def __enter__(self) -> None:
        self.calls.clear()
        self.own = {module: vars(module).get("forward") for module in self.recordings}
        for module in self.recordings:
            module.forward = partial(self.call, module, module.forward)

    def __exit__(self, *error) -> None:
        for module, own in self.own.items():
            del module.forward  # which hid the one of its class
            if own is not None:  # or one that somebody else had put there, such as `recompute`
                module.forward = own

    def keep_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Copy the gradients, which the next replay would overwrite."""
        learning = [weight for weight in weights if weight.grad is not None]
        if self.recordings and learning:
            copies = torch._foreach_add([weight.grad for weight in learning], 0.0)
            for weight, copy in zip(learning, copies, strict=True):
                weight.grad = copy

    def call(self, module: nn.Module, plain, *inputs: Tensor | None) -> Tensor:
        if not on_gpu(inputs[0]) or watched(module):
            return plain(*inputs)
        inputs = [x for x in inputs if x is not None]
        kind, known = self.kind(module, inputs), self.recordings[module]
        if kind not in known:
            if len(known) == MOST:
                return plain(*inputs)
            known[kind] = record(module, plain, inputs)
        return known[kind](*inputs).clone()  # a replay overwrites the answer of the last one

    def kind(self, module: nn.Module, inputs: list[Tensor]) -> tuple:
        """All that makes a call another than the one recorded."""
        learns = torch.is_grad_enabled()
        self.calls[module] += learns  # a second call must leave what the first one's gradient needs
        modes = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cuda")
        weights = next(module.parameters()).data_ptr()  # they may have been moved
        shapes = ((x.shape, x.dtype, x.requires_grad) for x in inputs)
        return self.calls[module] * learns, module.training, *modes, weights, *shapes


def record(module: nn.Module, plain, inputs: list[Tensor]):
    """The module's forward and, where it learns, backward pass as CUDA graphs: a function.

    RuntimeError where that can't be, most often since the module looks at numbers on the GPU.
    """
    around, module.forward = module.forward, plain
    places = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    half = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    here = torch.cuda.device(inputs[0].get_device())
    # gradients will be added up on the stream of the recording, and torch need not mention it
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        with here, torch.autocast("cuda", half[1], half[0], cache_enabled=False):
            how = dict(num_warmup_iters=1, allow_unused_input=True)
            torch.cuda.make_graphed_callables(module, tuple(places), **how)
        return module.forward
    except RuntimeError as error:
        name, why = type(module).__name__, str(error).partition("\n")[0]
        raise RuntimeError(
            f"this {name} can't be recorded and replayed ({why}); start again with "
            "course_lib.common.cuda_graphs.SMALL = 0, and it runs as it is"
        ) from error
    finally:
        module.forward = around


def pays(module: nn.Module) -> bool:
    """Whether the module is so small that replaying it is worth the memory."""
    return sum(p.numel() for p in module.parameters()) < SMALL


def on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def watched(module: nn.Module) -> bool:
    """Whether a hook waits somewhere in the module for what a layer takes or returns."""
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
