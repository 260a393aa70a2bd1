"""What the page needs from npm, each by version and checksum: never committed, fetched once.

    python -m course_lib.authoring.playground.packages [FOLDER]     # fetch all of them

They are looked for in FOLDER, in `wheels/` (where `make wheelhouse` puts them) and in `data/npm`;
what is not there comes from npm and goes to FOLDER or `data/npm`. Nothing here needs an installed
package, so that `make wheelhouse` can call it.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from course_lib.common.paths import DATA, ROOT

CACHE, WHEELS = DATA / "npm", ROOT / "wheels"
INTEGRITY = {  # by name and version, as npm states it
    "onnxruntime-web-1.30.0": "sha512-"
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    "typescript-5.9.3": "sha512-"
    "jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==",
}
RUNTIME, TYPESCRIPT = INTEGRITY
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def find(name: str, *folders: Path) -> Path | None:
    """The packed file where it is already on this machine, intact."""
    for folder in (*folders, WHEELS, CACHE):
        path = folder / f"{name}.tgz"
        if path.is_file() and intact(path):
            return path
    return None


def fetch(name: str, folder: Path | None = None) -> Path:
    """The packed file, from this machine or from npm.

    RuntimeError without npm, where npm fails, and for a file with another checksum.
    """
    if found := find(name, *([folder] if folder else [])):
        return found
    folder = folder or CACHE
    folder.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"{name} is not in {folder}, and there is no npm here to fetch it")
    package, _, version = name.rpartition("-")
    command = [npm, "pack", f"{package}@{version}", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    path = folder / f"{name}.tgz"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"npm could not fetch {name}: {reason}")
    if not intact(path):
        path.unlink(missing_ok=True)
        raise RuntimeError(f"npm sent a {name} whose checksum is not the expected one")
    return path


def intact(path: Path) -> bool:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return f"sha512-{digest}" == INTEGRITY[path.stem]


def runtime(folder: Path | None = None) -> dict[str, bytes]:
    """The three files of onnxruntime-web that the page loads: one thread, plain WebAssembly."""
    with tarfile.open(fetch(RUNTIME, folder)) as package:
        return {n: package.extractfile(f"package/dist/{n}").read() for n in RUNTIME_FILES}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for name in INTEGRITY:
        try:
            print(fetch(name, folder))
        except RuntimeError as error:  # the course itself needs none of them
            print(f"left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
