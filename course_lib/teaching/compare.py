"""Comparing a reader's value with the right one, and saying in words how they differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def agree(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether two values are equal up to `tolerance`, relative to the larger of 1 and the expected.

    Numbers, arrays, tensors, strings and nested lists or dicts of them; errors agree by type.

    >>> agree([1.0, 2.0], torch.tensor([1.0, 2.00001]), tolerance=1e-4)
    True
    """
    got, expected = _comparable(got, expected)
    if isinstance(expected, Tensor) and isinstance(got, Tensor):
        return got.shape == expected.shape and not _wrong(got, expected, tolerance).any()
    if isinstance(expected, Exception):
        return type(got) is type(expected)
    if isinstance(expected, Mapping):
        same_keys = isinstance(got, Mapping) and got.keys() == expected.keys()
        return same_keys and all(agree(got[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, (list, tuple)):
        same_length = isinstance(got, (list, tuple)) and len(got) == len(expected)
        return same_length and all(map(lambda a, b: agree(a, b, tolerance), got, expected))
    if isinstance(expected, (str, type(None))):
        return got == expected
    return type(got) is type(expected)  # networks and other objects: nothing to compare


def first_difference(got: Any, expected: Any, tolerance: float) -> str:
    """Where two values first differ, in words.

    >>> first_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), tolerance=1e-4)
    'at [1] yours is 2, expected 3'
    """
    got, expected = _comparable(got, expected)
    if isinstance(got, Tensor) and isinstance(expected, Tensor):
        if got.shape != expected.shape:
            return f"yours has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        place = _wrong(got, expected, tolerance).nonzero()[0].tolist()
        at = f"at {place} " if place else ""
        a, b = got[tuple(place)].item(), expected[tuple(place)].item()
        digits = 4 if f"{a:.4g}" != f"{b:.4g}" else 8
        return f"{at}yours is {a:.{digits}g}, expected {b:.{digits}g}"
    if isinstance(got, Mapping) and isinstance(expected, Mapping) and got.keys() == expected.keys():
        name = next(name for name in expected if not agree(got[name], expected[name], tolerance))
        return f"{name}: {first_difference(got[name], expected[name], tolerance)}"
    if isinstance(got, (list, tuple)) and isinstance(expected, (list, tuple)):
        if len(got) != len(expected):
            return f"yours holds {len(got)} values, expected {len(expected)}"
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            if not agree(a, b, tolerance):
                return f"in value {i + 1} of {len(got)}, {first_difference(a, b, tolerance)}"
    return f"yours is {describe(got)}, expected {describe(expected)}"


def relation(got: Any, expected: Any, tolerance: float) -> str:
    """A hint if one simple operation turns the wrong values into the right ones, otherwise ''."""
    got, expected = _comparable(got, expected)
    if isinstance(got, Mapping) and isinstance(expected, Mapping) and got.keys() == expected.keys():
        wrong = (name for name in expected if not agree(got[name], expected[name], tolerance))
        name = next(wrong, None)
        return relation(got[name], expected[name], tolerance) if name else ""
    if not (isinstance(got, Tensor) and isinstance(expected, Tensor)) or not got.numel():
        return ""
    if got.ndim >= 2 and agree(got.transpose(-1, -2), expected, tolerance):
        return " It is the transpose of what was expected."
    if got.shape != expected.shape:
        same = got.numel() == expected.numel()
        same = same and agree(got.reshape(expected.shape), expected, tolerance)
        return " The numbers are right, in another shape." if same else ""
    got, expected = got.double(), expected.double()
    if agree(-got, expected, tolerance):
        return " It is right except for its sign."
    size = got.square().sum()
    factor = float((got * expected).sum() / size) if size > 0 else 0.0
    if factor and got.numel() > 1 and agree(got * factor, expected, tolerance):
        return f" It is right except for a constant factor: multiply by {factor:.4g}."
    offset = (expected - got).mean()
    if got.numel() > 1 and agree(got + offset, expected, tolerance):
        return f" Everything is off by the same amount, {-float(offset):.4g}."
    return ""


def describe(value: Any) -> str:
    """A value in a few characters: small tensors in full, larger ones by their shape.

    >>> describe(torch.tensor([0.123456, 2.0]))
    '[0.1235, 2.0]'
    """
    if isinstance(value, (Tensor, np.ndarray)):
        if value.ndim == 0:
            return describe(value.item())
        if np.prod(value.shape) <= 8:
            return str(_rounded(value.tolist()))
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if callable(value) and not isinstance(value, type):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _as_tensor(value: Any) -> Any:
    """Numbers and arrays as tensors; everything else unchanged."""
    if isinstance(value, (bool, int, float, np.ndarray, np.generic)):
        return _tensor(value)
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _tensor(value: Any) -> Any:
    """Numbers as a tensor; anything else, such as strings, unchanged."""
    try:
        return torch.as_tensor(np.array(value))  # a copy: torch has no negative strides
    except (TypeError, ValueError, RuntimeError):
        return value


def _comparable(got: Any, expected: Any) -> tuple[Any, Any]:
    """Both values in the same form: lists of numbers become tensors, tensors lists of rows."""
    got, expected = _as_tensor(got), _as_tensor(expected)
    if isinstance(expected, list) and isinstance(got, Tensor) and got.ndim:
        got = list(got)
    if isinstance(expected, Tensor) and isinstance(got, list):
        got = _tensor(got)
    return got, expected


def _wrong(got: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    """Where tensors of equal shape differ; nan agrees only with nan."""
    return ~torch.isclose(
        got.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )
