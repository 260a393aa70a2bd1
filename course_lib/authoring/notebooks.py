"""`python -m course_lib.authoring.notebooks [NB...]`: run chapters, save them in canonical form.

Notebooks are committed executed, because most readers first see them on a code-hosting page. Each
one runs in a new kernel. Then everything that differs between runs or machines is removed, so a
difference in git is one that a person made. Last, everything that a chapter lacks is listed.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from course_lib.authoring.chapter import RUNNING, faults
from course_lib.authoring.form import KERNEL, ROOT, canonical, code_digest, hero

FOLDER = ROOT / "notebooks"
CELL_SECONDS = 300


def execute(notebook: NotebookNode, folder: Path = FOLDER) -> float:
    """Run all cells in a new kernel; returns the seconds. CellExecutionError if a cell fails.

    The outputs are written into the given notebook. They are those of a reader who has solved no
    exercise yet, whatever progress the person who runs this has.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,  # otherwise a line may come in two pieces, as the kernel flushed it
    )
    with tempfile.TemporaryDirectory() as temporary:
        environment = os.environ | {
            "TQDM_MININTERVAL": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "CUDA_VISIBLE_DEVICES": "",  # chapters state running times on a CPU
            "COURSE_PROGRESS": os.path.join(temporary, "progress.json"),
        }
        start = time.perf_counter()
        client.execute(env=environment)
        return time.perf_counter() - start


def duration(seconds: float) -> str:
    """Seconds in words, to the nearest ten.

    >>> duration(107)
    '1 min 50 s'
    """
    tens = max(10, round(seconds / 10) * 10)
    minutes, rest = divmod(tens, 60)
    return " ".join([f"{minutes} min"] * (minutes > 0) + [f"{rest} s"] * (rest > 0))


def make(path: Path) -> float:
    """Run the notebook at `path` and save it in canonical form; returns the seconds."""
    notebook = nbformat.read(path, as_version=4)
    seconds = execute(notebook, path.parent)
    header = notebook.cells[0]
    measured = f"running {duration(seconds)} on {os.cpu_count()} CPU cores"
    header.source = RUNNING.sub(measured, header.source, count=1)
    notebook = canonical(notebook)
    notebook.metadata["course"] = {"code_digest": code_digest(notebook)}
    nbformat.write(notebook, path)
    figure = hero(notebook)
    if figure:
        (path.parent / "figures").mkdir(exist_ok=True)
        (path.parent / "figures" / f"{path.stem}.png").write_bytes(figure)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Make the given notebooks (default: all); exit status 1 if one fails or has faults."""
    parser = argparse.ArgumentParser(prog="make notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all in notebooks/")
    paths, bad = parser.parse_args(arguments).notebooks, 0
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no file {path}")
    for path in paths or sorted(FOLDER.glob("*.ipynb")):
        print(f"{path.name} ...", flush=True)
        try:
            print(f"{path.name} ran in {make(path):.0f} s")
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            bad += 1
            continue
        for fault in faults(path):
            print(fault, file=sys.stderr)
            bad += 1
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
