"""Writing files safely: after a kill or a full disk there are the old files or the new ones."""

import os
from pathlib import Path


def write_files(contents: dict[Path, bytes]) -> None:
    """Replace the files' contents: all are written to disk before the first file is replaced.

    Each file is replaced in one step. A one-line OSError if a write fails (for example, the disk
    is full): then no file has changed. On Windows it is also raised if another program has a file
    open: then the files before it have been replaced. No temporary file is left behind.
    """
    mine = f".{os.getpid()}.tmp"  # two processes may write the same file; the last one wins
    temporary = {path: path.with_name(path.name + mine) for path in contents}
    try:
        for path, content in contents.items():
            write_through(temporary[path], content)
        for path in contents:
            os.replace(temporary[path], path)
    except OSError as error:
        for left_over in temporary.values():
            left_over.unlink(missing_ok=True)
        kept = "; the old file is untouched" if path.exists() else ""
        raise OSError(error.errno, f"could not write {path}: {error.strerror}{kept}") from error


def write_through(path: Path, content: bytes) -> None:
    """Write and wait for the disk; otherwise a power cut could leave an empty file by that name."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def remove_temporary(*paths: Path) -> None:
    """Remove temporary files that killed processes left; no other process may use these paths."""
    for path in paths:
        for left_over in path.parent.glob(f"{path.name}.*.tmp"):
            left_over.unlink(missing_ok=True)


def make_folder(path: str | Path) -> Path:
    """The folder, created if necessary; a one-line OSError if it can't be created or written to."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot make the folder {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise PermissionError(f"the folder {path} is not writable")
    return path
