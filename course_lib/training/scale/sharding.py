"""Sharded training: N processes hold 1/N of everything each (Rajbhandari et al. 2020, ZeRO-3).

If each GPU holds the whole model, more GPUs make training faster, but don't allow a larger model.
Here every weight is split along its first axis, and so are its gradient, its two moments and its
average: 20 bytes per parameter with AdamW in float32. A block's weights are gathered just before
its forward and its backward pass, and released after each (torch's FSDP).

Stable Diffusion's U-Net has 859,520,964 parameters, which take 17.2 GB: 2.15 GB on each of 8 GPUs,
plus the activations and a few blocks' weights of up to 0.2 GB. This script trains it,

    scale = Scale(accumulate=8, shard=True, recompute=True, precision="bf16")
    run = train(UNet(**SD15_UNET), loss, batch, steps=100_000, scale=scale, folder="outputs/sd")
    list(run)
    run.close()
    if run.is_main:
        save_checkpoint("outputs/sd/unet", run.ema, **run.card)

if you start it with `torchrun --standalone --nproc-per-node=8 SCRIPT.py`. Before the first step
each process creates the whole model and a copy, 6.9 GB, and `run.ema` gathers the whole average:
the model itself must fit on each GPU, but its training doesn't need to.
"""

import copy

import torch
from torch import Tensor, nn

from course_lib.training.scale.recompute import blocks

# imported inside the functions, because torch's modules for this take half a second to import


def shard(objective: nn.Module, average: nn.Module, device: torch.device) -> None:
    """Keep only this process's part of the parameters of `objective.model` and of its average.

    The objective's forward gathers the weights, so call the objective, not its model.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in blocks(objective):
        fully_shard(block, mesh=mesh)
    fully_shard(objective, mesh=mesh)  # the weights outside the blocks
    parts = {name: part.clone() for name, part in objective.model.state_dict().items()}
    average.load_state_dict(parts, assign=True)  # the average starts as the weights


def local_parts(tensors: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's parts of whole tensors, where `like` has parts; nothing is exchanged."""
    return {name: local_part(tensor, like.get(name)) for name, tensor in tensors.items()}


def local_part(tensor: Tensor, like: Tensor | None) -> Tensor:
    if not is_sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def is_sharded(tensor: Tensor | None) -> bool:
    return hasattr(tensor, "full_tensor")  # torch's DTensor


def gather(tensor: Tensor) -> Tensor:
    """The tensor from all its parts. All processes must call this, because they wait together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def gather_model(model: nn.Module) -> nn.Module:
    """A copy of the model from all its parts, which doesn't need the other processes any more."""
    model = copy.deepcopy(model)
    model.load_state_dict({k: gather(v) for k, v in model.state_dict().items()}, assign=True)
    return model
