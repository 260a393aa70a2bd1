"""The command `course`: doctor, lab, progress, demo, sample, play, check-data, train, diagnose,
evaluate, leaderboard, cost, card, export, edition, grade.

A user's mistake prints one line on stderr and exits with status 2; a problem with the machine (a
full disk, no GPU) prints one line and exits with status 1. Only a bug in the course shows a
traceback. Each command imports the heavy modules that it needs, so `course --help` is fast.
"""

import logging
import sys

import typer

from course_lib.cli.card import card
from course_lib.cli.diagnose import diagnose
from course_lib.cli.draw import demo, sample
from course_lib.cli.editions import edition, grade
from course_lib.cli.leaderboard import leaderboard
from course_lib.cli.playground import export, play
from course_lib.cli.start import doctor, lab, progress
from course_lib.cli.train import check_data, cost, evaluate, train

app = typer.Typer(
    help="From DDPM to Stable Diffusion: the course's command line.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command()(doctor)
app.command(context_settings=PASSES_ON)(lab)
COMMANDS = (
    *(progress, demo, sample, play, check_data, train, diagnose),
    *(evaluate, leaderboard, cost, card, grade),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(export, name="export")
app.add_typer(edition, name="edition")


def main() -> None:
    """Run the command line; errors that aren't bugs in the course print one line."""
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe may not be able to encode ✓
        if stream:  # None if it was closed
            stream.reconfigure(errors="replace")
    show_warnings()
    try:
        app(prog_name="course")
    except ValueError as error:
        refuse(error, 2)
    except (OSError, RuntimeError) as error:
        refuse(error, 1)


def show_warnings() -> None:
    """Print warnings on stderr, each only once, although a grid is drawn in parts."""
    said = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        return not (line in said or said.add(line))

    handler = logging.StreamHandler()
    handler.addFilter(is_new)
    logging.basicConfig(format="course: warning: %(message)s", handlers=[handler])


def refuse(error: Exception, status: int) -> None:
    ours = isinstance(error, OSError) and error.strerror and not error.filename
    text = error.strerror if ours else str(error)  # without the prefix "[Errno 28]"
    typer.echo(f"course: {' '.join(text.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
