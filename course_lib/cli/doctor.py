"""`course doctor`: is this machine ready for all chapters? One line per check, and how to fix it.

Each check is a small function from facts (`course_lib.cli.machine`) to one Finding.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

import course_lib
from course_lib.cli import machine
from course_lib.common.memory import free_memory
from course_lib.common.paths import CHECKPOINTS, DATA, ROOT, SHIPPED, restore_hint

GIB = 2**30
REINSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Finding:
    """What a check found: level "OK", "WARN" (it works, with a limitation) or "FAIL"."""

    level: str
    name: str
    says: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:<5} {self.name:<12} {self.says}" + (self.fix and f" -> {self.fix}")


def ok(name: str, says: str) -> Finding:
    return Finding("OK", name, says)


def check_python(version: tuple[int, int, int]) -> Finding:
    says = "{}.{}.{}".format(*version)
    if version < (3, 11):
        return Finding(
            "FAIL", "Python", says, "install Python 3.11, 3.12 or 3.13, then set up again"
        )
    if version >= (3, 14):
        return Finding("WARN", "Python", says, "not tested; if something fails, try 3.13")
    return ok("Python", says)


def check_packages(needed: list[Requirement], installed: dict[str, str | None]) -> Finding:
    """Everything that pyproject.toml requires is installed, in a suitable version."""
    bad = [
        f"{r.name} is {installed[r.name] or 'missing'}, needed {r.specifier}"
        for r in needed
        if not installed[r.name] or not r.specifier.contains(installed[r.name], prereleases=True)
    ]
    if not needed:
        fix = "copy the whole repository, then in its folder " + REINSTALL
        return Finding("FAIL", "packages", "no pyproject.toml beside course_lib", fix)
    if bad:
        return Finding("FAIL", "packages", "; ".join(bad), REINSTALL)
    return ok("packages", f"all {len(needed)} are installed, in the versions of pyproject.toml")


def check_torch(facts: dict) -> Finding:
    if "torch" not in facts:
        return Finding("FAIL", "torch", f"does not import: {facts['error']}", REINSTALL)
    return ok("torch", f"{facts['torch']}, {facts['threads']} CPU threads")


def check_waits(environment: Mapping[str, str]) -> Finding:
    """Torch's threads wait for each other only briefly, or as long as the user has set."""
    if course_lib.TORCH_FIRST in environment:
        says = "torch was imported before course_lib, so training is slow on a busy machine"
        settings = " ".join(f"{name}={value}" for name, value in course_lib.SHORT_WAITS.items())
        fix = f"open notebooks with `course lab`, or set {settings} before you start their server"
        return Finding("WARN", "waits", says, fix)
    names = ("OMP_WAIT_POLICY", *course_lib.SHORT_WAITS)
    settings = [f"{name}={environment[name]}" for name in names if name in environment]
    return ok("waits", f"torch's threads wait for each other with {', '.join(settings)}")


def check_torchvision(facts: dict, version: str | None, needed: list[Requirement]) -> Finding:
    """It matches torch's release and build, and imports with it.

    needed: what torchvision itself requires.
    """
    if version is None:
        return Finding("FAIL", "torchvision", "is missing", REINSTALL)
    if "torch" not in facts:
        return Finding("WARN", "torchvision", f"{version}, not checked", "first fix torch")
    torch = facts["torch"]
    fix = (
        "install both again from the same source: pip install --force-reinstall -c constraints.txt "
        "torch torchvision (for CPU-only builds, see the README)"
    )
    if error := facts.get("torchvision_error"):
        says = f"{version} does not import with torch {torch}: {error}"
        if "torchvision::nms" in error:
            says += "; the two are different builds, for example one for the CPU and one for CUDA"
        return Finding("FAIL", "torchvision", says, fix)
    for r in needed:
        if r.name == "torch" and not r.specifier.contains(Version(torch).public, prereleases=True):
            says = f"{version} requires torch {r.specifier}, but this is {torch}"
            return Finding("FAIL", "torchvision", says, fix)
    return ok("torchvision", f"{version}, works with torch {torch}")


def check_gpu(facts: dict, nvidia: bool) -> Finding:
    """If there is a GPU, it works; no chapter needs one. nvidia: its driver is installed."""
    if error := facts.get("gpu_error"):
        fix = "update its driver, or set CUDA_VISIBLE_DEVICES='' to compute on the CPU"
        return Finding("FAIL", "GPU", f"found, but it fails: {error}", fix)
    if gpu := facts.get("gpu"):
        return ok("GPU", gpu)
    if nvidia:
        fix = "update the driver or install a torch with CUDA; the CPU is enough for all chapters"
        return Finding("WARN", "GPU", "there is an NVIDIA driver, but torch finds no GPU", fix)
    return ok("GPU", "none; every chapter runs on the CPU")


