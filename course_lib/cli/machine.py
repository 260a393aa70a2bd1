"""Facts about this machine, as plain values: what `course doctor` judges.

torch is imported in a separate process. So a broken installation, even one that crashes, is just
another fact, and this module is fast to import.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROBE = """
import json, warnings
warnings.simplefilter("ignore")
facts = {}

def last_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()

try:
    import torch
    facts.update(torch=str(torch.__version__), threads=torch.get_num_threads())
except BaseException as error:
    facts["error"] = last_line(error)
else:
    try:
        import torchvision
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except BaseException as error:
        facts["torchvision_error"] = last_line(error)
    try:
        if torch.cuda.is_available():
            (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum().item()
            card = torch.cuda.get_device_properties(0)
            facts["gpu"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB (cuda)"
        elif torch.backends.mps.is_available():
            (torch.ones(8, 8, device="mps") @ torch.ones(8, 8, device="mps")).sum().item()
            facts["gpu"] = "Apple's (mps), on which the course was not tested"
    except BaseException as error:
        facts["gpu_error"] = last_line(error)
    try:
        import course_lib.recipes
    except BaseException as error:
        facts["course_error"] = f"{type(error).__name__}: {last_line(error)}"
print("FACTS" + json.dumps(facts))
"""


def probe(code: str = PROBE, seconds: float = 180) -> dict:
    """Facts about torch, torchvision, the GPU and the course, or how they fail."""
    command = [sys.executable, "-P", "-c", code]  # -P: don't import a random.py in this folder
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"its import took longer than {seconds:.0f} s"}
    facts = [line[5:] for line in done.stdout.splitlines() if line.startswith("FACTS")]
    return json.loads(facts[-1]) if facts else {"error": f"Python died, status {done.returncode}"}


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements_of(package: str) -> list[Requirement]:
    """What an installed package requires on this system, without its extras."""
    lines = metadata.requires(package) or [] if version_of(package) else []
    parsed = map(Requirement, lines)
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def requirements_in(pyproject: Path) -> list[Requirement]:
    """The dependencies in a pyproject.toml, without its extras; [] if there is no such file."""
    if not pyproject.exists():
        return []
    return [*map(Requirement, tomllib.loads(pyproject.read_text())["project"]["dependencies"])]


def write_error(folder: Path) -> str | None:
    """Why the folder isn't writable, or None if it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"course")
    except OSError as error:
        return error.strerror or str(error)
    return None


def default_kernel() -> str | None:
    """The program that a notebook's kernel, `python3`, starts."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return None
    try:
        return KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return None


def inspect_checkpoints(folder: Path, sums: dict[str, str] | None = None) -> dict[str, str]:
    """What is wrong with each checkpoint in the folder; "" if its bytes are intact.

    sums: the checksums of the weights that must be there, by name (see `read_sums`).
    """
    sums = sums or {}
    files = [path for kind in ("json", "safetensors") for path in folder.glob(f"*.{kind}")]
    found = sorted({path.stem for path in files})
    return dict.fromkeys(sums, "is missing") | {n: damage(folder, n, sums.get(n)) for n in found}


def read_sums(file: Path) -> dict[str, str]:
    """{"scenes-vae": "fed805d7…", …}, from the output of `sha256sum`; {} if there is no file."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {Path(line.split()[1]).stem: line.split()[0] for line in lines if len(line.split()) == 2}


def damage(folder: Path, name: str, shipped: str | None = None) -> str:
    try:
        card = json.loads((folder / f"{name}.json").read_text("utf-8"))
        weights = (folder / f"{name}.safetensors").read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        if digest != card["sha256"]:
            return "does not match its checksum"
        return "" if shipped in (None, digest) else "is not the shipped model"
    except FileNotFoundError as error:
        return f"lacks {Path(error.filename).name}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"is unreadable ({error!r})"
