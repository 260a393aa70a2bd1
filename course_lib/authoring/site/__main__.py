"""`python -m course_lib.authoring.site OUT [--play FOLDER]`

By default the playground is the one that `make play` has made, if it has.
"""

import argparse
from pathlib import Path

from course_lib.authoring.site.build import build
from course_lib.common.paths import ROOT

MADE = ROOT / "play"

parser = argparse.ArgumentParser(description="Build the website.")
parser.add_argument("out", type=Path, help="the folder to write; an earlier site there is replaced")
parser.add_argument(
    "--play",
    type=Path,
    default=MADE if (MADE / "index.html").is_file() else None,
    help="a folder that becomes the site's play/",
)
arguments = parser.parse_args()
try:
    build(arguments.out, arguments.play)
except ValueError as error:
    raise SystemExit(f"site: {error}") from None
print(f"{arguments.out / 'index.html'}: open it in a browser")
