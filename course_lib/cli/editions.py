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
    """Without solutions. `check` still diagnoses answers, but the key is not in the folder."""
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
def nbgrader(out: Out) -> None:
    """A course for nbgrader, an optional extra: pip install -e ".[nbgrader]"."""
    from course_lib.authoring import editions

    editions.nbgrader(out)
    typer.echo(f"the course for nbgrader is in {out}; there: nbgrader generate_assignment NAME")


@edition.command()
def colab(
    out: Out,
    source: Annotated[str, typer.Option(help="the address that git clones the course from")],
) -> None:
    """The chapters with a cell that installs the course on Colab."""
    from course_lib.authoring import editions

    editions.colab(out, source)
    typer.echo(f"the chapters for Colab are in {out}/notebooks")


@edition.command()
def slides(
    out: Out,
    chapter: Annotated[
        list[str] | None, typer.Option(help="such as 02; repeat it for more; default: all")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="also as PDF, which needs a browser")] = False,
) -> None:
    """A reveal.js deck for each chapter, with speaker notes; an extra: ".[slides]"."""
    try:
        from course_lib.authoring import slides as decks
    except ModuleNotFoundError as missing:
        raise RuntimeError(
            f'slides need the package {missing.name}: pip install -e ".[slides]"'
        ) from None
    for path in decks.make(out, decks.chapters(chapter), pdf):
        typer.echo(f"{path}")


def grade(
    submissions: Annotated[Path, typer.Argument(help="a folder with a folder for each student")],
    seed: Annotated[int, typer.Option(help="seed of the inputs; keep it to yourself")],
    csv: Annotated[Path, typer.Option(help="file for the verdicts; a picture is put beside it")],
    seconds: Annotated[int, typer.Option(help="time limit for each exercise")] = 180,
    jobs: Annotated[int, typer.Option(help="number of submissions at a time")] = 2,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="run without a sandbox; only for code that you trust")
    ] = False,
) -> None:
    """Grade notebooks with fresh inputs; each runs in a sandbox that has no key."""
    from course_lib.authoring import grade as grading
    from course_lib.authoring import sandbox
    from course_lib.authoring.class_picture import class_picture
    from course_lib.common.files import make_folder

    if not submissions.is_dir():
        raise ValueError(f"there is no folder {submissions}")
    if seed < 1:
        raise ValueError(
            f"--seed takes a whole number above 0; got {seed}: seed 0 is the students'"
        )
    if min(seconds, jobs) < 1:
        raise ValueError(f"--seconds and --jobs are at least 1; got {seconds} and {jobs}")
    if csv.suffix != ".csv" or csv.is_dir():
        raise ValueError(f"--csv takes the name of a file that ends in .csv; got {csv}")
    if faults := [] if trusted else sandbox.faults():
        raise RuntimeError(
            f"this machine can't confine submissions: {'; '.join(faults)}. Grade on another one, "
            "or add --trusted if you trust all of their code"
        )
    make_folder(csv.parent)
    cache, picture = csv.with_suffix(".cache.json"), csv.with_suffix(".png")
    rows = []
    for found in grading.grade(submissions, seed, cache, jobs, seconds, not trusted):
        rows += found
        typer.echo(summary(found))
    csv.write_text(grading.as_csv(rows), "utf-8")
    class_picture(rows).savefig(picture, dpi=110)
    typer.echo(f"the verdicts are in {csv}, the picture of the class in {picture}")


def summary(rows: list) -> str:
    """A submission's verdicts in one line."""
    first = rows[0]
    if not first.exercise:
        return f"{first.student}: {first.message}"
    right = sum(row.verdict == "right" for row in rows)
    odd = [f"{r.exercise} {r.message}" for r in rows if r.verdict in ("stopped", "missing")]
    counts = f"{first.student}, chapter {first.chapter}: {right} of {len(rows)} right"
    return "; ".join([counts, *odd])
