"""The maintainer's command that makes `data/textures`, which `datasets.textures` reads.

    python -m course_lib.authoring.textures

It fetches one pinned wheel of scikit-image with the client `pip`, refuses photographs whose
checksum differs, and makes them smaller. scikit-image itself isn't installed. Readers don't need
this: its result is part of the repository.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

from course_lib.common.files import make_folder, write_files
from course_lib.datasets.textures import FOLDER, SIZE

PACKAGE = "scikit-image==0.26.0"
WHEEL = ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11")
PHOTOGRAPHS = {  # name -> side in pixels of the part that is used, and the file's SHA-256
    "brick": (512, "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"),
    "grass": (256, "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"),
    "gravel": (256, "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"),
}


def fetch(folder: Path) -> zipfile.ZipFile:
    """The pinned wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *WHEEL]
    subprocess.run([*pip, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def photograph(wheel: zipfile.ZipFile, name: str) -> bytes:
    """The file as it was pinned; ValueError if it is another."""
    content, (_, digest) = wheel.read(f"skimage/data/{name}.png"), PHOTOGRAPHS[name]
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{name}.png is not the file that was pinned: its checksum differs")
    return content


def smaller(content: bytes, side: int) -> bytes:
    """The upper left part, `side` pixels wide, as a PNG 128 pixels wide: means of squares."""
    part = Image.open(io.BytesIO(content)).convert("L").crop((0, 0, side, side))
    buffer = io.BytesIO()
    part.resize((SIZE, SIZE), Image.Resampling.BOX).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def build(folder: Path = FOLDER) -> None:
    """Write the three pictures into the folder."""
    with tempfile.TemporaryDirectory() as place:
        wheel = fetch(Path(place))
        found = {name: photograph(wheel, name) for name in PHOTOGRAPHS}
    make_folder(folder)
    write_files(
        {folder / f"{name}.png": smaller(found[name], side) for name, (side, _) in
         PHOTOGRAPHS.items()}
    )  # fmt: skip


if __name__ == "__main__":
    build()
