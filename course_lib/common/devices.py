"""Choosing the device: where there is no GPU, one clear line instead of a stack trace."""

import platform

import torch

AVAILABLE = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" picks the first available of CUDA, MPS and CPU.

    "cuda:1" is the second GPU. Raises ValueError for an unknown name, RuntimeError if this machine
    has no such device.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    name = str(name)
    if name == "auto":
        name = next(kind for kind, available in AVAILABLE.items() if available())
    kind, _, number = name.partition(":")
    if kind not in AVAILABLE:
        raise ValueError(f"unknown device {name!r}; known: auto, {', '.join(AVAILABLE)}")
    if not AVAILABLE[kind]():
        raise RuntimeError(
            f"device {name!r} was requested, but torch {torch.__version__} finds none here; "
            "use 'cpu' or 'auto'"
        )
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if ":" in name and not (number.isdecimal() and int(number) < count):
        raise RuntimeError(
            f"device {name!r} was requested, but this machine has only {kind}:0"
            + (f" to {kind}:{count - 1}" if count > 1 else "")
        )
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware itself computes in bf16."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(cpu_facts().get("avx512_bf16"))


def fast_precision(device: torch.device) -> str:
    """The faster of "bf16" and "no" for float32 weights, for networks as small as the course's.

    A CPU with bf16 units is at least 1.4 times as fast with it. A GPU waits for launches, and
    converting each weight adds more of them (tests/benchmarks/LOG.md).
    """
    return "bf16" if device.type == "cpu" and has_bf16(device) else "no"


def autocast(device: torch.device) -> torch.autocast:
    """bf16 inside, where it is faster; a trainable weight is converted only once."""
    return torch.autocast(device.type, torch.bfloat16, fast_precision(device) == "bf16")


def hardware(device: torch.device) -> str:
    """The name of the hardware, as a model's card records it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = cpu_facts().get("cpu_name") or platform.machine()
    threads = torch.get_num_threads()
    cores = f"{threads} thread{'s' * (threads > 1)}"
    return f"{name}, {cores}" + (", MPS" if device.type == "mps" else "")


def cpu_facts() -> dict:
    """What torch knows about this CPU; empty for releases of torch that cannot tell."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())
