"""Input checks: every refusal is one line that says what was expected and what was received."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

WHOLE = torch.int32, torch.int64  # the types that torch accepts as indices
FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64


def require(ok: bool | Tensor, what: str, expected: str, received: object) -> None:
    """ValueError "what: expected ..., got ..." unless ok. For entry points, not for inner loops.

    A received tensor is described by its shape, dtype, device and range.

    >>> require(0 < 0.5 <= 1, "start", "a time in (0, 1]", 0.5)
    """
    if not ok:
        raise ValueError(f"{what}: expected {expected}, got {describe(received)}")


def describe(received: object) -> str:
    """The received value in a few words.

    >>> describe(torch.ones(2, 3))
    '(2, 3) torch.float32 from 1 to 1'
    """
    if not isinstance(received, Tensor):
        return str(received)
    text = f"{tuple(received.shape)} {received.dtype}"
    if received.device.type != "cpu":
        text += f" on {received.device}"
    if received.numel() and received.device.type != "meta":
        text += f" from {received.min():g} to {received.max():g}"
    return text


def like(x: Tensor, y: Tensor) -> bool:
    """Whether x is floating point and has the shape and the device of y."""
    return x.is_floating_point() and x.shape == y.shape and x.device == y.device


def one_or_each(values: Tensor | float, x: Tensor) -> bool:
    """Whether there is one value for all samples of x, or one for each."""
    return getattr(values, "shape", ()) in ((), (1,), x.shape[:1])


def expands(x: Tensor, y: Tensor) -> bool:
    """Whether x can be expanded to the shape of y, and both are floating point or neither is."""
    sizes = zip(reversed(x.shape), reversed(y.shape), strict=False)
    fits = x.dim() <= y.dim() and all(size in (1, wanted) for size, wanted in sizes)
    return fits and x.is_floating_point() == y.is_floating_point()


def is_finite(x: Tensor) -> bool:
    """Whether x is floating point and holds neither NaN nor infinity."""
    return x.is_floating_point() and bool(x.isfinite().all())


def whole_numbers(least: int, **values: int) -> None:
    """ValueError unless every value is a whole number and at least `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


def torch_seeds(*seeds: int) -> None:
    """ValueError for seeds over 32 bits: on a CPU torch ignores the rest, so two could coincide."""
    for seed in seeds:
        if seed % 1 or not 0 <= seed < 2**32:
            raise ValueError(f"a seed must be a whole number from 0 to {2**32 - 1}; got {seed}")


def same_device(name: str, x: Tensor, other: str, y: Tensor) -> None:
    if x.device != y.device:
        raise ValueError(f"{name} came on {x.device}, but {other} is on {y.device}")


def floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype} (pictures: in [-1, 1])")


def finite(name: str, x: Tensor) -> None:
    """ValueError for NaN or infinity. It waits for the GPU, so call it at entry points only."""
    if not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise ValueError(f"{name}: not all finite, {bad} of {x.numel()} numbers are nan or inf")


def check_tensor(
    what: str,
    x: Tensor,
    shape: Sequence[int | str],
    like: Tensor,
    dtypes: Sequence[torch.dtype] = (),
    values: tuple[float, float] | None = None,
) -> None:
    """ValueError unless x has this shape, and the dtype and device of `like`, such as a weight.

    shape: numbers, or letters for any size of at least 1; "8h" is a multiple of 8. dtypes: the
    accepted types, if not that of `like`; under autocast any floating-point type is accepted.
    values: the lowest and the highest number allowed; floating-point values may exceed them by
    0.5, as a decoder's images do.

    >>> check_tensor("images", torch.zeros(2, 3, 16, 24), ("B", 3, "8h", "8w"), torch.zeros(1))
    """
    autocast = not like.is_meta and torch.is_autocast_enabled(like.device.type)
    dtypes = dtypes or (FLOATS if autocast else (like.dtype,))
    fits = isinstance(x, Tensor) and x.ndim == len(shape)
    fits = fits and all(size_fits(n, wanted) for n, wanted in zip(x.shape, shape, strict=True))
    if not fits or x.dtype not in dtypes or x.device != like.device:
        sizes = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        kinds = " or ".join(map(str, dtypes)) + f" on {like.device}"
        require(False, what, f"({sizes}) {kinds}", x)
    if values and not is_traced(x):
        low, high = x.aminmax()
        slack = 0.5 if x.is_floating_point() else 0
        if not (low >= values[0] - slack and high <= values[1] + slack):  # refuses NaN, too
            wanted = f"values in [{values[0]}, {values[1]}]"
            require(False, what, wanted, f"[{low.item():.6g}, {high.item():.6g}]")


def size_fits(size: int, wanted: int | str) -> bool:
    """Whether a size is the wanted one, any ("B"), or a multiple ("8h").

    >>> size_fits(16, "8h"), size_fits(12, "8h"), size_fits(3, 3)
    (True, False, True)
    """
    if isinstance(wanted, str):
        return size > 0 and size % int(wanted[:-1] or 1) == 0
    return size == wanted


def is_traced(x: Tensor) -> bool:
    """True while x is being traced or captured, when its values can't be inspected."""
    traced = torch.compiler.is_compiling() or x.is_meta
    return traced or (x.is_cuda and torch.cuda.is_current_stream_capturing())
