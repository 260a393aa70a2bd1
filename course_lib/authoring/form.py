"""The canonical form of a notebook in git: executed, without anything that differs between runs."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib.common.paths import ROOT
from course_lib.teaching.style import PNG_LIMIT, shrink

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {  # as a kernel writes it, without Python's version; for colours, and for `nbconvert`
    "name": "python",
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def canonical(notebook: NotebookNode) -> NotebookNode:
    """A copy without traces of the run or the machine; applying it twice changes nothing."""
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    kept = {"course": notebook.metadata["course"]} if "course" in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": LANGUAGE, **kept}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.setdefault("id", hashlib.sha256(cell.source.encode()).hexdigest()[:8])
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip().split("\n"))
        tags = sorted(cell.metadata.get("tags", []))
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if "solution" in tags:
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
        elif "hide-input" in tags:  # a figure's code, which is folded
            cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.outputs = [_stable(output) for output in _joined(cell.outputs)]
            cell.execution_count = 1 if cell.outputs else None  # nbval needs a count
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without widgets, which need a kernel; consecutive texts of a stream are joined."""
    joined = []
    for output in outputs:
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        previous = joined[-1] if joined else {}
        if output.output_type == "stream" and previous.get("name") == output.name:
            previous.text += output.text
        else:
            joined.append(output)
    return joined


def _stable(output: NotebookNode) -> NotebookNode:
    """One output without its execution count, memory addresses or this machine's folders."""
    if output.output_type == "execute_result":
        output.execution_count = None
    if output.output_type == "stream":
        output.text = _as_printed(output.text)
    for kind, content in output.get("data", {}).items():
        if kind == "image/png":
            picture = base64.b64decode(content)
            if len(picture) > PNG_LIMIT or b"tEXt" in picture:
                picture = shrink(picture)
            output.data[kind] = base64.b64encode(picture).decode()
        elif isinstance(content, str):
            output.data[kind] = _as_printed(content)
    return output


def _as_printed(text: str) -> str:
    """The text as it finally looks; if a line was overwritten, its last version."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    text = ADDRESS.sub("", "\n".join(lines))
    return text.replace(str(ROOT), ".").replace(str(Path.home()) + os.sep, "~" + os.sep)


def code_digest(notebook: NotebookNode) -> str:
    """A hash of all code cells, in order; outputs made from other code have another one."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def pictures(notebook: NotebookNode) -> list[bytes]:
    """All PNG figures of the notebook, in order."""
    return [png for cell in notebook.cells if cell.cell_type == "code" for png in _pngs(cell)]


def _pngs(cell: NotebookNode) -> list[bytes]:
    data = [output.get("data", {}) for output in cell.outputs]
    return [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]


def hero(notebook: NotebookNode) -> bytes | None:
    """The figure of the cell tagged `hero`, which the chapter's first cell shows."""
    for cell in notebook.cells:
        if "hero" in cell.metadata.get("tags", []):
            return (_pngs(cell) or [None])[-1]
    return None
