"""Networks for points in the plane."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.models.layers import TimeEmbedding


class PointNet(nn.Module):
    """Chapter 02's network for points in the plane, whose layers the time scales and shifts.

    >>> PointNet()(torch.zeros(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, width: int = 64, layers: int = 3):
        super().__init__()
        self.time = TimeEmbedding(32, 2 * width)
        self.linear_in, self.linear_out = nn.Linear(2, width), nn.Linear(width, 2)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: Tensor, timestep: Tensor, context: None = None) -> Tensor:
        h = self.linear_in(x)  # (B, width)
        scale, shift = torch.chunk(self.time(timestep), 2, dim=1)  # two of (B, width)
        for layer in self.layers:
            h = h + layer(F.silu(h * (1 + scale) + shift))
        return self.linear_out(h)  # (B, 2)


def perceptron(inputs: int, width: int, outputs: int, layers: int = 4) -> nn.Sequential:
    """Linear layers with LeakyReLU between them: (B, inputs) -> (B, outputs).

    >>> perceptron(8, 16, 2)(torch.zeros(5, 8)).shape
    torch.Size([5, 2])
    """
    body: list[nn.Module] = [nn.Linear(inputs, width)]
    for _ in range(layers - 1):
        body += [nn.LeakyReLU(0.2), nn.Linear(width, width)]
    return nn.Sequential(*body, nn.LeakyReLU(0.2), nn.Linear(width, outputs))
