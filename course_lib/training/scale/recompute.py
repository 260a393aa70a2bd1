"""Less memory for more arithmetic: activations dropped and computed again (Chen et al. 2016).

A backward pass needs the input of every layer. A block that is recomputed keeps only its own input
and runs forward once more when its gradient is due: about a third more arithmetic and the same
numbers, since its random draws are repeated too.
"""

from torch import nn

from course_lib.models.attention import SpatialTransformer
from course_lib.models.dit import DiTBlock
from course_lib.models.layers import ResBlock
from course_lib.models.text import EncoderBlock

BLOCKS = ResBlock, SpatialTransformer, EncoderBlock, DiTBlock  # what the networks are made of


def blocks(model: nn.Module) -> list[nn.Module]:
    """The model's parts that are recomputed, captured, or gathered from processes as a whole."""
    return [module for module in model.modules() if isinstance(module, BLOCKS)]


def recompute(model: nn.Module) -> None:
    """Wrap each block, so that it drops its activations until its gradient is due.

    The names of the weights stay as they are.
    """
    # torch's module for this is imported here: it takes half a second
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper as torch_wrappers

    torch_wrappers.apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=torch_wrappers.checkpoint_wrapper,
        check_fn=lambda module: isinstance(module, BLOCKS),
    )
