"""CUDA graphs: a network's operations are launched on the GPU all at once, not one by one.

With a small network, the GPU mostly waits: an operation runs for a few microseconds, but Python
needs about fifteen to launch it. A module's operations are the same for all inputs of one shape,
so they can be captured once and replayed with a single launch
(`torch.cuda.make_graphed_callables`).

    unet = Captured(unet)                      # one network, for sampling
    with CudaGraphs(model, blocks(model)):     # the blocks of a model, for training
        loss(model, data).backward()           # the same numbers
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOST = 8  # graphs for one module, because each holds memory
SMALL = 100e6  # parameters: below, a GPU waits for launches; Stable Diffusion keeps it busy


class Captured(nn.Module):
    """A module whose calls on a GPU are replayed; the first call of each kind is captured.

    A module with hooks runs as usual, and so do calls beyond `MOST` kinds and all calls on a CPU.
    A module's operations may depend on the shapes of its inputs, but not on their values. Inputs
    are tensors or None, passed by position.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.graphs: dict[tuple, object] = {}
        self.calls = 0  # with gradients, since `calls` was last set to 0

    def forward(self, *inputs: Tensor | None) -> Tensor:
        if not on_gpu(inputs[0]) or has_hooks(self.module):
            return self.module(*inputs)
        tensors = [x for x in inputs if x is not None]
        kind = self.kind(tensors)
        if kind not in self.graphs:
            if len(self.graphs) == MOST:
                return self.module(*inputs)
            self.graphs[kind] = capture(self.module, tensors)
        return self.graphs[kind](*tensors).clone()  # the next replay overwrites this output

    def kind(self, inputs: list[Tensor]) -> tuple:
        """Everything that distinguishes this call from one that was captured."""
        learns = torch.is_grad_enabled()
        self.calls += learns  # a second call must not overwrite what the first gradient needs
        modes = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cuda")
        weights = next(self.module.parameters()).data_ptr()  # they may have been moved
        shapes = ((x.shape, x.dtype, x.requires_grad) for x in inputs)
        return self.calls * learns, self.module.training, *modes, weights, *shapes


class CudaGraphs:
    """Inside `with`, these parts of the model are `Captured`; later blocks reuse the graphs."""

    def __init__(self, model: nn.Module, parts: Iterable[nn.Module]):
        captured = {part: Captured(part) for part in parts}
        self.places = [
            (parent, name, captured[child])
            for parent in model.modules()
            for name, child in parent.named_children()
            if child in captured
        ]

    def __enter__(self) -> None:
        for parent, name, part in self.places:
            part.calls = 0
            parent._modules[name] = part

    def __exit__(self, *error) -> None:
        for parent, name, part in self.places:
            parent._modules[name] = part.module

    def keep_gradients(self, weights: Iterable[Tensor]) -> None:
        """Copy the gradients, because the next replay would overwrite them."""
        learning = [weight for weight in weights if weight.grad is not None]
        if self.places and learning:
            copies = torch._foreach_add([weight.grad for weight in learning], 0.0)
            for weight, copy in zip(learning, copies, strict=True):
                weight.grad = copy


def capture(module: nn.Module, inputs: list[Tensor]):
    """A function that replays the module's forward pass and, with gradients, its backward pass.

    RuntimeError if they can't be captured, most often because the module reads values from the
    GPU.
    """
    places = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    half = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    here = torch.cuda.device(inputs[0].get_device())
    # silences torch's warning that gradients accumulate on the capture's stream, as they should
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        with here, torch.autocast("cuda", half[1], half[0], cache_enabled=False):
            how = dict(num_warmup_iters=1, allow_unused_input=True)
            torch.cuda.make_graphed_callables(module, tuple(places), **how)
        return vars(module).pop("forward")  # torch stores the replaying function there
    except RuntimeError as error:
        name, why = type(module).__name__, str(error).partition("\n")[0]
        raise RuntimeError(
            f"this {name} can't be captured as a CUDA graph ({why}); to run it without, set "
            "course_lib.common.cuda_graphs.SMALL = 0 in a new process"
        ) from error


def worth_capturing(module: nn.Module) -> bool:
    """Whether the module is so small that a graph is worth its memory."""
    return sum(p.numel() for p in module.parameters()) < SMALL


def on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def has_hooks(module: nn.Module) -> bool:
    """Whether any layer of the module has a forward hook, which a replay would not call."""
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
