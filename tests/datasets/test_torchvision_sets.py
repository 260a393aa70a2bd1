"""torchvision's data sets, from tiny files in the right format, without a network."""

import pickle
import struct
from hashlib import md5
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, mnist

from course_lib.datasets import torchvision_sets
from course_lib.datasets.torchvision_sets import TorchvisionSet

rng = np.random.default_rng(0)


def write_idx(path, values):
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(root, name="MNIST", n=6):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n))
    return raw


@pytest.fixture
def no_network(monkeypatch):
    """Every download fails immediately."""

    def fail(*args, **kwargs):
        raise URLError("Name or service not known")

    for module in ("mnist", "cifar"):
        name = f"torchvision.datasets.{module}.download_and_extract_archive"
        monkeypatch.setattr(name, fail)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_mnist_files(tmp_path, no_network, name, folder):
    raw = write_mnist(tmp_path, folder)
    data = TorchvisionSet(name, root=tmp_path)
    images, labels = data.batch(range(6))
    assert images.shape == (6, 1, 28, 28) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4, 5]
    stored = mnist.read_image_file(str(raw / "train-images-idx3-ubyte"))
    assert torch.equal(((images[:, 0] + 1) * 127.5).round(), stored[labels].float())
    assert len(data.names) == 10 and len(data) == 6


def test_cifar_files(tmp_path, no_network, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, entry):
        content = pickle.dumps(entry)
        (folder / name).write_bytes(content)
        return [name, md5(content).hexdigest()]

    pixels = rng.integers(0, 256, (4, 3072)).astype(np.uint8)
    names = {"label_names": [f"class {i}" for i in range(10)]}
    checksum = write("batches.meta", names)[1]
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": checksum})
    listed = [write("data_batch_1", {"data": pixels, "labels": [3, 1, 2, 0]})]
    monkeypatch.setattr(CIFAR10, "train_list", listed)
    monkeypatch.setattr(CIFAR10, "test_list", listed)
    data = TorchvisionSet("cifar-10", "test", root=tmp_path)
    images, labels = data.batch(range(4))
    order = [[3, 1, 2, 0].index(label) for label in labels.tolist()]
    stored = torch.from_numpy(pixels).view(4, 3, 32, 32)
    assert torch.equal(((images + 1) * 127.5).round(), stored[order].float())
    assert data.names[3] == "class 3"


@pytest.mark.parametrize("name", torchvision_sets.SETS)
def test_offline_is_one_clear_line(tmp_path, no_network, name):
    with pytest.raises(OSError, match=f"cannot get {name}: no network, or damaged files") as caught:
        TorchvisionSet(name, root=tmp_path)
    assert "\n" not in str(caught.value)
    assert "Name or service not known" in str(caught.value) and "`digits`" in str(caught.value)


def test_damaged_files_are_the_same_line(tmp_path, no_network):
    raw = write_mnist(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match="cannot get mnist: no network, or damaged files"):
        TorchvisionSet("mnist", root=tmp_path)


def test_a_root_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot get mnist"):
        TorchvisionSet("mnist", root=tmp_path / "file")


def test_names_and_splits():
    with pytest.raises(ValueError, match="unknown data set 'minst'; did you mean 'mnist'"):
        TorchvisionSet("minst")
    with pytest.raises(ValueError, match="unknown split 'tests'; did you mean 'test'"):
        TorchvisionSet("mnist", "tests")
