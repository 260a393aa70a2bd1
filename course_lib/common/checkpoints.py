"""Published models: NAME.safetensors holds the weights, NAME.json, the card, says what they are.

    save_checkpoint("digits-ddpm", run.ema, half=True, **run.card, metrics={...})
    model = load_checkpoint(UNet, "digits-ddpm")     # eval mode, float32; model.card

The caller names the class and the card holds its keyword arguments, so nothing but the class
itself decides what code runs. The card also carries the weights' checksum: two files that do not
belong together are refused.
"""

import hashlib
import json
import platform
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import nn

from course_lib.common.checks import finite
from course_lib.common.devices import pick_device
from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import CHECKPOINTS

LAYOUT = 2  # of the weights' names: since 2 the networks' parts have diffusers' names
ADVICE = "bring back both files (git checkout -- data/checkpoints), or train the model again"


def save_checkpoint(name_or_path: str | Path, model: nn.Module, half: bool = False, **card) -> Path:
    """Write the model and its card; returns the path of the weights.

    A bare name goes to `data/checkpoints`. The model has `kwargs`, which rebuild it. `half` stores
    matrices and kernels in float16; vectors (biases, norms, a latent's scale) stay as they are.
    Further keywords go into the card. ValueError for weights that are not finite, or that float16
    cannot hold.
    """
    path = locate(name_or_path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for name, weights in tensors.items():
        finite(name, weights)
    if half:
        tensors |= {k: halve(tensors[k], k) for k, p in model.named_parameters() if p.ndim > 1}
    weights = save(tensors, {"format": "pt"})
    facts = {
        "class": type(model).__name__,
        "layout": LAYOUT,
        "kwargs": model.kwargs,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "half": half,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    make_folder(path.parent)
    write_files({path: weights, card_of(path): render_card(facts | card)})
    return path


def load_checkpoint(
    cls: type[nn.Module], name_or_path: str | Path, device: str | torch.device = "cpu"
) -> nn.Module:
    """The published model, in eval mode and float32, with its `card`.

    Raises FileNotFoundError for an unknown name or half a pair; ValueError for damaged files, a
    checkpoint of another class, or weights that the class no longer fits; RuntimeError for a
    device that is not there.
    """
    device, path = pick_device(device), locate(name_or_path)
    card, weights = read_checkpoint(path)
    if card["class"] != cls.__name__:
        raise ValueError(f"{path} holds a {card['class']}, not a {cls.__name__}")
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then overwritten
            model = cls(**card["kwargs"])
        tensors = load(weights)
        for name, weight in tensors.items():
            finite(f"{path}, {name}", weight)
        model.load_state_dict(
            {k: v.float() if v.dtype == torch.half else v for k, v in tensors.items()}
        )
    except (TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if card.get("layout") != LAYOUT:
            reason = "it was written before the networks' parts were renamed"
        raise ValueError(f"{path} does not fit {cls.__name__}: {reason}; {ADVICE}") from error
    model.card = card
    return model.to(device).eval()


def read_checkpoint(name_or_path: str | Path) -> tuple[dict, bytes]:
    """The card and the weights' bytes, once they are known to belong together."""
    path = locate(name_or_path)
    if not path.exists() and not card_of(path).exists():
        raise FileNotFoundError(missing(path))
    for file in (path, card_of(path)):
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing beside its other half; {ADVICE}")
    card, weights = read_card(path), path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise ValueError(
            f"{path} does not match its card's checksum, after damage or half a save; {ADVICE}"
        )
    return card, weights


def read_card(name_or_path: str | Path) -> dict:
    """The card alone; ValueError where it is no card."""
    path = card_of(locate(name_or_path))
    try:
        card = json.loads(path.read_bytes())
        card["class"], card["kwargs"], card["sha256"], [*card.get("metrics", [])]
    except FileNotFoundError:
        raise FileNotFoundError(missing(locate(name_or_path))) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint's card ({error!r}); {ADVICE}") from error
    return card


def render_card(card: dict) -> bytes:
    return (json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def amend_card(name_or_path: str | Path, **facts) -> None:
    """Replace facts of a card, such as its metrics after a new measurement."""
    card = read_card(name_or_path) | facts
    write_files({card_of(locate(name_or_path)): render_card(card)})


def published() -> list[str]:
    """The names in `data/checkpoints`."""
    return sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))


def locate(name_or_path: str | Path) -> Path:
    """Where the weights are: a bare name's in `data/checkpoints`, a path's where it says."""
    path = Path(name_or_path)
    folder = CHECKPOINTS if len(path.parts) == 1 and path.suffix != ".safetensors" else path.parent
    return folder / f"{path.name.removesuffix('.safetensors')}.safetensors"


def card_of(path: Path) -> Path:
    return path.with_suffix(".json")


def missing(path: Path) -> str:
    """One line for a checkpoint that is not there: the nearest name, or how it is made."""
    if path.parent != CHECKPOINTS or path.stem in published():
        return f"there is no checkpoint {path}"
    near = get_close_matches(path.stem, published(), n=1)
    guess = f"did you mean {near[0]!r}? Or " if near else ""
    return (
        f"{path.stem} is not in {CHECKPOINTS}: {guess}`course train {path.stem} --publish` makes "
        "it, if that is a recipe"
    )


def halve(weights: torch.Tensor, name: str) -> torch.Tensor:
    if weights.abs().max() > torch.finfo(torch.half).max:
        raise ValueError(f"{name} holds values up to {weights.abs().max():.3g}: too large for half")
    return weights.half()
