"""A training's whole state as one safetensors file, which is replaced in one step.

The tensors are the weights, their average and the optimiser's moments; the metadata holds the
step, the times and the settings. Nothing is pickled, so opening someone else's file runs no code.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from course_lib.common.files import write_files
from course_lib.training.scale.sharding import gather, local_parts

Tensors = dict[str, torch.Tensor]
ADVICE = "delete it to train from the start, or restore a copy"


def save_training(training, path: Path) -> None:
    """Replace the state at `path`. After an OSError (disk full, …) the old one is still there.

    Every process calls it, because each may hold a part of the tensors; the main one writes.
    """
    tree = {
        "model": training.model.state_dict(),
        "ema": training.average.model.state_dict(),
        "optimizer": {n: o.state_dict()["state"] for n, o in enumerate(training.optimizers)},
    }
    tensors = flatten(tree, "cpu" if training.is_main else "meta")  # meta: gathered and forgotten
    if not training.is_main:
        return
    scaler = training.engine.accelerator.scaler  # of fp16's gradients; None in other precisions
    facts = {
        "done": training.done,
        "seconds": training.seconds,
        "cpu_seconds": training.cpu_seconds,
        "settings": training.settings,
        "place": training.place,
        "scaler": scaler.state_dict() if scaler else None,
    }
    facts = json.dumps(facts)
    write_files({path: save(tensors, {"facts": facts, "sha256": digest(tensors, facts)})})


def load_training(training, path: Path) -> None:
    """Restore `training` to the state in `path`.

    ValueError for a damaged file, or a state with other settings or of another model.
    """
    tensors, facts = read_state(path)
    for name, value in training.settings.items():
        if (then := facts["settings"].get(name)) != value:
            raise ValueError(
                f"{path} was trained with {name}={shortened(then)}, not {shortened(value)}: keep "
                "the settings, the data and the device (a GPU's precision may differ), use another "
                "folder, or start over (resume=False, --fresh)"
            )
    try:
        for name, model in {"model": training.model, "ema": training.average.model}.items():
            model.load_state_dict(local_parts(subtree(tensors, name), model.state_dict()))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} holds the state of another model: {reason}") from error
    for n, optimizer in enumerate(training.optimizers):
        groups = optimizer.state_dict()["param_groups"]
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        moments = by_parameter(subtree(tensors, f"optimizer.{n}"))
        moments = {i: local_parts(m, dict.fromkeys(m, weights[i])) for i, m in moments.items()}
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if training.engine.accelerator.scaler:
        training.engine.accelerator.scaler.load_state_dict(facts["scaler"])
    training.done, training.seconds = facts["done"], facts["seconds"]
    training.cpu_seconds = facts["cpu_seconds"]
    if training.done == training.steps:  # the saved run was complete
        training.place = facts.get("place", training.place)


def shortened(value) -> str:
    """A setting in words; checksums, {"pictures": "9f86d081…"}, are shortened."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {str(digest)[:8]}" for name, digest in value.items())
    return str(value)


def read_state(path: Path) -> tuple[Tensors, dict]:
    """The saved tensors and facts; a one-line ValueError if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            # copies, because Windows can't replace a file that is mapped into memory
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete training state ({error}); {ADVICE}") from error
    facts = (metadata or {}).get("facts", "")
    if not facts or digest(tensors, facts) != metadata.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its bytes do not match its checksum (or an older "
            f"version of the course kept it); {ADVICE}"
        )
    return tensors, json.loads(facts)


def flatten(tree: dict, device: str, prefix: str = "") -> Tensors:
    """{"model": {"w": …}, "optimizer": {0: {0: {…}}}} -> "model.w", "optimizer.0.0.step", …"""
    flat = {}
    for name, value in sorted(tree.items()):  # all processes gather in one order
        if isinstance(value, dict):
            flat |= flatten(value, device, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = gather(value.detach()).to(device).contiguous()
    return flat


def subtree(tensors: Tensors, name: str) -> Tensors:
    """The tensors below one name of the flattened tree, without that prefix."""
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


def by_parameter(tensors: Tensors) -> dict[int, Tensors]:
    """ "0.step", "0.exp_avg", … -> {0: {"step": …, "exp_avg": …}}: torch's optimiser state."""
    return {int(n): subtree(tensors, n) for n in {name.split(".")[0] for name in tensors}}


def digest(tensors: Tensors, facts: str) -> str:
    """SHA-256 of the facts and of the tensors' names and bytes."""
    sha = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
