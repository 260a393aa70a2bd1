"""Choosing where to compute: one line of refusal instead of a stack trace when there is no GPU."""

import platform

import torch

AVAILABLE = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" takes the first there is of CUDA, MPS and CPU.

    "cuda:1" is the second GPU. Raises ValueError for an unknown name, RuntimeError where this
    machine has no such device.
    """
    name = str(name)
    if name == "auto":
        name = next(kind for kind, available in AVAILABLE.items() if available())
    kind, _, number = name.partition(":")
    if kind not in AVAILABLE:
        raise ValueError(f"unknown device {name!r}; known: auto, {', '.join(AVAILABLE)}")
    if not AVAILABLE[kind]():
        raise RuntimeError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds none here; "
            "use 'cpu' or 'auto'"
        )
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and not (number.isdigit() and int(number) < count):
        raise RuntimeError(
            f"device {name!r} was asked for, but here there is {kind}:0 "
            + (f"to {kind}:{count - 1}" if count > 1 else "alone")
        )
    return torch.device(name)


def fast_precision(device: torch.device) -> str:
    """The faster of "bf16" and "no": bf16 pays, 1.4 times and more, where the hardware has it."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device.type == "cpu" and cpu_facts().get("avx512_bf16") else "no"


def autocast(device: torch.device) -> torch.autocast:
    """bf16 inside, where the hardware has it; a weight that can learn is converted once."""
    return torch.autocast(device.type, torch.bfloat16, fast_precision(device) == "bf16")


def hardware(device: torch.device) -> str:
    """What a card says a model was trained on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = cpu_facts().get("cpu_name") or platform.machine()
    threads = torch.get_num_threads()
    cores = f"{threads} thread{'s' * (threads > 1)}"
    return f"{name}, {cores}" + (", MPS" if device.type == "mps" else "")


def cpu_facts() -> dict:
    """What torch knows of this CPU; nothing before the release that can tell."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())
