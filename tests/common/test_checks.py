"""Input checks: what they accept, and what each error message says."""

import pytest
import torch

from course_lib.common.checks import WHOLE, check_tensor

WEIGHT = torch.zeros(3)
IMAGES = torch.zeros(2, 3, 16, 24)
SHAPE = "B", 3, "8h", "8w"


def test_a_shape_is_numbers_letters_and_multiples():
    check_tensor("images", IMAGES, SHAPE, WEIGHT)
    check_tensor("ids", torch.tensor([0, 9]), (2,), WEIGHT, WHOLE, values=(0, 9))


@pytest.mark.parametrize(
    ("x", "received"),
    [
        (IMAGES[..., :7], r"\(2, 3, 16, 7\) torch.float32 from 0 to 0"),
        (IMAGES[:, :2], r"\(2, 2, 16, 24\) torch.float32 from 0 to 0"),
        (IMAGES[0], r"\(3, 16, 24\) torch.float32 from 0 to 0"),
        (IMAGES[:0], r"\(0, 3, 16, 24\) torch.float32"),
        (IMAGES.double(), r"\(2, 3, 16, 24\) torch.float64 from 0 to 0"),
        (IMAGES.to("meta"), r"\(2, 3, 16, 24\) torch.float32 on meta"),
        (None, "None"),
        ([1, 2], r"\[1, 2\]"),
    ],
)
def test_a_misfit_is_told_what_was_expected_and_what_came(x, received):
    expected = r"^images: expected \(B, 3, 8h, 8w\) torch.float32 on cpu, got "
    with pytest.raises(ValueError, match=f"{expected}{received}$"):
        check_tensor("images", x, SHAPE, WEIGHT)


@pytest.mark.parametrize("value", [1.6, -1.6, torch.nan, torch.inf])
def test_values_are_looked_at_with_a_decoders_overshoot(value):
    check_tensor("images", IMAGES + 1.4, SHAPE, WEIGHT, values=(-1, 1))
    with pytest.raises(ValueError, match=r"^images: expected values in \[-1, 1\], got \["):
        check_tensor("images", IMAGES + value, SHAPE, WEIGHT, values=(-1, 1))


def test_whole_numbers_may_not_overshoot():
    with pytest.raises(ValueError, match=r"^ids: expected values in \[0, 9\], got \[0, 10\]$"):
        check_tensor("ids", torch.tensor([0, 10]), ("B",), WEIGHT, WHOLE, values=(0, 9))


def test_autocast_takes_any_floating_point():
    with torch.autocast("cpu", torch.bfloat16):
        check_tensor("images", IMAGES.bfloat16(), SHAPE, WEIGHT)
        with pytest.raises(ValueError, match=r"got .* torch\.int32"):
            check_tensor("images", IMAGES.int(), SHAPE, WEIGHT)


def test_numbers_without_a_memory_are_not_looked_at():
    check_tensor("images", IMAGES.to("meta"), SHAPE, WEIGHT.to("meta"), values=(-1, 1))
