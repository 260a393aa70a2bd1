"""The command card: model cards, data statements, credits and energy."""

from pathlib import Path
from typing import Annotated

import typer


def card(
    name: Annotated[
        str, typer.Argument(help="a model, a data set (such as scenes), credits or energy")
    ],
    out: Annotated[Path | None, typer.Option(help="a Markdown file to write instead")] = None,
) -> None:
    """Print a model's card or a data set's statement, made from measured facts.

    credits: who made the data and the models, and the licences. energy: what the trainings took.
    """
    from course_lib.common.files import make_folder, write_files
    from course_lib.teaching.cards import card as text_of

    text = text_of(name)
    if out is None:
        typer.echo(text, nl=False)
    else:
        make_folder(out.parent)
        write_files({out: text.encode()})
        typer.echo(f"{out}: {len(text.splitlines())} lines")
