"""Less memory for more arithmetic: gradient checkpointing (Chen et al. 2016).

A backward pass needs the input of every layer. A block that is recomputed stores only its own
input, and runs forward again before its backward pass. That is about a third more arithmetic. The
numbers are the same, because the random draws are repeated, too.
"""

from torch import nn

from course_lib.models.attention import SpatialTransformer
from course_lib.models.dit import DiTBlock
from course_lib.models.layers import ResnetBlock
from course_lib.models.text import EncoderLayer

BLOCKS = ResnetBlock, SpatialTransformer, EncoderLayer, DiTBlock  # what the networks are made of


def blocks(model: nn.Module) -> list[nn.Module]:
    """The parts of the model that are recomputed, captured, or gathered as a unit."""
    return [module for module in model.modules() if isinstance(module, BLOCKS)]


def recompute(model: nn.Module) -> None:
    """Wrap each block, so that it drops its activations and recomputes them for its gradient.

    The names of the weights don't change.
    """
    # imported here, because torch's module for this takes half a second to import
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper as torch_wrappers

    torch_wrappers.apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=torch_wrappers.checkpoint_wrapper,
        check_fn=lambda module: isinstance(module, BLOCKS),
    )
