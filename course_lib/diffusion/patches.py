"""A denoiser in closed form that looks at patches: for textures, from a single photograph.

If all patches of a picture may stand anywhere, the best estimate of a pixel, given the noisy patch
around it, is a mean over the photograph's patches: the "equivariant local score machine" of Kamb &
Ganguli 2024 ("An analytic theory of creativity in convolutional diffusion models"). Nothing is
trained. With circular padding the right edge of the picture is the neighbour of the left one, so
the result is a tile.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.common.checks import is_finite, require
from course_lib.diffusion.process import Diffusion
from course_lib.diffusion.schedules import Time

ROWS = 256  # noisy patches compared with the photograph's at once; more don't fit into the cache


class PatchDenoiser:
    """The network `prediction = network(x, timestep, context)` for pictures made of these patches.

    photograph: (1, C, H, W); size: the side of a patch in pixels, odd.
    count: how many of the photograph's patches to use, chosen at random with this seed.
    padding: "circular" for a tile, "reflect" for a picture with edges.
    Pictures x are (B, C, h, w), with h and w of at least `size`. All x of a batch have one time.

    >>> network = PatchDenoiser(Diffusion("straight", "flow"), torch.rand(1, 1, 9, 9), size=3)
    >>> network(torch.zeros(2, 1, 5, 5), torch.full((2,), 500.0)).shape
    torch.Size([2, 1, 5, 5])
    """

    def __init__(
        self,
        process: Diffusion,
        photograph: Tensor,
        size: int = 11,
        count: int = 6000,
        padding: str = "circular",
        seed: int = 0,
    ):
        fits = photograph.ndim == 4 and len(photograph) == 1 and is_finite(photograph)
        require(fits, "photograph", "finite floats (1, C, H, W)", photograph)
        fits = size % 2 == 1 and 0 < size <= min(photograph.shape[2:]) and count > 0
        wanted = "an odd number of pixels, at most the photograph's, and 1 or more"
        require(fits, "size and count", wanted, (size, count))
        require(padding in ("circular", "reflect"), "padding", "circular or reflect", padding)
        self.process, self.size, self.padding = process, size, padding
        patches = F.unfold(photograph, size)[0].T  # (all, D), D = C · size²
        draw = torch.Generator().manual_seed(seed)
        self.patches = patches[torch.randperm(len(patches), generator=draw)[:count]]  # (M, D)
        middle = size**2 // 2
        self.centres = self.patches[:, middle :: size**2]  # (M, C)

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None = None) -> Tensor:
        t = self.process.schedule.time(timestep)
        x0, (alpha, sigma) = self.x0(x, t), self.process.at(t, x)
        return self.process.target(x0, (x - alpha * x0) / sigma, t)

    def x0(self, x: Tensor, t: Time) -> Tensor:
        """The estimate of each pixel: the mean of the patches' centres, weighted by how well each
        patch explains the noisy one around the pixel."""
        require(min(x.shape[2:]) >= self.size, "x", f"at least {self.size} pixels wide", x)
        alpha, sigma = (float(each.flatten()[0]) for each in self.process.at(t, x))
        around = F.pad(x, (self.size // 2,) * 4, mode=self.padding)
        noisy = F.unfold(around, self.size).transpose(1, 2)  # (B, h·w, D)
        scaled = alpha * self.patches
        half = scaled.square().sum(1) / 2  # (M,)
        means = []
        for rows in noisy.flatten(0, 1).split(ROWS):
            log_p = (rows @ scaled.T - half) / sigma**2  # -|x - alpha p|² / 2 sigma², up to |x|²
            means.append(log_p.softmax(1) @ self.centres)
        return torch.cat(means).unflatten(0, noisy.shape[:2]).transpose(1, 2).reshape(x.shape)


def seam_error(tile: Tensor) -> Tensor:
    """How much rougher a tile (B, C, h, w) is across its seams than inside: (B, 2), 1 if seamless.

    For the vertical and the horizontal seam: the mean step between the pixels on both sides of it,
    divided by the mean step between neighbours inside. It varies around 1 by chance: a line inside
    a photograph has the same spread.

    >>> seam_error(torch.arange(4.0).expand(1, 1, 4, 4))[0, 0]  # steps 1, 1, 1 and back by 3
    tensor(3.)
    """
    require(tile.ndim == 4 and min(tile.shape[2:]) > 1, "tile", "pictures (B, C, h, w)", tile)
    errors = []
    for side in (3, 2):
        steps = (tile - tile.roll(1, side)).abs().mean((1, 5 - side))  # (B, w) or (B, h)
        errors.append(steps[:, 0] / steps[:, 1:].mean(1))
    return torch.stack(errors, 1)
