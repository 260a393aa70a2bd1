"""Writing files so that a kill or a full disk at any moment leaves the old ones or the new ones."""

import os
from pathlib import Path


def write_files(contents: dict[Path, bytes]) -> None:
    """Replace the files by these contents: all are on the disk before the first takes its name.

    Each file is exchanged in one step. OSError in one line when a write fails (disk full, …):
    then none was exchanged. So too when another program holds a file (Windows): then those before
    it were. Nothing unfinished is left behind.
    """
    mine = f".{os.getpid()}.tmp"  # two processes may write the same file; the last one's stays
    temporary = {path: path.with_name(path.name + mine) for path in contents}
    try:
        for path, content in contents.items():
            write_through(temporary[path], content)
        for path in contents:
            os.replace(temporary[path], path)
    except OSError as error:
        for left_over in temporary.values():
            left_over.unlink(missing_ok=True)
        kept = "; what was there is untouched" if path.exists() else ""
        raise OSError(error.errno, f"could not write {path}: {error.strerror}{kept}") from error


def write_through(path: Path, content: bytes) -> None:
    """Write and wait for the disk: else a power cut could keep the new name and lose the bytes."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def clear(*paths: Path) -> None:
    """Remove what killed processes left half-written of files that are this one's alone."""
    for path in paths:
        for left_over in path.parent.glob(f"{path.name}.*.tmp"):
            left_over.unlink(missing_ok=True)


def make_folder(path: str | Path) -> Path:
    """The folder, made if need be; one line of OSError when it cannot be made or written to."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise PermissionError(f"the folder {path} is not writable")
    return path