def check_memory(free: int) -> Finding:
    says = f"{free / GIB:.1f} GiB free"
    if free < 1 * GIB:
        return Finding("FAIL", "memory", says, "close other programs: a chapter needs 1 to 2 GiB")
    if free < 2 * GIB:
        return Finding("WARN", "memory", says, "close other programs; open one chapter at a time")
    return ok("memory", says)


def check_disk(free: int) -> Finding:
    says = f"{free / GIB:.1f} GiB free"
    if free < 0.2 * GIB:
        return Finding("FAIL", "disk", says, "free some space: chapters write to data/, outputs/")
    if free < 1 * GIB:
        return Finding("WARN", "disk", says, "downloading data sets (CIFAR-10) needs 1 GiB")
    return ok("disk", says)


def check_writable(name: str, error: str | None) -> Finding:
    if error:
        fix = "change its owner or permissions, or set COURSE_DATA to another folder"
        return Finding("FAIL", "data", f"cannot write to {name}: {error}", fix)
    return ok("data", f"{name} is writable")


def check_kernel(program: str | None, python: str) -> Finding:
    """Notebooks run in this Python. program: what Jupyter's kernel `python3` starts."""
    if program is None:
        return Finding("FAIL", "kernel", "Jupyter has no kernel named python3", REINSTALL)
    if program not in ("python", "python3") and not same_path(program, python):
        fix = "remove that kernel: jupyter kernelspec remove python3"
        return Finding("FAIL", "kernel", f"notebooks would start {program}, not this Python", fix)
    return ok("kernel", "notebooks start this Python")


def same_path(one: str | Path, other: str | Path) -> bool:
    return os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))


def check_course(facts: dict, notebooks: int) -> Finding:
    """course_lib can be imported, and its notebooks are beside it."""
    if error := facts.get("course_error"):
        return Finding("FAIL", "course", f"does not import: {error}", REINSTALL)
    if not notebooks:
        fix = "copy the whole repository, then in its folder " + REINSTALL
        return Finding("FAIL", "course", "there are no notebooks beside course_lib", fix)
    return ok("course", f"{notebooks} chapters")


def check_checkpoints(state: dict[str, str], fix: str) -> Finding:
    """All shipped models are there and unchanged. state: name -> what is wrong with it."""
    bad = [f"{name} {wrong}" for name, wrong in state.items() if wrong]
    if bad or not state:
        says = "; ".join(bad) or "the list of shipped models, SHA256SUMS, is missing"
        return Finding("FAIL", "checkpoints", says, fix)
    return ok("checkpoints", f"all {len(state)} are intact")


def check_own_models(folder: str, state: dict[str, str]) -> Finding:
    """The reader's own models, in COURSE_DATA, are intact. state: name -> what is wrong with it."""
    if bad := [f"{name} {wrong}" for name, wrong in state.items() if wrong]:
        fix = f"train it again, or delete its files in {folder} to use a shipped model instead"
        return Finding("FAIL", "own models", "; ".join(bad), fix)
    if state:
        says = f"{', '.join(state)} in {folder}: chapters use them instead of the shipped ones"
        return Finding("WARN", "own models", says, "to see the chapters' models, unset COURSE_DATA")
    return ok("own models", "none")


def examine() -> Iterator[Finding]:
    """All checks on this machine, the fast ones first."""
    needed = machine.requirements_in(ROOT / "pyproject.toml")
    yield check_python(sys.version_info[:3])
    yield check_packages(needed, {r.name: machine.version_of(r.name) for r in needed})
    yield check_memory(free_memory())
    error = machine.write_error(DATA)
    yield check_writable("data/" if DATA == ROOT / "data" else str(DATA), error)
    yield check_disk(shutil.disk_usage(ROOT if error else DATA).free)
    yield check_kernel(machine.default_kernel(), sys.executable)
    facts = machine.probe()
    yield check_torch(facts)
    yield check_waits(os.environ)
    torchvision = machine.version_of("torchvision"), machine.requirements_of("torchvision")
    yield check_torchvision(facts, *torchvision)
    yield check_gpu(facts, shutil.which("nvidia-smi") is not None)
    yield check_course(facts, len(list((ROOT / "notebooks").glob("[0-9]*.ipynb"))))
    sums = machine.read_sums(SHIPPED / "SHA256SUMS")
    shipped = machine.inspect_checkpoints(SHIPPED, sums) if sums else {}
    yield check_checkpoints(shipped, restore_hint())
    own = {} if same_path(CHECKPOINTS, SHIPPED) else machine.inspect_checkpoints(CHECKPOINTS)
    yield check_own_models(str(CHECKPOINTS), own)
