"""Compares a reader's value with the right one, and describes in words how they differ."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.teaching.plain import Failure


def agree(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether two values are equal up to `tolerance` (relative to the larger of 1 and the expected
    value): numbers, arrays, tensors, texts and nested collections. Errors are compared by type.

    >>> agree([1.0, 2.0], torch.tensor([1.0, 2.00001]), tolerance=1e-4)
    True
    """
    got, expected = _matched(got, expected)
    if isinstance(expected, Tensor) and isinstance(got, Tensor):
        same_kind = got.shape == expected.shape and not _floats_for_integers(got, expected)
        return same_kind and not _wrong(got, expected, tolerance).any()
    if isinstance(expected, Exception):
        return type(got) is type(expected)
    if isinstance(expected, Failure):
        return got == expected
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
    got, expected = _matched(got, expected)
    if isinstance(got, Tensor) and isinstance(expected, Tensor):
        if got.shape != expected.shape:
            return f"yours has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
        if _floats_for_integers(got, expected):
            return f"yours holds floats ({got.dtype}), expected whole numbers ({expected.dtype})"
        place = _wrong(got, expected, tolerance).nonzero()[0].tolist()
        at = f"at {place} " if place else ""
        a, b = (x[tuple(place)].item() + 0 for x in (got, expected))  # + 0: no minus before a zero
        digits = 4 if f"{a:.4g}" != f"{b:.4g}" else 8
        return f"{at}yours is {a:.{digits}g}, expected {b:.{digits}g}"
    if isinstance(got, Mapping) and isinstance(expected, Mapping) and got.keys() == expected.keys():
        name = next(name for name in expected if not agree(got[name], expected[name], tolerance))
        return f"{name}: {first_difference(got[name], expected[name], tolerance)}"
    if isinstance(expected, tuple) and not _as_many(got, expected):
        return f"yours is {describe(got)}; return {len(expected)} values, separated by commas"
    if isinstance(got, (list, tuple)) and isinstance(expected, (list, tuple)):
        if len(got) != len(expected):
            return f"yours holds {len(got)} values, expected {len(expected)}"
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            if not agree(a, b, tolerance):
                return f"in value {i + 1} of {len(got)}, {first_difference(a, b, tolerance)}"
    return f"yours is {describe(got)}, expected {describe(expected)}"


def relation(gots: Sequence, expecteds: Sequence, tolerance: float) -> str:
    """A hint if one simple step turns *all* these wrong values into the right ones, else ''.

    A step that works for only one input is a coincidence, and the hint would be misleading.
    """
    pairs = [_first_wrong_part(*pair, tolerance) for pair in zip(gots, expecteds, strict=True)]
    if not all(isinstance(x, Tensor) and x.numel() for pair in pairs for x in pair):
        return ""
    pairs = [(got.double(), expected.double()) for got, expected in pairs]

    def leads_there(step: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return all(agree(step(got, expected), expected, tolerance) for got, expected in pairs)

    if all(got.ndim >= 2 for got, _ in pairs) and leads_there(lambda got, _: got.mT):
        return " Yours is the transpose of it."
    if any(got.shape != expected.shape for got, expected in pairs):
        same = all(got.numel() == expected.numel() for got, expected in pairs)
        same = same and leads_there(lambda got, expected: got.reshape(expected.shape))
        return " The numbers are right, but the shape is not." if same else ""
    if leads_there(lambda got, _: -got):
        return " Only the sign is wrong."
    got, expected = (torch.cat([x.flatten() for x in side]) for side in zip(*pairs, strict=True))
    size = got.square().sum()
    factor = float((got * expected).sum() / size) if size > 0 else 0.0
    if factor and got.numel() > 1 and agree(got * factor, expected, tolerance):
        return f" Everything is wrong by the same factor: multiply by {factor:.4g}."
    offset = float((expected - got).mean())
    if got.numel() > 1 and agree(got + offset, expected, tolerance):
        return f" Everything is off by the same amount: add {offset:.4g}."
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
    if isinstance(value, (list, tuple)) and any(isinstance(each, Tensor) for each in value):
        return f"{len(value)} values: " + ", ".join(map(describe, value))
    if callable(value) and not isinstance(value, type):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) + 0 if isinstance(value, float) else value  # + 0: no minus before a zero


def _plain(value: Any) -> Any:
    """Numbers and arrays as tensors, a range as a list; everything else unchanged."""
    if isinstance(value, (bool, int, float, complex, np.ndarray, np.generic)):
        return _tensor(value)
    if isinstance(value, range):
        return list(value)
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _tensor(value: Any) -> Any:
    """Numbers as a tensor; a value that holds anything else, such as texts, unchanged."""
    try:
        return torch.as_tensor(np.array(value))  # a copy: torch knows no negative strides
    except (TypeError, ValueError, RuntimeError):
        return value


def _matched(got: Any, expected: Any) -> tuple[Any, Any]:
    """Both values, made comparable: a tensor as a list of its rows, or a list as a tensor."""
    got, expected = _plain(got), _plain(expected)
    if isinstance(expected, list) and isinstance(got, Tensor) and got.ndim:
        got = list(got)
    if isinstance(expected, Tensor) and isinstance(got, (list, tuple)):
        got = _tensor(got)
    return got, expected


def _as_many(got: Any, expected: tuple) -> bool:
    return isinstance(got, (list, tuple)) and len(got) == len(expected)


def _first_wrong_part(got: Any, expected: Any, tolerance: float) -> tuple[Any, Any]:
    """Both values, or the first entries that differ if they are named collections."""
    got, expected = _matched(got, expected)
    if isinstance(got, Mapping) and isinstance(expected, Mapping) and got.keys() == expected.keys():
        for name in expected:
            if not agree(got[name], expected[name], tolerance):
                return _first_wrong_part(got[name], expected[name], tolerance)
    return got, expected


def _floats_for_integers(got: Tensor, expected: Tensor) -> bool:
    """Whether a tensor of floats was returned instead of whole numbers, such as labels."""
    whole = not (expected.is_floating_point() or expected.is_complex())
    return whole and expected.ndim > 0 and got.is_floating_point()


def _wrong(got: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    """Where values of equal shape differ; nan only agrees with nan."""
    if got.is_complex() or expected.is_complex():
        got, expected = got.to(torch.complex128), expected.to(torch.complex128)
    else:
        got, expected = got.double(), expected.double()
    return ~torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
