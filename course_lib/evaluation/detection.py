"""What is in a picture, in words: names for the regions that stand out, where possible."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from course_lib.datasets.scenes.dataset import HIGH, LOW, MIDDLE
from course_lib.datasets.scenes.grammar import COLOURS, SHAPES, SIZES, Object, Scene
from course_lib.evaluation import shapes
from course_lib.evaluation.segmentation import SEEN, Regions, background_colour, find_regions

COLOUR_BOUND = 0.30  # RGB distance in [-1, 1]; the two closest colours are 0.69 apart
MISFIT_BOUND = 0.02  # share of a region's energy that may remain unexplained
WORST_BOUND = 0.25  # the same at the worst pixel, as a fraction of the contrast
RIVAL_BOUND = 2.0  # the second-best shape must leave this many times as much unexplained
SIZE_BOUND = 1.20  # ratio of radii; "large" is 1.61 times "small"
TILT_BOUND = 1.5  # in a relation, the distance along its axis is this many times that across it
EDGES = ((LOW[1] + MIDDLE[0]) / 2, (MIDDLE[1] + HIGH[0]) / 2)  # between left, centre and right

PALETTE = 2 * torch.tensor(list(COLOURS.values())) - 1  # (8, 3)


@dataclass(frozen=True)
class Detection:
    """One detected object; None for what can't be named. Centre in picture widths, y down."""

    size: str | None = None
    colour: str | None = None
    shape: str | None = None
    centre: tuple[float, float] | None = None

    @property
    def named(self) -> Object | None:
        """The object in words, or None if a property can't be named."""
        known = self.size and self.colour and self.shape
        return Object(self.size, self.colour, self.shape) if known else None


@dataclass(frozen=True)
class Detections:
    """Everything that was detected in one picture."""

    background: str | None = None
    detections: tuple[Detection, ...] = ()

    def scene(self) -> Scene | None:
        """The picture as a scene, or None. In a pair, the left or upper object comes first."""
        objects = [detection.named for detection in self.detections]
        if not (self.background and objects and all(objects)):
            return None
        if len(objects) == 1:
            return Scene("single", (objects[0],), self.background, place_of(self.detections[0]))
        if len(set(objects)) == 1 and len(objects) <= 4:
            return Scene("count", (objects[0],), self.background, count=len(objects))
        if len(objects) != 2:
            return None
        relation = relation_of(*self.detections)
        if relation in ("right of", "below"):
            relation = {"right of": "left of", "below": "above"}[relation]
            objects.reverse()
        return Scene("pair", tuple(objects), self.background, relation=relation, count=2)


def place_of(detection: Detection) -> str | None:
    """Which of the nine places the object is in."""
    if detection.centre is None:
        return None
    column, row = ((at > EDGES[0]) + (at > EDGES[1]) for at in detection.centre)
    words = (("top", "", "bottom")[row], ("left", "", "right")[column])
    return " ".join(word for word in words if word) or "centre"


def relation_of(first: Detection, second: Detection) -> str | None:
    """The position of the first relative to the second; None if too far off both axes."""
    if first.centre is None or second.centre is None:
        return None
    x, y = (a - b for a, b in zip(first.centre, second.centre, strict=True))
    if abs(x) > TILT_BOUND * abs(y):
        return "left of" if x < 0 else "right of"
    if abs(y) > TILT_BOUND * abs(x):
        return "above" if y < 0 else "below"
    return None


# --- from pixels to names --------------------------------------------------------------------


def detect(images: torch.Tensor) -> list[Detections]:
    """Everything that can be detected in pictures (B, 3, W, W) in [-1, 1]."""
    finite = images.isfinite().flatten(1).all(1)  # in a diverged model's picture, detect nothing
    images = torch.where(finite[:, None, None, None], images, 0).clamp(-1, 1)
    ground = background_colour(images)  # (B, 3)
    background = [_colour_name(colour) for colour in ground]
    detections = [[] for _ in images]
    plain = [b for b, name in enumerate(background) if name]
    if plain and (regions := find_regions(images[plain], ground[plain])):
        owners = torch.tensor(plain)[regions.picture]
        for b, detection in zip(
            owners, _name(regions, ground[owners], images.shape[-1]), strict=True
        ):
            detections[b].append(detection)
    return [
        Detections(name, tuple(seen)) for name, seen in zip(background, detections, strict=True)
    ]


def _name(regions: Regions, ground: torch.Tensor, width: int) -> list[Detection]:
    """Fit all shapes to all regions at once, then name the best of each."""
    blur = 3 * width / 64  # pixels
    direction, along, across = _split(regions.colour, regions.weight)
    pose, strength = shapes.fit(along, regions.weight)
    share, worst = shapes.misfit(pose, strength, along, regions.own, blur)  # (N, S)
    mottled = shapes.smooth(across * regions.own[:, None], blur).square().sum((1, 2, 3))
    mottled /= (along * regions.own).square().sum((1, 2))  # the share that has another colour
    best = share.argmin(1, keepdim=True)  # (N, 1)
    least, rival = share.topk(2, dim=1, largest=False).values.unbind(1)
    known = least + mottled < MISFIT_BOUND
    known &= (worst.gather(1, best)[:, 0] < WORST_BOUND) & (rival > RIVAL_BOUND * least)
    pose = pose.gather(1, best[..., None].expand(-1, -1, 4))[:, 0]  # (N, 4)
    colour = ground + strength.gather(1, best) * direction
    centre = (regions.corner + pose[:, :2]) / width
    return [
        Detection(
            size=_size_name(pose[n, 2].item() / width),
            colour=_colour_name(colour[n]),
            shape=SHAPES[best[n]] if known[n] else None,
            centre=tuple(centre[n].tolist()),
        )
        for n in range(len(best))
    ]


def _split(colour: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The direction (N, 3) from the background to the object's colour, each pixel's component
    along it (N, P, P), and the remainder (N, 3, P, P)."""
    colour = colour * weight[:, None]
    distance = colour.norm(dim=1, keepdim=True)
    direction = F.normalize((colour * distance * (distance > SEEN)).sum((2, 3)), dim=1)
    along = torch.einsum("nchw,nc->nhw", colour, direction)
    return direction, along, colour - torch.einsum("nhw,nc->nchw", along, direction)


def _colour_name(colour: torch.Tensor) -> str | None:
    """The nearest named colour, or None if none is near enough; colour: (3,) in [-1, 1]."""
    distance, nearest = (PALETTE - colour).norm(dim=1).min(0)
    return list(COLOURS)[nearest] if distance < COLOUR_BOUND else None


def _size_name(radius: float) -> str | None:
    """The size within 20 % of this radius (in picture widths), or None."""
    for name, typical in SIZES.items():
        if 1 / SIZE_BOUND < radius / typical < SIZE_BOUND:
            return name
    return None
