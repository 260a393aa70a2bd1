"""Commands to start with: doctor, lab, progress."""

import os
import sys
from typing import Annotated

import typer

from course_lib.common.paths import ROOT

JUPYTER = ROOT / "course_lib" / "teaching" / "jupyter"  # settings: JupyterLab fetches no news


def doctor() -> None:
    """Check this machine, one line per check; status 1 if a chapter would fail."""
    from course_lib.cli.doctor import examine

    failed = False
    for finding in examine():
        typer.echo(finding)
        failed |= finding.level == "FAIL"
    raise typer.Exit(int(failed))


def lab(context: typer.Context) -> None:
    """Open the first chapter in JupyterLab; other arguments (--port 9999) are passed on to it."""
    first = "notebooks/00_start_here.ipynb"
    if not (ROOT / first).exists():
        raise FileNotFoundError(f"{first} is not beside course_lib: copy the whole repository")
    arguments = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{first}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # in a container; JupyterLab refuses root otherwise
    if not has_desktop():
        arguments.append("--no-browser")  # a text browser would take over the terminal
    for name in ("COURSE_DATA", "COURSE_PROGRESS"):  # notebooks run in another folder
        if path := os.environ.get(name):
            os.environ[name] = os.path.abspath(path)
    defaults = [str(JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, defaults))
    os.chdir(ROOT)
    from jupyterlab.labapp import main as jupyterlab

    jupyterlab([*arguments, *context.args])


def has_desktop() -> bool:
    """Whether a browser window can open here."""
    named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return named or not sys.platform.startswith("linux")


def progress(
    reset: Annotated[bool, typer.Option("--reset", help="delete it all and start over")] = False,
) -> None:
    """Show which exercises you have solved, chapter by chapter."""
    import course_lib.exercises  # noqa: F401  they register themselves
    from course_lib.teaching.progress import overview
    from course_lib.teaching.solved import reset_progress

    if reset:
        reset_progress()
    typer.echo("\n".join(overview()))
