"""The prompt oracle: reads only the pixels, and says which words of the caption are true of them.

It shares the shapes' outlines with the renderer of the training pictures, but nothing with the
generator that it judges, and it isn't trained. First it separates the regions from the background
(`segmentation`). Then it draws each shape over each region, and the best fit names the region
(`shapes`), unless the fit is too poor or another shape fits nearly as well (`detection`). It does
not guess: a blob is not a circle.

    oracle = PromptOracle()
    oracle.read(images)             # [Scene(kind='single', ...), None, ...]
    oracle.judge(images, captions)  # [{'number': True, 'shape': False, ..., 'all': False}, ...]
"""

from collections.abc import Sequence
from itertools import permutations

import torch

from course_lib.datasets.scenes.captions import parse
from course_lib.datasets.scenes.grammar import Object, Scene
from course_lib.evaluation.detection import Detection, Detections, detect, place_of, relation_of

CHUNK = 32  # pictures processed together; few enough to stay in the CPU's cache


class PromptOracle:
    """Reads and judges pictures (B, 3, W, W) in [-1, 1], 32 or 64 pixels wide.

    Its bounds were fixed before any model was trained. `python tests/evaluation/test_oracle.py`
    measures it on 1,000 new pictures of each kind (single, pair, count):

                                              64 pixels    32 pixels    bar
        clean renders read right                 100 %        100 %    99.5 %
        blurred and noisy ones (sd 0.05)         100 %       99.8 %      98 %
        captions with one word wrong refused     100 %        100 %      99 %
        blends of two pictures refused           100 %        100 %      99 %

    A circle may be squashed by a tenth. Half a shape, a ring with a gap, or a circle with waves
    of a fifth of its radius gets no name. 500 pictures take 3 to 5 seconds on one core.
    Raises ValueError for pictures of another size or dtype.

    >>> from course_lib.datasets.scenes import Scenes
    >>> images, _ = Scenes(kind="pair").batch([0])
    >>> PromptOracle().read(images)[0].kind
    'pair'
    """

    @torch.inference_mode()
    def detect(self, images: torch.Tensor) -> list[Detections]:
        """Everything that is detected in each picture, with names where possible."""
        if images.ndim != 4 or images.shape[1:] not in ((3, 32, 32), (3, 64, 64)):
            shape = tuple(images.shape)
            raise ValueError(f"pictures are (B, 3, 64, 64) or (B, 3, 32, 32), not {shape}")
        if not images.is_floating_point():
            raise ValueError(f"pictures are floats in [-1, 1], not {images.dtype}")
        chunks = images.float().cpu().split(CHUNK)
        return [sight for chunk in chunks for sight in detect(chunk)]

    def read(self, images: torch.Tensor) -> list[Scene | None]:
        """The scene that each picture shows, or None if it can't be read completely."""
        return [sight.scene() for sight in self.detect(images)]

    def judge(self, images: torch.Tensor, captions: Sequence[str]) -> list[dict[str, bool]]:
        """For each picture, whether each property that its caption states holds.

        The properties are "number" and "background"; "size", "colour" and "shape" of the object,
        or in a pair "first size", "second size" and so on; "place" for a single object, "relation"
        for a pair. Properties that the caption doesn't mention are omitted. "all" is True if all
        the others are and the whole picture can be read. Raises ValueError for a caption outside
        the grammar, or if there are not as many captions as pictures.
        """
        if len(images) != len(captions):
            raise ValueError(f"{len(images)} pictures, but {len(captions)} captions")
        wanted = [parse(caption) for caption in captions]
        return [compare(s, w) for s, w in zip(self.detect(images), wanted, strict=True)]


def compare(sight: Detections, wanted: Scene) -> dict[str, bool]:
    """For each property of the wanted scene, whether the picture has it.

    If there are more objects than wanted, the best-matching ones are compared.
    """
    verdict = {"number": len(sight.detections) == wanted.count}
    if wanted.background:
        verdict["background"] = sight.background == wanted.background
    seen = [*sight.detections, *[Detection()] * (len(wanted.objects) - len(sight.detections))]
    if wanted.kind == "count":
        each = [_object(detection, wanted.objects[0]) for detection in seen]
        verdict |= {name: all(one[name] for one in each) for name in each[0]}
    elif wanted.kind == "pair":
        verdict |= max((_pair(*two, wanted) for two in permutations(seen, 2)), key=_score)
    else:
        verdict |= max((_single(detection, wanted) for detection in seen), key=_score)
    return verdict | {"all": sight.scene() is not None and all(verdict.values())}


def _score(verdict: dict[str, bool]) -> int:
    return sum(verdict.values())


def _object(detection: Detection, wanted: Object) -> dict[str, bool]:
    stated = {name: word for name, word in vars(wanted).items() if word is not None}
    return {name: getattr(detection, name) == word for name, word in stated.items()}


def _single(detection: Detection, wanted: Scene) -> dict[str, bool]:
    place = {"place": place_of(detection) == wanted.place} if wanted.place else {}
    return _object(detection, wanted.objects[0]) | place


def _pair(first: Detection, second: Detection, wanted: Scene) -> dict[str, bool]:
    both = zip(("first", "second"), (first, second), wanted.objects, strict=True)
    verdict = {f"{n} {name}": ok for n, t, w in both for name, ok in _object(t, w).items()}
    return verdict | {"relation": relation_of(first, second) == wanted.relation}
