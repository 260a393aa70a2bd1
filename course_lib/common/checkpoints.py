"""Published models: NAME.safetensors holds the weights, and NAME.json, the card, describes them.

    save_checkpoint("digits-ddpm", run.ema, half=True, **run.card, metrics={...})
    model = load_checkpoint(UNet, "digits-ddpm")     # eval mode, float32; model.card

The caller names the class, and the card holds its keyword arguments, so a card cannot make any
other code run. The card also holds the weights' checksum: two files that do not belong together
are refused.
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
from course_lib.common.paths import CHECKPOINTS, SHIPPED, restore_hint

LAYOUT = 2  # version of the weights' names; from 2 on they are those of diffusers


def save_checkpoint(name_or_path: str | Path, model: nn.Module, half: bool = False, **card) -> Path:
    """Write the model and its card; returns the path of the weights.

    A bare name is saved in `data/checkpoints`. The model must have `kwargs`, which rebuild it.
    `half` stores matrices and kernels in float16; vectors (biases, norms, a latent's scale) keep
    their precision. Other keywords go into the card. Raises ValueError for weights that are not
    finite or too large for float16, and for a model trained on the reader's own pictures that
    would replace a shipped one.
    """
    path = locate(name_or_path)
    check_place(path, "pictures" in (card.get("settings", {}).get("data") or {}))
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for name, weights in tensors.items():
        finite(name, weights)
    if half:
        tensors |= {k: to_half(tensors[k], k) for k, p in model.named_parameters() if p.ndim > 1}
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

    Raises FileNotFoundError for an unknown name, or if one of the two files is missing; ValueError
    for damaged files, a checkpoint of another class, or weights that no longer fit the class;
    RuntimeError if there is no such device.

    >>> from course_lib.models import VAE
    >>> vae = load_checkpoint(VAE, "digits-vae")
    """
    device, path = pick_device(device), find(name_or_path)
    card, weights = read_checkpoint(path)
    if card["class"] != cls.__name__:
        raise ValueError(f"{path} holds a {card['class']}, not a {cls.__name__}")
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then overwritten
            model = cls(**card["kwargs"]).float()  # whatever torch's default is
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
        raise ValueError(f"{path} does not fit {cls.__name__}: {reason}; {advice(path)}") from error
    model.card = card
    return model.to(device).eval()


def read_checkpoint(name_or_path: str | Path) -> tuple[dict, bytes]:
    """The card and the weights' bytes, once they are known to belong together."""
    path = find(name_or_path)
    if not here(path):
        raise FileNotFoundError(missing(path))
    for file in (path, card_of(path)):
        if not file.exists():
            other = f"{file} is missing, but its other half is there"
            raise FileNotFoundError(f"{other}; {advice(path)}")
    card, weights = read_card(path), path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise ValueError(
            f"{path} does not match its card's checksum: it is damaged, or a save was cut short; "
            f"{advice(path)}"
        )
    return card, weights


def read_card(name_or_path: str | Path) -> dict:
    """The card alone; ValueError if the file is not a card."""
    path = card_of(find(name_or_path))
    try:
        card = json.loads(path.read_bytes())
        card["class"], card["kwargs"], card["sha256"]
        [*card.get("metrics", [])], dict(card.get("settings", {}))
    except FileNotFoundError:
        raise FileNotFoundError(missing(find(name_or_path))) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a checkpoint's card ({error!r}); {advice(path)}"
        ) from error
    return card


def render_card(card: dict) -> bytes:
    return (json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def update_card(name_or_path: str | Path, **facts) -> None:
    """Replace facts of a card, such as its metrics after a new measurement."""
    card = read_card(name_or_path) | facts
    write_files({card_of(find(name_or_path)): render_card(card)})


def published() -> list[str]:
    """The names that `load_checkpoint` finds: the shipped models and those of COURSE_DATA."""
    folders = {CHECKPOINTS, SHIPPED}
    return sorted({path.stem for folder in folders for path in folder.glob("*.safetensors")})


def check_components(model: nn.Module, components: dict[str, nn.Module]) -> None:
    """ValueError unless these are the components that the text-to-image model was trained on.

    Its card names them. A card that names none accepts any, and so does a model without a card,
    which is still being trained.
    """
    data = getattr(model, "card", {}).get("settings", {}).get("data")
    trained_on = data if isinstance(data, dict) else {}
    for component, part in components.items():
        then, now = trained_on.get(component), part.card["sha256"]
        if then not in (None, now):
            raise ValueError(
                f"the text-to-image model was trained on {component} {str(then)[:8]}, but "
                f"{find(component)} is {now[:8]}: restore that {component}, or train the model "
                "again"
            )


def find(name_or_path: str | Path) -> Path:
    """Where a model's weights are read: at `locate`, or else, by name, among the shipped ones."""
    path = locate(name_or_path)
    shipped = SHIPPED / path.name
    return shipped if is_name(name_or_path) and not here(path) and here(shipped) else path


def here(path: Path) -> bool:
    return path.exists() or card_of(path).exists()


def is_name(name_or_path: str | Path) -> bool:
    path = Path(name_or_path)
    return len(path.parts) == 1 and path.suffix != ".safetensors"


def locate(name_or_path: str | Path) -> Path:
    """Where the weights are written: for a bare name `data/checkpoints`, otherwise the path."""
    path = Path(name_or_path)
    folder = CHECKPOINTS if is_name(path) else path.parent
    return folder / f"{path.name.removesuffix('.safetensors')}.safetensors"


def card_of(path: Path) -> Path:
    return path.with_suffix(".json")


def check_place(path: Path, own_pictures: bool) -> None:
    """ValueError for a model of the reader's own pictures that would replace a shipped one."""
    if own_pictures and is_shipped(path):
        raise ValueError(
            f"{path.stem}, trained on your own pictures, would replace the shipped model in "
            f"{SHIPPED}: first set COURSE_DATA to a folder for your own models"
        )


def advice(path: Path) -> str:
    """What to do about a damaged pair of files."""
    way = f" ({restore_hint()})" if is_shipped(path) else " from a copy"
    return f"restore both files{way}, or train the model again"


def is_shipped(path: Path) -> bool:
    return path.parent.is_dir() and SHIPPED.is_dir() and path.parent.samefile(SHIPPED)


def missing(path: Path) -> str:
    """One line for a checkpoint that doesn't exist: the nearest name, or how to make it."""
    if path.parent != CHECKPOINTS or path.stem in published():
        return f"there is no checkpoint {path}"
    near = get_close_matches(path.stem, published(), n=1)
    guess = f"did you mean {near[0]!r}? Or " if near else ""
    return (
        f"{path.stem} is not in {CHECKPOINTS}: {guess}`course train {path.stem} --publish` makes "
        "it, if that is a recipe"
    )


def to_half(weights: torch.Tensor, name: str) -> torch.Tensor:
    if weights.abs().max() > torch.finfo(torch.half).max:
        raise ValueError(f"{name} holds values up to {weights.abs().max():.3g}: too large for half")
    return weights.half()
