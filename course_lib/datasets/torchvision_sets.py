"""MNIST, FashionMNIST and CIFAR-10 from torchvision, downloaded into `data/` at first use.

data = TorchvisionSet("mnist")
images, labels = data.batch(range(64))    # (64, 1, 28, 28) in [-1, 1], (64,)
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torchvision import datasets

from course_lib.common.checks import whole_numbers
from course_lib.common.paths import DATA
from course_lib.common.registry import choose
from course_lib.datasets.order import endless

SETS = {  # name: (class, the folder it creates)
    "mnist": (datasets.MNIST, "MNIST"),
    "fashion-mnist": (datasets.FashionMNIST, "FashionMNIST"),
    "cifar-10": (datasets.CIFAR10, "cifar-10-batches-py"),
}


class TorchvisionSet:
    """Labelled pictures: `pixels` (N, C, H, W) uint8, `labels` (N,), `names` of the classes.

    split: "train" or "test". root: the folder for the files, by default `data/`.
    Raises ValueError for an unknown name or split, and OSError if the files are damaged, or are
    missing and can't be downloaded.
    """

    def __init__(
        self, name: str, split: str = "train", root: str | Path | None = None, seed: int = 0
    ):
        cls, folder = choose("data set", name, SETS)
        train = choose("split", split, {"train": True, "test": False})
        found = _load(cls, name, Path(root or DATA), folder, train)
        pixels = torch.as_tensor(found.data)  # (N, H, W) or (N, H, W, C)
        self.pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        self.labels = torch.as_tensor(found.targets)
        whole_numbers(0, seed=seed)
        self.names, self.seed = found.classes, seed

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures in [-1, 1] and labels, at positions of an endless shuffled list."""
        chosen = endless(indices, len(self), self.seed)
        return self.pixels[chosen].float() / 127.5 - 1, self.labels[chosen]


def _load(cls, name: str, root: Path, folder: str, train: bool):
    """The set from disk, or otherwise from the network."""
    try:
        return cls(root, train=train, download=True)  # downloads only what is missing
    except Exception as error:  # torchvision raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise OSError(
            f"cannot get {name}: no network, or damaged files in {root / folder}? "
            f"({reason}); `digits` needs no download"
        ) from error
