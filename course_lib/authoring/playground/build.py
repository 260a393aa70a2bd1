"""The folder of the page: `page/` as it is, the models, the runtime, and a manifest of them.

    python -m course_lib.authoring.playground.build [FOLDER]    # by default play/

Any server of files can serve it, from any address. manifest.json says everything that the page
knows of a model: its files, its words, its schedule, and what to offer for it.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from course_lib.authoring.playground import packages
from course_lib.authoring.playground.captions import offer
from course_lib.authoring.playground.export import export
from course_lib.common.files import make_folder, write_files
from course_lib.common.paths import ROOT
from course_lib.diffusion.process import PREDICTIONS
from course_lib.diffusion.schedules import Straight
from course_lib.pipelines import LatentDiffusion
from course_lib.recipes import load_pipeline

OUT = ROOT / "play"
NAMES = "scenes-latent", "emoji-latent"
PAGE = Path(__file__).with_name("page")
RUNTIME = f"runtime-{packages.RUNTIME.rpartition('-')[2]}/"
Files = dict[str, bytes]  # by their path in the folder


def build(
    out: str | Path = OUT,
    names: Sequence[str] = NAMES,
    npm: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Bring the folder up to date; a model whose files are there already is not exported again.

    npm: a folder with the packed runtime; tell: is given a line for each file that is exported.
    Raises ValueError for a model that the page can't draw with, RuntimeError without the extra
    `.[onnx]` or the runtime.
    """
    out = make_folder(out)
    before = manifest_of(out)
    files, models = page_files() | runtime_files(out, npm), []
    for name in names:
        model = load_pipeline(name)
        check(name, model)
        source = fingerprint(model)
        parts = kept(out, before, source) or exported(name, model, tell)
        files |= parts.values()
        sizes = {part: {"path": p, "bytes": len(data)} for part, (p, data) in parts.items()}
        models.append({"name": name, "source": source, "files": sizes, **facts(name, model)})
    manifest = {"runtime": RUNTIME, "models": models, "files": sorted(files)}
    manifest["version"] = digest(json.dumps(manifest).encode(), *page_files().values())
    for name in {*before.get("files", ())} - files.keys():
        (out / name).unlink(missing_ok=True)
    write(out, files | {"manifest.json": json.dumps(manifest, ensure_ascii=False).encode()})
    return out


def page_files() -> Files:
    return {p.name: p.read_bytes() for p in sorted(PAGE.iterdir()) if p.name != "jsconfig.json"}


def runtime_files(out: Path, npm: Path | None) -> Files:
    """ONNX Runtime, from an earlier build or from its package; the folder's name is its version."""
    here = {name: out / RUNTIME / name for name in packages.RUNTIME_FILES}
    if all(path.is_file() for path in here.values()):
        return {RUNTIME + name: path.read_bytes() for name, path in here.items()}
    return {RUNTIME + name: data for name, data in packages.runtime(npm).items()}


# each part's path and file


def kept(out: Path, before: dict, source: str) -> dict[str, tuple[str, bytes]]:
    """What an earlier build exported from the same weights; {} if it did not, or not all is there.

    A file's name holds its checksum.
    """
    for model in before.get("models", ()):
        paths = {part: file["path"] for part, file in model["files"].items()}
        if model["source"] == source and all((out / path).is_file() for path in paths.values()):
            return {part: (path, (out / path).read_bytes()) for part, path in paths.items()}
    return {}


def exported(name: str, model: LatentDiffusion, tell) -> dict[str, tuple[str, bytes]]:
    parts = {}
    for part, data, differs in export(model):
        parts[part] = f"{name}/{part}.{digest(data)}.onnx", data
        tell(f"{parts[part][0]}: {len(data) / 1e6:.1f} MB, within {differs:.1e} of PyTorch")
    return parts


# what the manifest says of a model


def facts(name: str, model: LatentDiffusion) -> dict:
    """What the page has to know of a model beside its files."""
    words = model.clip.tokenizer
    return {
        "size": model.size,
        "latent": model.latent,
        "prediction": model.process.prediction,
        "shift": model.process.schedule.shift,
        "scale": model.scale,
        "sampler": model.sampler,
        "tokens": {word: words.encode(word)[1:-1] for word in sorted(words.words)},
        "start": words.start,
        "end": words.end,
        "length": words.length,
        **asdict(offer(name)),
    }


def check(name: str, model: LatentDiffusion) -> None:
    """ValueError for a model that needs what the page doesn't have."""
    schedule, prediction = model.process.schedule, model.process.prediction
    fits = isinstance(schedule, Straight) and prediction in PREDICTIONS
    if not fits or model.clip.tokenizer.words is None or not isinstance(model.sampler, str):
        known = "a straight schedule, a named prediction and sampler, and a closed list of words"
        raise ValueError(f"the page draws with models that have {known}; {name} is not one")


def fingerprint(model: LatentDiffusion) -> str:
    """Of the weights, and of the code that exports them."""
    parts = (model.clip.text_encoder, model.unet, model.vae)
    weights = (w.numpy().tobytes() for part in parts for w in part.state_dict().values())
    return digest(Path(__file__).with_name("export.py").read_bytes(), *weights)


def digest(*data: bytes) -> str:
    total = hashlib.sha256()
    for each in data:
        total.update(each)
    return total.hexdigest()[:12]


def manifest_of(out: Path) -> dict:
    """The manifest of an earlier build; {} where there is none that can be read."""
    try:
        manifest = json.loads((out / "manifest.json").read_text("utf-8"))
        return manifest if manifest["runtime"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(out: Path, files: Files) -> None:
    """Write those that are not there as they should be."""
    paths = {out / name: data for name, data in files.items()}
    for folder in {path.parent for path in paths}:
        make_folder(folder)
    there = {path for path, data in paths.items() if path.is_file() and path.read_bytes() == data}
    write_files({path: data for path, data in paths.items() if path not in there})


if __name__ == "__main__":
    print(build(*sys.argv[1:2], tell=print))
