"""Finds the regions that stand out from a plain background, by colour distance."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

SEEN = 0.34  # colour distance that stands out: half of that between the two closest colours
SMALLEST = 0.010  # area of an object, as a share of the picture: 40 % of the smallest one drawn
LARGEST = 0.55  # width of an object, in picture widths: 25 % above the largest one drawn
SPECK = 0.002  # regions of a smaller area, as a share of the picture, are ignored
MOST = 6  # objects; a picture with more is not a scene

_NEIGHBOURS = np.zeros((3, 3, 3), dtype=int)  # pixels join above, below, left and right;
_NEIGHBOURS[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]  # pictures of a batch never join


@dataclass
class Regions:
    """N patches of P x P pixels, each around one region that stands out, from B pictures."""

    picture: torch.Tensor  # (N,) the picture it comes from
    corner: torch.Tensor  # (N, 2) x, y of the patch's corner in the picture, in pixels
    colour: torch.Tensor  # (N, 3, P, P) difference from the background
    weight: torch.Tensor  # (N, P, P) 0 where another region is, otherwise 1
    own: torch.Tensor  # (N, P, P) 1 on the region and its soft edge


def background_colour(images: torch.Tensor) -> torch.Tensor:
    """The median colour (B, 3) of the outermost two pixels of each picture."""
    sides = [images[..., :2, :], images[..., -2:, :], images[..., :2], images[..., -2:]]
    return torch.cat([side.flatten(2) for side in sides], 2).median(2).values


def find_regions(images: torch.Tensor, ground: torch.Tensor) -> Regions | None:
    """The regions where pictures (B, 3, W, W) differ from their background (B, 3), or None.

    A picture with an object that is too small or too large, or with too many, has no regions.
    """
    patch = images.shape[-1] // 2
    away = images - ground[:, :, None, None]  # (B, 3, W, W)
    labels, regions = _regions(away)
    padding = (patch,) * 4  # outside the picture everything is background
    away, labels = F.pad(away, padding), F.pad(_with_fringe(labels), padding)
    picture, corner, number, colour, territory = [], [], [], [], []
    for b, label, rows, columns in regions:
        x, y = ((side.start + side.stop - patch) // 2 for side in (columns, rows))
        window = np.s_[y + patch : y + 2 * patch, x + patch : x + 2 * patch]
        picture.append(b)
        corner.append((x, y))
        number.append(label)
        colour.append(away[b][:, *window])
        territory.append(labels[b][window])
    if not regions:
        return None
    number, territory = torch.tensor(number)[:, None, None], torch.stack(territory)
    return Regions(
        picture=torch.tensor(picture),
        corner=torch.tensor(corner).float(),
        colour=torch.stack(colour),
        weight=((territory == 0) | (territory == number)).float(),
        own=(territory == number).float(),
    )


def _regions(away: torch.Tensor) -> tuple[torch.Tensor, list[tuple]]:
    """Labels the connected regions; lists (picture, label, rows, columns) of the valid ones."""
    labels, _ = ndimage.label((away.norm(dim=1) > SEEN).numpy(), _NEIGHBOURS)
    width = labels.shape[-1]
    area = np.bincount(labels.ravel()) / width**2

    def sound(region):
        _, label, *sides = region
        longest = max(side.stop - side.start for side in sides)
        return area[label] >= SMALLEST and longest <= LARGEST * width

    found = [[] for _ in labels]
    for label, (b, rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if area[label] > SPECK:
            found[b.start].append((b.start, label, rows, columns))
    clear = [seen for seen in found if len(seen) <= MOST and all(map(sound, seen))]
    return torch.from_numpy(labels).float(), [region for seen in clear for region in seen]


def _with_fringe(labels: torch.Tensor) -> torch.Tensor:
    """The regions, grown by two pixels to include their soft edges, which are too faint."""
    for _ in range(2):
        grown = F.max_pool2d(labels[:, None], 3, stride=1, padding=1)[:, 0]
        labels = torch.where(labels > 0, labels, grown)
    return labels
