"""The experiments between the exercises: they show what a reader was asked to predict.

Where a chapter is handed out without its answers, an experiment has no outputs until a student
runs it, and both its code, whose description of the figure may tell, and the reading below it are
folded.
"""

import re
from collections.abc import Iterable

from nbformat import NotebookNode

HEADING = re.compile(r"^(##+) (.+)$", re.MULTILINE)
FOLDED = """<details><summary>Decide, run the cell above, then read this</summary>

{}

</details>"""


def hide(cells: Iterable[NotebookNode]) -> None:
    """Fold a chapter's experiments and drop what they showed."""
    among_exercises = shown = False
    for cell in cells:
        if cell.cell_type == "markdown":
            for level, title in HEADING.findall(cell.source):
                if level == "##" or title.startswith("Exercise "):  # some stand in their section
                    among_exercises = title.startswith("Exercise")
                shown = False
            if shown:
                cell.source = FOLDED.format(cell.source)
        elif among_exercises and not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            cell.outputs, cell.execution_count = [], None
            cell.metadata["jupyter"] = {"source_hidden": True}
            shown = True
