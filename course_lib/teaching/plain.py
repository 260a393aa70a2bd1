"""Values as plain data: JSON for their structure, safetensors for their tensors, and no pickle.

    data = dumps({"x": torch.ones(3), "steps": 4})     # bytes: a safetensors file
    value = loads(data)

Outcomes of answers are stored in this form in the student edition, and sent between processes in
this form when submissions are graded. Reading it runs no code. Only the course's own files may also
contain networks, functions and objects of this package, by name (`objects=True`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import FunctionType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

OURS = "course_lib."


@dataclass(frozen=True)
class Failure:
    """The outcome of an answer that raised an error.

    kind: the error's class, which is what is compared; told: one line for the reader.
    """

    kind: str
    told: str = field(default="", compare=False)
    left_open: bool = field(default=False, compare=False)  # a `...` was used in a calculation


class ChangedInput:
    """The outcome of a function that changed its arguments in place."""


@dataclass(frozen=True)
class Unknown:
    """Replaces a value that isn't plain data; it doesn't equal any plain value."""

    kind: str

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def dumps(value: Any, objects: bool = False) -> bytes:
    """The value as the bytes of a safetensors file; its structure is JSON in the file's header.

    Numbers, texts, tensors and nested collections are restored exactly, arrays as tensors.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_plain(value, tensors, objects))
    return save(tensors, {"plain": structure})


def loads(data: bytes, objects: bool = False) -> Any:
    """The value that was passed to `dumps`; ValueError for other bytes."""
    try:
        length = int.from_bytes(data[:8], "little")
        structure = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["plain"])
        return _value(structure, load(data), objects)
    except Exception as error:  # whatever a damaged or hostile file may cause
        raise ValueError(f"not plain data: {type(error).__name__}") from error


def _plain(value: Any, tensors: dict[str, Tensor], objects: bool) -> Any:
    """The value as JSON; its tensors are added to `tensors`."""

    def inner(each: Any) -> Any:
        return _plain(each, tensors, objects)

    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        value = _tensor(value)
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        tensors[name := str(len(tensors))] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if type(value) is list:
        return list(map(inner, value))
    if isinstance(value, (tuple, list, range)):
        return {"tuple": list(map(inner, value))}
    if isinstance(value, Mapping):
        return {"dict": [[inner(key), inner(each)] for key, each in value.items()]}
    if isinstance(value, Failure):
        return {"failure": [value.kind, value.told, value.left_open]}
    if value is ... or isinstance(value, ChangedInput):
        return {"open" if value is ... else "changed": True}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if objects and isinstance(value, nn.Module):
        return {"network": [_name(type(value)), inner(_kwargs(value)), inner(value.state_dict())]}
    if objects and isinstance(value, FunctionType):
        return {"function": _name(value)}
    if objects and type(value).__module__.startswith(OURS):
        return {"object": [_name(type(value)), inner(vars(value))]}
    return {"unknown": type(value).__name__}


def _value(plain: Any, tensors: Mapping[str, Tensor], objects: bool) -> Any:
    """The value that was passed to `_plain`."""

    def inner(each: Any) -> Any:
        return _value(each, tensors, objects)

    if isinstance(plain, list):
        return list(map(inner, plain))
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "tuple":
            return tuple(map(inner, content))
        case "dict":
            return {inner(key): inner(each) for key, each in content}
        case "failure":
            return Failure(str(content[0]), str(content[1]), bool(content[2]))
        case "open":
            return ...
        case "changed":
            return ChangedInput()
        case "complex":
            return complex(*content)
        case "network" if objects:
            network = _named(content[0])(**inner(content[1]))
            network.load_state_dict(inner(content[2]))
            return network
        case "function" if objects:
            return _named(content)
        case "object" if objects:
            kind = _named(content[0])
            value = kind.__new__(kind)
            vars(value).update(inner(content[1]))
            return value
    return Unknown(str(content) if kind == "unknown" else kind)


def _tensor(value: np.ndarray | np.generic) -> Any:
    try:
        return torch.as_tensor(np.array(value))  # a copy: torch knows no negative strides
    except (TypeError, ValueError, RuntimeError):
        return value


def _kwargs(network: nn.Module) -> dict[str, Any]:
    """The keyword arguments that build a network like this."""
    if isinstance(network, nn.MultiheadAttention):
        return {"embed_dim": network.embed_dim, "num_heads": network.num_heads}
    return getattr(network, "kwargs", {})


def _name(thing: type | Callable) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _named(name: str) -> Callable:
    module, _, path = name.partition(":")
    if not module.startswith((OURS, "torch.nn.")):
        raise ValueError(f"{name} is not part of this course")
    return getattr(import_module(module), path)
