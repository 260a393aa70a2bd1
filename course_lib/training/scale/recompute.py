"""Less memory for more arithmetic: activations forgotten and computed again (Chen et al. 2016).

A backward pass needs what each layer saw. A block that is recomputed keeps its input alone, and
runs forward once more when its gradient is due: about a third more arithmetic, and the same
numbers, since its random draws are repeated too.
"""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from course_lib.models.attention import SpatialTransformer
from course_lib.models.dit import DiTBlock
from course_lib.models.layers import ResnetBlock
from course_lib.models.text import EncoderLayer

BLOCKS = ResnetBlock, SpatialTransformer, EncoderLayer, DiTBlock  # what the networks are made of


def blocks(model: nn.Module) -> list[nn.Module]:
    """The model's parts that are recomputed, replayed, or gathered from processes as a whole."""
    return [module for module in model.modules() if isinstance(module, BLOCKS)]


def recompute(model: nn.Module) -> None:
    """Let each block of the model forget its activations until its gradient is due."""
    for block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
