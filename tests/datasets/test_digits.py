"""scikit-learn's digits: shapes, range, the split, and the enlargement."""

import pytest
import torch
from sklearn.datasets import load_digits

from course_lib.datasets.digits import digits


def test_size_eight_is_the_data_itself():
    images, labels = digits(size=8)
    data = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert torch.equal((images[:, 0] + 1) * 8, torch.from_numpy(data.images).float())
    assert labels.tolist() == data.target.tolist()
    assert (images.min(), images.max()) == (-1, 1)


def test_enlarging_keeps_mean_and_range():
    small, _ = digits(size=8)
    large, _ = digits(size=16)
    assert large.shape == (1797, 1, 16, 16)
    assert large.min() >= -1 and large.max() <= 1
    # bilinear weights at factor 2 are 1/4 and 3/4: blocks keep the inner average up to the border
    assert (large.mean((1, 2, 3)) - small.mean((1, 2, 3))).abs().max() < 0.05


def test_split_is_disjoint_complete_and_holds_every_class():
    train, train_labels = digits(split="train")
    test, test_labels = digits(split="test")
    everything, _ = digits()
    assert len(train) == 1541 and len(test) == 256
    together = torch.cat([train, test]).flatten(1).sum(1).sort().values
    assert torch.allclose(together, everything.flatten(1).sum(1).sort().values)
    assert torch.bincount(train_labels, minlength=10).min() > 140
    assert torch.bincount(test_labels, minlength=10).min() >= 18


def test_refusals():
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        digits(split="tset")
    with pytest.raises(ValueError, match="at least 8 pixels wide, not 4"):
        digits(size=4)
