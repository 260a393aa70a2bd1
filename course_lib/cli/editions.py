"""Commands for those who teach: edition, grade."""

from pathlib import Path
from typing import Annotated

import typer

edition = typer.Typer(
    help="Make the course's editions from its chapters.", no_args_is_help=True, add_completion=False
)
Out = Annotated[Path, typer.Argument(help="a new folder")]


@edition.command()
def student(out: Out) -> None:
    """Without solutions: `check` still diagnoses, and the key is not in the folder."""
    from course_lib.authoring import editions

    editions.student(out)
    typer.echo(f"the student edition is in {out}")


@edition.command()
def lecturer(out: Out) -> None:
    """With solutions, times, common errors beside each exercise, and a PDF of answers."""
    from course_lib.authoring import editions

    editions.lecturer(out)
    typer.echo(f"the lecturer edition is in {out}, its answers in {out / 'answers.pdf'}")


@edition.command()
def colab(
    out: Out,
    source: Annotated[str, typer.Option(help="the address that git clones the course from")],
) -> None:
    """The chapters with a cell that installs the course on Colab."""
    from course_lib.authoring import editions

    editions.colab(out, source)
    typer.echo(f"the chapters for Colab are in {out}/notebooks")
