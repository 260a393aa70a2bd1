"""How fast the chapters' explorables answer: python tests/benchmarks/explorables.py [NOTEBOOK...]

Runs each chapter in a kernel of its own, with `explorable` replaced by one that draws twelve random
settings and times them: what a reader waits for after moving a slider, but for the browser's part.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
TIMED = """
from course_lib.teaching import widgets

def explorable(draw, alt="", start=None, **choices):
    import random, time  # here: the chapter may use these names for something else
    from statistics import median
    from course_lib.teaching.plots import as_image

    chance, taken = random.Random(0), []
    for _ in range(13):
        values = {name: chance.choice(list(options)) for name, options in choices.items()}
        begin = time.perf_counter()
        as_image(draw(**values), alt, None)
        taken.append(1000 * (time.perf_counter() - begin))
    taken = taken[1:]  # the first one warms up
    print(f"EXPLORABLE {', '.join(choices)}: {median(taken):.0f} ms, at most {max(taken):.0f}")

widgets.explorable = explorable
"""


def main(paths: list[Path]) -> None:
    for path in paths or sorted(FOLDER.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(TIMED))
        where = {"metadata": {"path": str(FOLDER)}}
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                for line in output.get("text", "").splitlines():
                    if line.startswith("EXPLORABLE"):
                        print(path.stem, line.removeprefix("EXPLORABLE "), flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
